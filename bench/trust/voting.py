"""SIGKILL among votes. `python -m bench.trust.voting FILE NAME` votes without end, and tells what was acknowledged.

Several threads vote at once, as visitors of a page do.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from bench.trust.found import Found, Progress
from bench.trust.killing import kill_after
from compare.server.votes import VERDICTS, Vote, Votes
from lens.errors import Unavailable

VOTERS = 4  # threads
LONG = 3000  # characters of a question: a vote is more than one page of SQLite's


def ballots(name: str) -> Iterator[Vote]:
    """Votes of one voter, each with a text from which it can be told whether it is whole."""
    for i in count():
        ballot = f"{name}-{i}"
        yield Vote(ballot, text_of(ballot), "", "base", "lens", "f" * 64, "a", "b", bool(i % 2), VERDICTS[i % 4])


def text_of(ballot: str) -> str:
    return (ballot + "，") * (LONG // len(ballot))


def vote(file: Path, name: str) -> None:
    """Vote for ever; a line on stdout for every vote after it was acknowledged."""
    lock, votes = threading.Lock(), Votes(file)

    def voter(number: int) -> None:
        for one in ballots(f"{name}-{number}"):
            votes.add(one)
            with lock:
                print(one.ballot, flush=True)

    for number in range(VOTERS):
        threading.Thread(target=voter, args=(number,)).start()


def kept(file: Path) -> dict[str, Vote]:
    """By ballot. Raises Unavailable."""
    return {one.ballot: one for one in Votes(file).all()}


def kill_voting(count: int, folder: Path, found: Found, seed: int = 0) -> None:
    r, file, told, before = random.Random(seed), folder / "votes.sqlite3", set(), 0
    progress = Progress("crashes, voting", count, "kills")
    for i in range(count):
        done = kill_after(folder, r.random(), lambda said: "\n" in said, "bench.trust.voting", file, f"{i}")
        found.check(done.returncode == -9, f"voting ended by itself with {done.returncode}: {done.said[-300:]}")
        told |= set(done.said.split("\n")[:-1])  # a line that was cut told nobody
        try:
            there = kept(file)
        except Unavailable as err:
            found.check(False, f"the votes cannot be read after a kill: {err}")
            continue
        found.check(told <= set(there), f"{len(told - set(there))} of {len(told)} acknowledged votes are gone")
        found.check(len(there) > before, "the next process's votes were not kept")
        found.check(all(v.question == text_of(b) for b, v in there.items()), "a vote is not the one that was given")
        before = len(there)
        progress.at(i + 1, f"{len(told)} votes")
    found.check(Votes(file).tally().votes == before, "the tally counts other votes than are kept")
    with sqlite3.connect(file) as db:
        problem = db.execute("PRAGMA integrity_check").fetchone()[0]
    found.check(problem == "ok", f"SQLite finds the file damaged: {problem}")
    found.figures |= {"kills in voting": count, "votes acknowledged and kept": len(told)}


if __name__ == "__main__":
    vote(Path(sys.argv[1]), sys.argv[2])
