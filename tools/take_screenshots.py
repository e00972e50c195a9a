"""make screenshots: every tab at 1440 and 390 pixels wide, light and dark, and a question streaming as a GIF.

    python tools/take_screenshots.py [--only gif|tabs] [--lang en] [--tabs compare changed]
    python tools/take_screenshots.py --pair gemma3 --base models/gemma3 [--adapter DIR]

From a freshly started app; the GIF has the speed of the machine that took it. In English, or of another pair, the files
are named after it, and there is no GIF.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Locator, Page, TimeoutError, ViewportSize, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "assets" / "screenshots"
sys.path.insert(0, str(ROOT))
from bench.shared.served import served  # noqa: E402 (this file is run by its path)
from compare.page.frame.words import labels  # noqa: E402
from compare.page.page import TABS  # noqa: E402

SIZES: dict[str, ViewportSize] = {"1440": {"width": 1440, "height": 900}, "390": {"width": 390, "height": 844}}
NAMES = {"compare": "并排比较"} | {tab.__name__.split(".")[-2]: label for tab, label in TABS.items()}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BEFORE, QUESTION, LENGTH = "哈尔滨工业大学的校训是什么？", "哈工大有多少杰出人才", 256  # tokens; all in the GIF
FILM: ViewportSize = {"width": 1000, "height": 700}  # pixels of the GIF
COLOURS, LAST, SHORTEST = 96, 3.0, 0.04  # of its palette; seconds that its last picture stays, and any


def tab_of(page: Page, label: str) -> Locator:
    """The tab's button, in view: where the width does not hold it, from the menu that Gradio puts it in."""
    tab = page.get_by_role("tab", name=label, exact=True)
    if tab.count():
        return tab
    page.locator(".overflow-menu > button").click()
    return page.locator(".overflow-dropdown button", has_text=label)


def look_through(page: Page) -> None:
    """Scroll to the end and back: what answers when it is first seen begins to."""
    height, seen = page.evaluate("document.body.scrollHeight"), page.evaluate("innerHeight")
    for top in [*range(0, height, seen), 0]:
        page.evaluate(f"scrollTo(0, {top})")
        page.wait_for_timeout(120)


@dataclass(frozen=True)
class Pictures:
    """Of which tabs, in which language ("zh" or "en"), of which pair (its name; "" for the embedded one)."""

    tabs: list[str]
    lang: str
    pair: str = ""

    def said(self, chinese: str) -> str:
        return labels()[chinese] if self.lang == "en" else chinese

    def path(self, tab: str, width: str, theme: str) -> Path:
        parts = (self.pair, tab, "en" if self.lang == "en" and not self.pair else "", width, theme)
        return HERE / f"{'-'.join(filter(None, parts))}.png"

    def take(self, page: Page, url: str, theme: str, width: str) -> None:
        """One picture a tab; phones and long tabs as a whole, Compare as it opens."""
        page.goto(f"{url}?__theme={theme}&lang={self.lang}")
        page.locator("#adapted-status").or_(page.locator("#base-status")).first.wait_for()
        page.add_style_tag(content=".look { position: static !important; }")  # a whole page has no edge to stick to
        for tab in self.tabs:
            tab_of(page, self.said(NAMES[tab])).click()
            page.mouse.move(0, 0)
            look_through(page)
            if tab == "training":
                page.get_by_text("行可用").or_(page.get_by_text(re.compile(r"[\d,]+ rows"))).first.wait_for()
            with contextlib.suppress(TimeoutError):  # a tab may say so for other reasons
                page.wait_for_function("!/正在写|writing/.test(document.body.innerText)", timeout=15_000)
            page.wait_for_timeout(1500)
            taken = page.screenshot(full_page=width == "390" or tab != "compare")
            save(taken, self.path(tab, width, theme))


