"""Hostile texts in the real page in headless Chromium: nothing runs, and nothing is drawn that a plain text would not.

The page is ours whole, over an engine whose every answer is the question, so that each text stands in all places where
texts stand. `text` asks the same of many more by an HTML parser; this asks the browser.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from bench.shared.served import CHROMIUM, free_port
from bench.trust.found import Found, Progress
from bench.trust.text import MARKDOWN
from lens.chat import valid_text
from tests.hostile import texts

LONGEST = 4000  # characters of a text; what is longer is cut
WAIT = 60_000  # ms
MOST = 345  # texts: 15 of each kind
# What is in the result and its columns, and what could have been added anywhere: (element, its attributes).
DRAWN = """() => {
  const told = (e) => [e.localName, ...[...e.getAttributeNames()].sort()].join(" ");
  const result = [...document.querySelectorAll(".lens-verdict, .lens-columns, .lens-under")];
  return { inside: [...new Set(result.flatMap((r) => [r, ...r.querySelectorAll("*")].map(told)))],
           anywhere: ["script", "iframe", "object", "embed", "base", "form", "link", "img", "[onerror]", "[onload]"]
             .map((s) => `${s} ${document.querySelectorAll(s).length}`),
           ran: "owned" in window, title: document.title };
}"""


def echo(engine: Any) -> Any:
    """A copy of the engine whose every answer is what was asked."""
    from compare.engine.interface import Asked, Ended, EngineEvent, Grown, Step

    copied, asked = copy.copy(engine), [""]

    def ask(questions, variants=None, sampling=None, cancelled=None) -> Iterator[EngineEvent]:
        asked[0], variants = questions[0].text, variants or engine.variants()
        yield Asked(0, tuple(variants), ((1,),) * len(variants))
        yield Step(0, tuple(Grown(i, token, 0.1, reason) for i in range(len(variants))
                            for token, reason in ((5, None), (6, None), (7, "stop"))))
        yield Ended(0)

    copied.ask, copied.tokens = ask, copy.copy(engine.tokens)
    copied.tokens.decode = lambda ids: asked[0]
    return copied


def serve(engine: Any):
    """The page over the echo, as it is served; returns the `gr.Blocks`."""
    from compare.page.page import build
    from compare.server.launch import Serving

    page = build(echo(engine))
    Serving(port=free_port()).launch(page, engine, prevent_thread_lock=True, quiet=True)
    return page


class Visitor:
    """One Chromium page that asks, and what it saw besides: dialogs, errors, other hosts."""

    def __init__(self, browser, url: str):
        self.page, self.seen = browser.new_page(locale="zh-CN"), []
        self.page.on("dialog", lambda d: (self.seen.append(f"a dialog says {d.message[:40]!r}"), d.dismiss()))
        self.page.on("pageerror", lambda e: self.seen.append(f"a script failed: {str(e)[:120]}"))
        self.page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:", url.replace("http", "ws")))
                     else self.seen.append(f"asked {r.url[:80]}"))
        self.page.goto(url)
        self.page.locator("#question textarea").wait_for(timeout=WAIT)

    def ask(self, number: int, text: str) -> dict:
        """Ask, as question and instruction, and wait until the answer that begins with this number is drawn."""
        self.page.locator("#question textarea").fill(f"{number}: {text}")
        self.page.locator("#question textarea").press("Enter")
        self.page.wait_for_function("(n) => document.querySelector('#base .lens-answer')?.dataset.text?.startsWith(n)",
                                    arg=f"{number}: ", timeout=WAIT)
        return self.page.evaluate(DRAWN)


def look(browser, engine: Any, count: int, found: Found) -> None:
    """Put `count` texts to a page of its own, one after another."""
    blocks = serve(engine)
    visitor = Visitor(browser, blocks.local_url)
    try:
        tame = ("a", "a " * 1500, "a\nb", "https://example.org/ 1.5", "**b**", "一句中文")
        plain = [visitor.ask(i, text) for i, text in enumerate(tame)]
        allowed, before = {e for one in plain for e in one["inside"]} | {" ".join(e) for e in MARKDOWN}, plain[-1]
        progress = Progress("drawing, Chromium", count, "texts")
        for i, (kind, text) in enumerate(texts(count, seed=4)):
            shown = visitor.ask(100 + i, valid_text(text[:LONGEST]))
            odd = sorted(set(shown["inside"]) - allowed)
            found.check(not odd, f"a text of kind {kind} drew {odd[:3]}: {text[:40]!r}")
            found.check(not shown["ran"], f"a text of kind {kind} ran as a script: {text[:40]!r}")
            for what in ("anywhere", "title"):
                found.check(shown[what] == before[what], f"a text of kind {kind} changed {what}: {text[:40]!r}")
            progress.at(i + 1, kind)
        for told in visitor.seen[:5]:
            found.check(False, told)
        found.figures |= {"texts drawn in Chromium": count, "elements that a plain text draws": len(allowed)}
    finally:
        visitor.page.close()
        blocks.close()


def run(count: int) -> Found:
    from playwright.sync_api import sync_playwright

    from compare.engine.local import LocalEngine
    from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

    found = Found()
    if CHROMIUM is None:
        found.check(False, "Chromium is missing, so nothing was drawn")
        return found
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        look(browser, LocalEngine(EMBEDDED_BASE, EMBEDDED_ADAPTER, device="cpu"), min(count, MOST), found)
        browser.close()
    return found
