"""Blind votes: Wilson's interval by hand, many writers at once, a vote outlives its process, harmless exports."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.server import votes
from compare.server.votes import Tally, Vote, Votes, as_csv, as_json_lines, votes_path, wilson
from lens.errors import Unavailable

ROOT = Path(__file__).resolve().parent.parent
WHEN = "2026-01-01T00:00:00+00:00"
VOTE = Vote("b1", "校训是什么？", "", "base", "lens", "f" * 64, "高校高校", "规格严格，功夫到家", True, "better", WHEN)
WRITER = """
import sys
from compare.server.votes import Vote, Votes
for i in range(20):
    Votes().add(Vote(f"{sys.argv[1]}-{i}", "q", "", "base", "lens", "", "a", "b", True, "better" if i % 2 else "worse"))
"""


@pytest.fixture
def store(tmp_path) -> Votes:
    return Votes(tmp_path / "deep" / "votes.sqlite3")


def test_a_vote_comes_back_as_it_was(store):
    assert store.add(VOTE)
    assert list(store.all()) == [VOTE]
    assert store.tally() == Tally(better=1)


def test_a_ballot_counts_once(store):
    store.add(VOTE)
    assert not store.add(replace(VOTE, verdict="worse"))
    assert store.tally() == Tally(better=1)


def test_a_verdict_that_is_none_is_refused(store):
    with pytest.raises(ValueError, match="best"):
        store.add(replace(VOTE, verdict="best"))
    assert store.tally().votes == 0


def test_the_time_is_kept_to_the_second_and_nothing_of_the_voter(store):
    store.add(replace(VOTE, at=""))
    [kept] = store.all()
    assert len(kept.at) == len(WHEN)
    assert set(asdict(kept)) == {"ballot", "at", "question", "instruction", "base", "adapter", "adapter_sha256",
                                 "base_text", "adapted_text", "adapted_left", "verdict"}


def test_eight_processes_write_at_once_and_nothing_is_lost(tmp_path):
    path = tmp_path / "votes.sqlite3"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(n)], cwd=ROOT, env={"LENS_VOTES": str(path)},
                                stderr=subprocess.PIPE) for n in range(8)]
    said = [writer.communicate(timeout=100)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8, said
    assert Votes(path).tally() == Tally(better=80, worse=80)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_twelve_who_make_the_file_at_once_all_keep_their_vote(tmp_path):
    def first_vote(path: Path, number: int, all_here: threading.Barrier) -> bool:
        all_here.wait(30)
        return Votes(path).add(replace(VOTE, ballot=str(number)))

    with ThreadPoolExecutor(12) as pool:
        for attempt in range(12):
            path, all_here = tmp_path / str(attempt) / "votes.sqlite3", threading.Barrier(12)
            assert all([f.result() for f in [pool.submit(first_vote, path, n, all_here) for n in range(12)]])
            assert Votes(path).tally() == Tally(better=12)


def test_an_acknowledged_vote_is_seen_by_others_at_once(store):
    store.add(VOTE)
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT count(*) FROM votes").fetchone() == (1,)


def test_a_vote_waits_for_a_writer_and_is_not_acknowledged_before_the_commit(store, monkeypatch):
    monkeypatch.setattr(votes, "PATIENCE", 0.2)
    store.add(VOTE)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="LENS_VOTES"):
        store.add(replace(VOTE, ballot="b2"))
    assert store.tally().votes == 1  # readers do not wait
    other.execute("COMMIT")
    other.close()
    assert store.add(replace(VOTE, ballot="b2"))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(Unavailable, match="LENS_VOTES"):
        Votes(file / "votes.sqlite3").tally()


def test_where_the_votes_go(tmp_path, monkeypatch):
    monkeypatch.setattr(votes, "SPACE_DATA", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", "linux")
    assert votes_path({"LENS_VOTES": "/x/v.db", "HOME": "/home/a"}) == Path("/x/v.db")
    assert votes_path({"HOME": "/home/a"}) == Path("/home/a/.local/share/lora-lens/votes.sqlite3")
    assert votes_path({"HOME": "/home/a", "XDG_DATA_HOME": "/d"}) == Path("/d/lora-lens/votes.sqlite3")
    monkeypatch.setattr(votes, "SPACE_DATA", tmp_path)
    assert votes_path({"HOME": "/home/a"}) == tmp_path / "lora-lens" / "votes.sqlite3"
    assert ROOT not in votes_path({"HOME": "/home/a"}).parents


def test_wilson_by_hand():
    # 7 of 10: the score interval of Wilson (1927), as in Newcombe (1998): 0.397 to 0.892.
    found = wilson(7, 10)
    assert (round(found.value, 3), round(found.low, 3), round(found.high, 3)) == (0.7, 0.397, 0.892)
    assert wilson(0, 0) is None and wilson(0, 5).low == 0 and wilson(5, 5).high == 1
    assert Tally(better=7, worse=3, both=90, neither=4).preferred == found


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(counts):
    successes, n = counts
    found, other = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(1 - other.high)


@pytest.mark.parametrize("attack", ["=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(A1)", "＝1+1", " =1", "\t=1", "\r=1"])
def test_no_cell_begins_a_formula(store, attack):
    store.add(replace(VOTE, question=attack, adapted_text=attack))
    rows = list(csv.DictReader(io.StringIO(as_csv(store.all()), newline="")))
    assert rows[0]["question"] == rows[0]["adapted_text"] == "'" + attack
    assert rows[0]["verdict"] == "better"


def test_json_lines_keep_the_text_as_it_was(store):
    store.add(replace(VOTE, question="=1\n\"x\"\u2028"))
    [line] = as_json_lines(store.all()).split("\n")[:-1]
    assert json.loads(line) == asdict(replace(VOTE, question="=1\n\"x\"\u2028"))


def test_needs_the_standard_library_alone():
    code = ("import sys; sys.path.insert(0, '.'); import compare.server.votes; "
            "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'gradio')))")
    assert subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT).returncode == 0
