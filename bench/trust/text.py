"""Generated texts through the prompt, the page's HTML, the running page's API and the terminal.

Promised: no crash, no text that becomes structure, nothing unescaped, and the next visitor is answered.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser

from bench.trust.found import Found, Progress
from bench.trust.server import Page
from bench.trust.terminal import check_terminal, prompt_of_embedded
from bench.trust.wire import endpoint, through_wire
from lens.chat import Prompt, valid_text
from lens.errors import BadQuestion
from tests.hostile import texts

QUESTION = "哈尔滨工业大学的校训是什么？"
VISITORS = 4  # threads that ask


def structure(prompt: Prompt, question: str, instruction: str) -> str | None:
    """What is wrong with a text's ids: special tokens that are not the template's, or text that was lost."""
    special = set(prompt.special.values())
    try:
        ids = prompt.encode(question, instruction)
    except BadQuestion:
        return None
    if [i for i in ids if i in special] != [i for i in prompt.encode("问") if i in special]:
        return "became structure"
    whole = prompt.plain.decode(ids, skip_special_tokens=False)
    return None if valid_text(question) in whole and valid_text(instruction) in whole else "was changed"


def check_structure(count: int, found: Found) -> None:
    prompt, slowest, progress = prompt_of_embedded(), 0.0, Progress("text, ids", count, "texts")
    for i, (kind, text) in enumerate(texts(count)):
        began = time.process_time()
        for question, instruction in ((text, ""), ("问", text)):
            problem = structure(prompt, question, instruction)
            found.check(problem is None, f"a text of kind {kind} {problem}: {text[:40]!r}")
        slowest = max(slowest, time.process_time() - began)
        progress.at(i + 1, kind)
    found.figures |= {"texts whose ids were checked": count, "slowest pair of prompts, s": round(slowest, 3)}


class Elements(HTMLParser):
    """The set of (element, its attributes' names) of a piece of HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.add((tag, *sorted(name for name, _ in attrs)))

    def handle_comment(self, data):
        self.found.add(("comment",))

    handle_decl = unknown_decl = handle_pi = handle_comment


# What Markdown in an answer may draw; a link with its address, whose scheme markdown-it-py has looked at.
MARKDOWN = {(tag,) for tag in ("p", "strong", "em", "code", "pre", "br", "hr", "ul", "ol", "li", "blockquote", "s")} | {
    ("p", "class"), ("div", "class"), ("a", "href", "rel", "target"), ("ol", "start"), ("code", "class")}


def drawn(text: str) -> set[tuple[str, ...]]:
    """What the page would draw if question, instruction and both answers were this text."""
    from compare.engine.answers import Column
    from compare.engine.interface import BASE, Variant
    from compare.page.compare.result import draw_result
    from compare.page.shared.request import ComparisonRequest

    columns = [
        Column(v, lambda ids: text, [5, 6, 7], "stop", 0.1, [0.1, 0.2, 0.9])
        for v in (BASE, Variant("lens", "lens", 1.0))
    ]
    return Elements(draw_result(ComparisonRequest(text, text), columns, {"base": "base"})).found


def check_drawing(count: int, found: Found) -> None:
    allowed = drawn("plain") | drawn("一句中文") | drawn("plain " * 2000) | drawn("**bold**") | MARKDOWN
    progress = Progress("text, HTML", count, "texts")
    for i, (kind, text) in enumerate(texts(count, seed=1)):
        text = valid_text(text[:4000])
        if odd := drawn(text) - allowed:
            found.faults.append(f"a text of kind {kind} drew {sorted(odd)[:3]}: {text[:40]!r}")
        progress.at(i + 1, kind)
    found.figures["texts drawn as HTML"] = count


def encodable(text: str) -> bool:
    return valid_text(text) == text


def through_client(client, text: str) -> str:
    """`answered`, or the sentence that the visitor gets."""
    answer = client.predict(text, "", [1.0], 1, 0.0, 1.0, 0, api_name="/compare")
    return answer["error"]["message"] or "an error without a sentence" if "error" in answer else "answered"


class Visitors:
    """Several threads that put all texts to the page and keep what each was told."""

    def __init__(self, page: Page, all_texts: Sequence[tuple[str, str]], progress: Progress):
        self.page, self.texts, self.progress = page, all_texts, progress
        self.told: list[tuple[str, str, str]] = []
        self.lock, self.next = threading.Lock(), 0

    def visit(self) -> None:
        from gradio_client import Client

        client, number = Client(self.page.url, verbose=False), endpoint(self.page.port)
        while self.page.alive():
            with self.lock:
                at, self.next = self.next, self.next + 1
            if at >= len(self.texts):
                return
            kind, text = self.texts[at]
            try:
                said = through_client(client, text) if encodable(text) else through_wire(self.page.port, number, text)
            except Exception as err:  # noqa: BLE001 (whatever it is, it is a fault to be told)
                said = f"failed: {type(err).__name__}: {str(err)[:120]}"
            with self.lock:
                self.told.append((kind, text, said))
            self.progress.at(len(self.told), kind)

    def run(self) -> None:
        threads = [threading.Thread(target=self.visit) for _ in range(VISITORS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


EXPECTED = ("answered", "the question is empty", "the question is", "the question has")


def put(page: Page, all_texts: Sequence[tuple[str, str]], found: Found) -> None:
    """Put texts to a running page, then a plain question."""
    before = len(page.said())
    visitors = Visitors(page, all_texts, Progress("text, API", len(all_texts), "questions"))
    visitors.run()
    found.check(page.alive(), "the page is down")
    after = through_wire(page.port, endpoint(page.port), QUESTION)
    found.check(after == "answered", f"the next visitor is told: {after}")
    said = page.said()[before:]
    found.check("Traceback" not in said, f"the page's log has a traceback: {said.strip()[-200:]!r}")
    odd = [(told[:120], text) for _, text, told in visitors.told if not told.startswith(EXPECTED)]
    for told, times in Counter(told for told, _ in odd).items():
        example = next(text for said, text in odd if said == told)
        found.faults.append(f"{times} questions to the API, such as {example[:20]!r}, are told: {told}")
    found.figures |= {
        "questions to the page's API": len(visitors.told),
        "answered": sum(told == "answered" for *_, told in visitors.told),
        "refused in a sentence": sum(told.startswith(EXPECTED[1:]) for *_, told in visitors.told),
    }


def check_api(count: int, found: Found) -> None:
    with Page() as page:
        put(page, list(texts(count, seed=2)), found)


def run(count: int) -> Found:
    found = Found()
    for part in (check_structure, check_drawing, check_terminal, check_api):
        part(count, found)
    return found
