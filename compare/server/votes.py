"""Blind votes: which of two unnamed answers was better, kept in SQLite. Standard library only.

Holds the question, both answers and the verdict; no name, no address, nothing about the voter. The file is in WAL
mode, so that readers and writers do not wait for each other; a vote is in the file, and on the disk, when `add`
returns.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from lens.data_home import data_home
from lens.errors import BadSetting, Unavailable, first_line

VERDICTS = ("better", "worse", "both", "neither")  # of the adapted answer, against the base's
PATIENCE = 30.0  # seconds to wait for another writer
Z = 1.959963984540054  # of a 95% interval
FORMULA = tuple("=+-@＝＋－＠\t\r\n")  # what makes a spreadsheet take a cell for a formula
SPACE_DATA = Path("/data")  # what a Space keeps between restarts
SCHEMA = """CREATE TABLE IF NOT EXISTS votes (
 ballot TEXT PRIMARY KEY, at TEXT NOT NULL, question TEXT NOT NULL, instruction TEXT NOT NULL, base TEXT NOT NULL,
 adapter TEXT NOT NULL, adapter_sha256 TEXT NOT NULL, base_text TEXT NOT NULL, adapted_text TEXT NOT NULL,
 adapted_left INTEGER NOT NULL CHECK (adapted_left IN (0, 1)),
 verdict TEXT NOT NULL CHECK (verdict IN ('better', 'worse', 'both', 'neither')))"""


@dataclass(frozen=True)
class Vote:
    """One verdict on one ballot. `ballot`: a random id, of which the first vote counts; `at`: UTC, to the second."""

    ballot: str
    question: str
    instruction: str
    base: str
    adapter: str
    adapter_sha256: str
    base_text: str
    adapted_text: str
    adapted_left: bool
    verdict: str
    at: str = ""


NAMES = tuple(f.name for f in fields(Vote))


@dataclass(frozen=True)
class Interval:
    """A share with its 95% interval, all 0 to 1."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Interval | None:
    """The share of successes and Wilson's 95% score interval; None where n is 0.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927).
    """
    if n == 0:
        return None
    share, square = successes / n, Z * Z / n
    middle, half = share + square / 2, Z * math.sqrt(share * (1 - share) / n + square / n / 4)
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return Interval(share, 0.0 if successes == 0 else low, 1.0 if successes == n else high)


@dataclass(frozen=True)
class Tally:
    """How many votes of each verdict."""

    better: int = 0
    worse: int = 0
    both: int = 0
    neither: int = 0

    @property
    def votes(self) -> int:
        return self.better + self.worse + self.both + self.neither

    @property
    def preferred(self) -> Interval | None:
        """How often adapted won, of the votes that chose a side; ties are counted apart."""
        return wilson(self.better, self.better + self.worse)


def votes_path(environ: Mapping[str, str] = os.environ) -> Path:
    """`LENS_VOTES`, else `/data` where it can be written, else the user's own data directory."""
    if named := environ.get("LENS_VOTES"):
        return Path(named).expanduser()
    if SPACE_DATA.is_dir() and os.access(SPACE_DATA, os.W_OK):
        return SPACE_DATA / "lora-lens" / "votes.sqlite3"
    return data_home(environ) / "votes.sqlite3"


class Votes:
    """The votes in one file, made at first need. Safe with many threads and processes."""

    def __init__(self, path: Path | None = None):
        self.path = path or votes_path()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each use: none is shared by threads, none outlives a fork.

        Raises Unavailable.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            try:
                db.execute("PRAGMA synchronous=FULL")  # committed means on the disk, in WAL mode too
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    self.prepare(db)
                yield db
            finally:
                db.close()
        except (sqlite3.Error, OSError) as err:
            raise Unavailable("votes-unavailable", path=self.path, reason=first_line(err)) from err

    @staticmethod
    def prepare(db: sqlite3.Connection) -> None:
        """WAL mode and the table, whoever comes first; then nobody needs to again."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as err:  # of two who change the mode at once, SQLite lets neither wait
                if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        db.execute("BEGIN IMMEDIATE")
        db.execute(SCHEMA)
        db.execute("PRAGMA user_version=1")
        db.execute("COMMIT")

    def add(self, vote: Vote) -> bool:
        """Keep a vote; False where its ballot was voted on before. Returns after the commit.

        Raises Unavailable, and BadSetting for a verdict that is none.
        """
        if vote.verdict not in VERDICTS:
            raise BadSetting("vote-verdict", value=repr(vote.verdict)[:40], allowed=", ".join(VERDICTS))
        values = {**asdict(vote), "at": vote.at or datetime.now(UTC).isoformat(timespec="seconds")}
        with self.connection() as db:
            cursor = db.execute(f"INSERT INTO votes ({', '.join(NAMES)}) VALUES ({', '.join(':' + n for n in NAMES)}) "
                                "ON CONFLICT (ballot) DO NOTHING", values)  # a statement of its own commits itself
            return cursor.rowcount == 1

    def tally(self) -> Tally:
        """Raises Unavailable."""
        with self.connection() as db:
            return Tally(**dict(db.execute("SELECT verdict, count(*) FROM votes GROUP BY verdict").fetchall()))

    def all(self) -> Iterator[Vote]:
        """Every vote, oldest first. Raises Unavailable."""
        with self.connection() as db:
            for row in db.execute(f"SELECT {', '.join(NAMES)} FROM votes ORDER BY at, ballot"):
                found = dict(zip(NAMES, row, strict=True))
                yield Vote(**{**found, "adapted_left": bool(found["adapted_left"])})


def harmless(cell: str) -> str:
    """A cell that a spreadsheet shows and does not compute: one that begins a formula gets an apostrophe.

    Source: OWASP, "CSV Injection". Blanks in front are looked through, as spreadsheets trim them.
    """
    return f"'{cell}" if cell.startswith(FORMULA) or cell.lstrip().startswith(FORMULA) else cell


def as_csv(votes: Iterator[Vote]) -> str:
    """RFC 4180 with a heading; every cell quoted and harmless."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(NAMES)
    for vote in votes:
        writer.writerow(harmless(str(value)) for value in asdict(vote).values())
    return out.getvalue()


def as_json_lines(votes: Iterator[Vote]) -> str:
    """One object a line, with the fields of `Vote`, as they were."""
    return "".join(json.dumps(asdict(vote), ensure_ascii=False) + "\n" for vote in votes)
