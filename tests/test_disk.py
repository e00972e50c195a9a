"""A disk that is full or cannot be written: one sentence, what was acknowledged stays, the same command goes on.

/dev/full answers every write with ENOSPC, as a full disk does; a limit on file size cuts a file in the middle; where
tests may mount, as root, a file system in memory is a disk that is really full, or really read-only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ADAPTER
from test_report_run import finished, pair, report_in  # noqa: F401 (fixtures)

from compare.evaluate import main
from compare.report.results import ResultsFile
from compare.server.votes import Vote, Votes
from lens.adapter.write import save_tokenizer
from lens.errors import Unavailable
from train import merge
from train.__main__ import main as train_main
from train.checkpoint import checkpoints, fault, last_whole
from train.record.log import read_log

FULL = Path("/dev/full")
ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
VOTER = """
import resource, sys
from compare.server.votes import Vote, Votes
from lens.errors import Unavailable
votes = Votes()
def vote(i): votes.add(Vote(f"b{i}", "q" * 2000, "", "base", "lens", "", "a", "b", True, "better"))
vote(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
kept = 1
try:
    for i in range(1, 200):
        vote(i)
        kept += 1
except Unavailable as err:
    print(kept, err)
"""


def mount(place: Path, *options: str) -> None:
    """A file system in memory at `place`. Skips where this may not be done."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """`disk(megabytes)`: a disk of that size, gone after the test. `disk()`: one that cannot be written."""
    made = []

    def make(megabytes: float | None = None) -> Path:
        place = tmp_path / f"disk{len(made)}"
        if os.name != "posix" or not shutil.which("mount"):
            pytest.skip("this system has no mount")
        mount(place, "-o", f"size={int(megabytes * 1024)}k" if megabytes else "ro")
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", "-l", str(place)], check=True)


def error_of(capsys) -> str:
    """The one line on stderr that begins `error: `."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


# ---- training and merging


@pytest.fixture
def training(tiny_base, rows_file):
    """Options of a run of 6 steps with a checkpoint at each."""
    return ["--base", str(tiny_base), "--data", str(rows_file), "--max-steps", "6", "--batch", "2", "--save-steps", "1",
            "--logging-steps", "1", "--probe-steps", "0", "--device", "cpu"]


def test_training_into_a_read_only_file_system_is_one_sentence(training, disk, capsys):
    """It ended in a traceback: OSError 30 where Trainer makes its directory."""
    place = disk()
    for out in (place, place / "deep" / "out"):
        assert train_main([*training, "--output", str(out)]) == 2
        said = error_of(capsys)
        assert f"--output {out} cannot be written (Read-only file system)" in said
        assert said.endswith("; name another directory")


def test_training_where_the_system_lets_nothing_be_made_is_one_sentence(training, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in ("/proc/self/out", tmp_path / "file" / "out", tmp_path / ("a" * 300)):
        assert train_main([*training, "--output", str(out)]) == 2
        assert f"--output {out} cannot be written (" in error_of(capsys)


def test_a_run_on_a_disk_that_became_read_only_is_not_gone_on_with(training, disk, capsys):
    place = disk(40)
    assert train_main([*training, "--output", str(place / "out"), "--max-steps", "2"]) == 0
    mount(place, "-o", "remount,ro")
    capsys.readouterr()
    assert train_main([*training, "--output", str(place / "out"), "--resume"]) == 2
    assert "cannot be written (" in error_of(capsys)
    mount(place, "-o", "remount,rw")
    assert train_main([*training, "--output", str(place / "out"), "--resume"]) == 0


def test_a_training_on_a_full_disk_says_so_and_goes_on_once_there_is_room(training, disk, capsys):
    """Of two runs of the same settings the one that met a full disk has the losses of the other. It ended in a
    traceback where the tokenizer's file was what did not fit: Rust's plain Exception."""
    place = disk(3)  # room for some of the checkpoints
    out, whole = place / "out", place.parent / "whole"
    assert train_main([*training, "--output", str(out)]) == 2
    said = error_of(capsys)
    assert "No space left on device" in said and "; the last good checkpoint is " in said and "--resume" in said
    kept = checkpoints(out)
    assert 0 < len(kept) < 6 and [fault(checkpoint) for checkpoint in kept] == [None] * len(kept)
    assert str(last_whole(out)) in said and not (out / ".part").exists()
    mount(place, "-o", "remount,size=60m")
    assert train_main([*training, "--output", str(out), "--resume"]) == 0
    assert train_main([*training, "--output", str(whole)]) == 0
    first, second = ([(r["step"], r["loss"]) for r in read_log(d / "log.jsonl")] for d in (out, whole))
    assert first == second and len(first) == 6


def test_a_tokenizer_that_does_not_fit_on_the_disk_is_told_as_any_other_file(tokenizer, disk):
    with pytest.raises(OSError, match="No space left on device"):
        save_tokenizer(tokenizer, disk(0.1))


def test_a_disk_that_is_full_before_the_first_step_is_one_sentence(training, disk, capsys):
    place = disk(0.1)
    with contextlib.suppress(OSError), (place / "much").open("wb") as much:
        much.write(bytes(1_000_000))
    assert train_main([*training, "--output", str(place / "out")]) == 2
    assert "No space left on device" in error_of(capsys)


def test_merging_onto_a_disk_that_is_read_only_or_full_is_one_sentence(disk, capsys):
    for place, said in ((disk(), "Read-only file system"), (disk(1), "No space left on device")):
        assert merge.main([str(ADAPTER), "--output", str(place / "merged")]) == 2
        told = error_of(capsys)
        assert f"--output {place / 'merged'} cannot be written" in told and said in told
        assert not list(place.iterdir())


# ---- evaluating


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


def test_reporting_onto_a_read_only_file_system_is_one_sentence(pair, disk, capsys):  # noqa: F811
    place = disk()
    for out in (place, place / "report"):
        assert main([*pair, "--output", str(out)]) == 2
        assert str(place) in (said := error_of(capsys)) and "Read-only file system" in said


# ---- voting


def test_votes_on_a_full_disk_are_refused_and_what_was_acknowledged_is_there(tmp_path):
    file = tmp_path / "votes.sqlite3"
    done = subprocess.run([sys.executable, "-c", VOTER], capture_output=True, text=True, timeout=60, cwd=ROOT,
                          env={"LENS_VOTES": str(file), "PATH": ""})
    assert done.returncode == 0, done.stderr
    kept, said = done.stdout.split(" ", 1)
    assert 1 < int(kept) < 200 and "cannot be kept" in said and "LENS_VOTES" in said
    assert Votes(file).tally().better == int(kept)


def test_votes_where_nothing_can_be_written_are_refused():
    with pytest.raises(Unavailable, match="name a file that can be written in LENS_VOTES"):
        Votes(Path("/proc/self/votes.sqlite3")).tally()


def test_votes_on_a_disk_that_became_read_only_are_refused_and_go_on_once_it_is_writable(disk):
    place = disk(4)
    votes, vote = Votes(place / "votes.sqlite3"), Vote("1", "q", "", "base", "lens", "", "a", "b", True, "better")
    assert votes.add(vote)
    mount(place, "-o", "remount,ro")
    with pytest.raises(Unavailable, match="name a file that can be written in LENS_VOTES"):
        votes.add(replace(vote, ballot="2"))
    mount(place, "-o", "remount,rw")
    assert votes.add(replace(vote, ballot="2")) and votes.tally().better == 2
