"""A crowd at one page: nobody gets another's answer, nothing stays behind once it has gone.

Through gradio_client, as scripts ask, and by connections closed in the middle. The same without a server: threads.py.
"""

from __future__ import annotations

import statistics
import time

from bench.shared.hit_qa import held_out
from bench.trust.crowd import Crowd, Ids, Tally, apart, each_alone
from bench.trust.found import Found
from bench.trust.server import Held, Page
from bench.trust.wire import ask, endpoint, through_wire
from compare.questions import Question

NEAR_TIE = 1e-3  # of the two best logits: rows of a full batch round otherwise than one alone
WARM_UP = 45.0  # seconds of the crowd itself before memory is first looked at: caches grow to the fullest batch
QUIET = 40.0  # seconds for what ended to be cleared away: the page sweeps every 30, when it is asked for something
GROWTH = 0.05  # share of the resident set after the warm-up


def settle(page: Page) -> Held:
    ends = time.monotonic() + QUIET
    while time.monotonic() < ends:
        ask(page.port, "GET", "/health")  # as whoever watches a page does
        time.sleep(5)
    return page.held()


def judge(wrong: list[tuple[Question, Ids]], alone: dict[Question, Ids]) -> tuple[int, list[str]]:
    """(near-ties, faults) among answers that differ: a tie is where the two best logits lie within NEAR_TIE."""
    if not wrong:
        return 0, []
    from compare.engine.local import LocalEngine
    from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

    engine, ties, faults = LocalEngine(EMBEDDED_BASE, EMBEDDED_ADAPTER, device="cpu"), 0, []
    for question, found in wrong:
        for variant, got, right in zip(engine.variants(), found, alone[question], strict=True):
            if got == right:
                continue
            at = next((i for i, (a, b) in enumerate(zip(got + [-1], right + [-1], strict=False)) if a != b), 0)
            prompt = engine.tokens.prompt_ids(question.text, question.instruction)
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
        alone = apart(each_alone, page.port, questions)
        apart(Crowd(page.port, number, alone, WARM_UP).come, clients, "load, warm-up")
        before = settle(page)
        tally = apart(Crowd(page.port, number, alone, seconds).come, clients, "load")
        after = settle(page)
        told = through_wire(page.port, number, "问")
        found.check(told == "answered", f"the visitor after the crowd is told: {told}")
        at = page.said().find("Traceback")
        found.check(at < 0, f"the page's log has a traceback: {page.said()[at : at + 3000]}")
    tell(found, tally, alone, before, after)
    found.figures = {"clients": clients, "seconds": seconds, **found.figures}
    return found


def tell(found: Found, tally: Tally, alone: dict[Question, Ids], before: Held, after: Held) -> None:
    ties, faults = judge(tally.wrong, alone)
    found.faults += faults + tally.failed[:5]
    grown = after.rss / before.rss - 1
    found.check(grown <= GROWTH, f"memory grew by {grown:.1%} from {before.rss / 1e6:.0f} MB")
    found.check(after.threads <= before.threads + 2, f"threads grew from {before.threads} to {after.threads}")
    found.check(after.files <= before.files + 2, f"open files grew from {before.files} to {after.files}")
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