def save(png: bytes, path: Path) -> None:
    """The picture in 256 colours of its own, a third as large, which no eye tells from the one that was taken."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT,
                                                        dither=Image.Dither.NONE).save(path, optimize=True)


@dataclass
class Screencast:
    """What Chromium paints, as it paints it: (seconds, PNG) of every picture since the first."""

    page: Page
    shots: list[tuple[float, bytes]] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)

    def begin(self) -> None:
        self.wire = self.page.context.new_cdp_session(self.page)
        self.wire.on("Page.screencastFrame", self.take)
        self.wire.send("Page.startScreencast", {"format": "png"})

    def take(self, event: dict) -> None:
        self.shots.append((event["metadata"]["timestamp"], base64.b64decode(event["data"])))
        self.unanswered.append(event["sessionId"])

    def go_on(self, seconds: float) -> None:
        """Let the page run; Chromium paints on once it hears that a picture has come."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.page.wait_for_timeout(10)
            while self.unanswered:
                self.wire.send("Page.screencastFrameAck", {"sessionId": self.unanswered.pop()})


def recorded(page: Page) -> list[tuple[float, bytes]]:
    """A question as it is typed, asked and answered."""
    cast, box = Screencast(page), page.locator("#question textarea")
    box.fill("")
    cast.begin()
    cast.go_on(0.6)
    for letter in QUESTION:
        box.press_sequentially(letter)
        cast.go_on(0.05)
    box.press("Enter")
    cast.go_on(0.3)
    while page.locator('.lens-col[data-state="writing"]').count():
        cast.go_on(0.1)
    cast.go_on(0.5)
    return spaced(sorted(cast.shots))


def spaced(shots: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Without those that are followed too soon: browsers show a picture of under 20 ms for 100."""
    found = shots[-1:]
    for shot in reversed(shots[:-1]):
        if found[0][0] - shot[0] >= SHORTEST:
            found.insert(0, shot)
    return found


def film(page: Page, url: str) -> None:
    """streaming.gif: the question at the speed it had, its last picture held."""
    page.goto(f"{url}?__theme=light&lang=zh&q={quote(BEFORE)}&n={LENGTH}")
    page.locator("#adapted-status").wait_for()
    expect(page.locator("#result")).not_to_contain_text("启动时预先算好", timeout=60_000)  # but the link's answer
    page.locator('#base:not([data-state="writing"])').wait_for(timeout=60_000)
    page.wait_for_timeout(500)
    page.locator("#question").evaluate("e => scrollTo(0, e.getBoundingClientRect().top + scrollY - 24)")
    times, shots = zip(*recorded(page), strict=True)
    pictures = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots]
    lengths = [round(1000 * (b - a)) for a, b in zip(times, times[1:], strict=False)] + [round(1000 * LAST)]
    palette = pictures[-1].quantize(COLOURS, dither=Image.Dither.NONE)  # one for all, or the colours flicker
    first, *rest = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    first.save(HERE / "streaming.gif", save_all=True, append_images=rest, duration=lengths, loop=0, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["gif", "tabs"], help="(default: both)")
    parser.add_argument("--lang", choices=["zh", "en"], default="zh")
    parser.add_argument("--tabs", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--pair", default="", help="what the files of another pair are named after")
    parser.add_argument("--base", help="of that pair")
    parser.add_argument("--adapter", help="of that pair, if it has one")
    args = parser.parse_args()
    if bool(args.pair) != bool(args.base):
        parser.error("--pair and --base go together")
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("Chromium is missing")
    pictures = Pictures(args.tabs, args.lang, args.pair)
    options = [*(("--base", args.base) if args.base else ()), *(("--adapter", args.adapter) if args.adapter else ())]
    with served(None, *options) as app, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        for theme in ("light", "dark") if args.only != "gif" else ():
            for width, size in SIZES.items():
                page = browser.new_page(viewport=size)
                pictures.take(page, app.url, theme, width)
                page.close()
        if args.only != "tabs" and pictures == Pictures(list(NAMES), "zh"):
            film(browser.new_page(viewport=FILM), app.url)
        browser.close()


if __name__ == "__main__":
    main()
