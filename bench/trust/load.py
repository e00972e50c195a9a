"""Many visitors of one page at once, half of whom cancel or vanish: nobody gets another's answer, nothing stays behind.

Through gradio_client, as scripts ask, and by connections closed in the middle. The same without a server: threads.py.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.hit_qa import held_out
from bench.trust.found import Found, Progress
from bench.trust.server import Held, Page
from bench.trust.wire import ask, endpoint, events, through_wire
from compare.questions import Question

TOKENS = 48
NEAR_TIE = 1e-3  # of the two best logits: rows of a full batch round otherwise than one alone
WARM_UP = 30.0  # seconds of the crowd itself before memory is first looked at: caches grow to the fullest batch
QUIET = 40.0  # seconds for what ended to be cleared away: the page sweeps every 30, when it is asked for something
PATIENCE = 60.0  # seconds that a visitor waits for the page itself
GROWTH = 0.05  # share of the resident set after the warm-up

Ids = list[list[int]]  # of each column


def arguments(question: Question) -> list:
    """Those of `/compare`, in order."""
    return [question.text, question.instruction, [1.0], TOKENS, 0.0, 1.0, 0]


@dataclass
class Tally:
    """What all visitors saw, kept under one lock."""

    ends: Counter = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)  # seconds to the first token
    wrong: list[tuple[Question, Ids]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, end: str, first: float | None = None) -> None:
        with self.lock:
            self.ends[end] += 1
            if first is not None:
                self.first.append(first)

    def compare(self, question: Question, found: Ids, right: Ids, first: float | None) -> None:
        self.add("finished", first)
        if found != right:
            with self.lock:
                self.wrong.append((question, found))

    def fail(self, err: object) -> None:
        with self.lock:
            self.failed.append(f"{type(err).__name__}: {str(err)[:160]}")


def together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@dataclass
class Crowd:
    """Visitors of one page, until `ends` on the monotonic clock; `alone`: what each question gets by itself."""

    page: Page
    number: int
    questions: Sequence[Question]
    alone: dict[Question, Ids]
    ends: float
    tally: Tally = field(default_factory=Tally)

    def visit(self, i: int) -> None:
        r = random.Random(i)
        try:
            client = new_client(self.page)
        except Exception as err:  # noqa: BLE001 (told as a fault)
            self.tally.fail(err)
            return
        while time.monotonic() < self.ends and self.page.alive():
            question = r.choice(self.questions)
            way = r.choice((self.finish, self.finish, self.cancel, self.vanish))
            try:
                way(client, question, r)
            except Exception as err:  # noqa: BLE001 (told as a fault, unless it says that the line is full)
                if "full" in str(err):
                    self.tally.add("told that the line is full")
                    time.sleep(1)
                else:
                    self.tally.fail(err)

    def finish(self, client, question: Question, r: random.Random) -> None:
        began, first = time.monotonic(), None
        job = client.submit(*arguments(question), api_name="/compare")
        while not job.done():
            if first is None and job.outputs():
                first = time.monotonic() - began
            time.sleep(0.03)
        job.result()
        self.tally.compare(question, ids(job.outputs()[-1]), self.alone[question], first)

    def cancel(self, client, question: Question, r: random.Random) -> None:
        job = client.submit(*arguments(question), api_name="/compare")
        time.sleep(r.random() * 3)
        job.cancel()
        self.tally.add("cancelled")

    def vanish(self, client, question: Question, r: random.Random) -> None:
        """The connection is closed in the middle of the answer, with no word."""
        began, first, left = time.monotonic(), None, r.randint(1, 12)
        for event in events(self.page.port, arguments(question), fn_index=self.number):
            if event["msg"] == "refused":
                raise RuntimeError(event["said"] if event["status"] != 503 else "the queue is full")
            if event["msg"] == "process_generating":
                first = first or time.monotonic() - began
                left -= 1
            if left <= 0 or event["msg"] == "process_completed":
                break
        self.tally.add("vanished", first)


def ids(answer: dict) -> Ids:
    return [column["token_ids"] for column in answer["columns"]]


def settle(page: Page) -> Held:
    ends = time.monotonic() + QUIET
    while time.monotonic() < ends:
        ask(page.port, "GET", "/health")  # as whoever watches a page does
        time.sleep(5)
    return page.held()


def new_client(page: Page):
    from gradio_client import Client

    return Client(page.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})


def warm_up(page: Page, questions: Sequence[Question], number: int, clients: int) -> dict[Question, Ids]:
    """What each question gets alone; then the crowd itself for a while, so that every buffer was needed once."""
    client, alone = new_client(page), {}
    for question in questions:
        job = client.submit(*arguments(question), api_name="/compare")
        job.result()
        alone[question] = ids(job.outputs()[-1])
    together(Crowd(page, number, questions, alone, time.monotonic() + WARM_UP).visit, clients)
    return alone


def judge(wrong: list[tuple[Question, Ids]], alone: dict[Question, Ids]) -> tuple[int, list[str]]:
    """(near-ties, faults) among answers that differ: a tie is where the two best logits lie within NEAR_TIE."""
    if not wrong:
        return 0, []
    from compare.engine import Engine
    from compare.settings import EMBEDDED_ADAPTER, EMBEDDED_BASE

    engine, ties, faults = Engine(EMBEDDED_BASE, EMBEDDED_ADAPTER, device="cpu"), 0, []
    for question, found in wrong:
        for variant, got, right in zip(engine.variants(), found, alone[question], strict=True):
            if got == right:
                continue
            at = next((i for i, (a, b) in enumerate(zip(got + [-1], right + [-1], strict=False)) if a != b), 0)
            prompt = engine.prompt.encode(question.text, question.instruction)
            best = engine.logits(engine.states([prompt + right[:at]], [variant])[:, -1])[0].topk(2).values
            if best[0] - best[1] < NEAR_TIE:
                ties += 1
            else:
                faults.append(f"{question.text[:20]!r} under {variant.name} is another answer from token {at} on")
    return ties, faults


def run(clients: int, seconds: float) -> Found:
    found, questions = Found(), held_out(24)
    with Page() as page:
        number = endpoint(page.port)
        alone = warm_up(page, questions, number, clients)
        before = settle(page)
        crowd = Crowd(page, number, questions, alone, time.monotonic() + seconds)
        watch = threading.Thread(target=follow, args=(crowd, seconds), daemon=True)
        watch.start()
        together(crowd.visit, clients)
        after = settle(page)
        told = through_wire(page.port, number, "问")
        found.check(told == "answered", f"the visitor after the crowd is told: {told}")
        at = page.said().find("Traceback")
        found.check(at < 0, f"the page's log has a traceback: {page.said()[at : at + 3000]}")
    tell(found, crowd.tally, alone, before, after)
    found.figures = {"clients": clients, "seconds": seconds, **found.figures}
    return found


def follow(crowd: Crowd, seconds: float) -> None:
    progress = Progress("load", seconds, "s")
    while (left := crowd.ends - time.monotonic()) > 0:
        progress.at(seconds - left, str(dict(crowd.tally.ends)))
        time.sleep(1)
    progress.at(seconds)


def tell(found: Found, tally: Tally, alone: dict[Question, Ids], before: Held, after: Held) -> None:
    ties, faults = judge(tally.wrong, alone)
    found.faults += faults + tally.failed[:5]
    grown = after.rss / before.rss - 1
    found.check(grown <= GROWTH, f"memory grew by {grown:.1%} from {before.rss / 1e6:.0f} MB")
    found.check(after.threads <= before.threads + 2, f"threads grew from {before.threads} to {after.threads}")
    found.check(after.files <= before.files + 5, f"open files grew from {before.files} to {after.files}")
    first = sorted(tally.first)
    found.check(bool(first) and tally.ends["finished"] > 0, "nobody was answered")
    found.figures |= {
        "answers finished": tally.ends["finished"],
        "cancelled": tally.ends["cancelled"],
        "vanished": tally.ends["vanished"],
        "told that the line is full": tally.ends["told that the line is full"],
        "failed": len(tally.failed),
        "wrong answers": len(faults),
        "answers that part at a near-tie": ties,
        "first token, median s": round(statistics.median(first), 2) if first else None,
        "first token, p99 s": round(first[int(len(first) * 0.99)], 2) if first else None,
        "memory after warm-up, MB": round(before.rss / 1e6),
        "memory after the load": f"{grown:+.1%}",
        "threads before and after": f"{before.threads}, {after.threads}",
        "open files before and after": f"{before.files}, {after.files}",
    }
