"""A disk that is full or cannot be written: one sentence, what was acknowledged stays, the same command goes on.

/dev/full answers every write with ENOSPC, as a full disk does; a limit on file size cuts a file in the middle.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_report_run import finished, pair, report_in  # noqa: F401 (fixtures)

from compare.evaluate import main
from compare.report.results import ResultsFile
from compare.votes import Votes, VotesUnavailable

FULL = Path("/dev/full")
ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
VOTER = """
import resource, sys
from compare.votes import Vote, Votes, VotesUnavailable
votes = Votes()
def vote(i): votes.add(Vote(f"b{i}", "q" * 2000, "", "base", "lens", "", "a", "b", True, "better"))
vote(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
kept = 1
try:
    for i in range(1, 200):
        vote(i)
        kept += 1
except VotesUnavailable as err:
    print(kept, err)
"""


def test_a_full_disk_in_reporting_is_one_sentence_and_the_same_command_goes_on(pair, finished,  # noqa: F811
                                                                               tmp_path, capsys):
    part = tmp_path / "pair.png.part"  # written and never read: what is read from /dev/full has no end
    part.symlink_to(FULL)
    adapter = pair[pair.index("--adapter") + 1]
    command = [*pair, "--output", str(tmp_path), "--strength", "0.5", "--checkpoints", adapter]
    assert main(command) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ") and "No space left on device; make room or" in told
    part.unlink()
    assert main(command) == 0
    assert report_in(tmp_path) == report_in(finished)


def test_a_disk_that_fills_up_between_two_answers_keeps_those_before(pair, finished, tmp_path, capsys,  # noqa: F811
                                                                    monkeypatch):
    adapter, append, kept = pair[pair.index("--adapter") + 1], ResultsFile.append, []

    def filling(self, result):
        if len(kept) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        kept.append(result.key)
        append(self, result)

    command = [*pair, "--output", str(tmp_path), "--strength", "0.5", "--checkpoints", adapter]
    with monkeypatch.context() as full:
        full.setattr(ResultsFile, "append", filling)
        assert main(command) == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert set(ResultsFile(tmp_path).read()) == set(kept) and len(kept) == 2
    assert main(command) == 0
    assert report_in(tmp_path) == report_in(finished)


def test_a_directory_that_cannot_be_written_is_one_sentence(pair, capsys):  # noqa: F811
    assert main([*pair, "--output", "/proc/self"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ") and "/proc/self" in told and "give another --output" in told


def test_votes_on_a_full_disk_are_refused_and_what_was_acknowledged_is_there(tmp_path):
    file = tmp_path / "votes.sqlite3"
    done = subprocess.run([sys.executable, "-c", VOTER], capture_output=True, text=True, timeout=60, cwd=ROOT,
                          env={"LENS_VOTES": str(file), "PATH": ""})
    assert done.returncode == 0, done.stderr
    kept, said = done.stdout.split(" ", 1)
    assert 1 < int(kept) < 200 and "cannot be kept" in said and "LENS_VOTES" in said
    assert Votes(file).tally().better == int(kept)


def test_votes_where_nothing_can_be_written_are_refused():
    with pytest.raises(VotesUnavailable, match="name a file that can be written in LENS_VOTES"):
        Votes(Path("/proc/self/votes.sqlite3")).tally()
