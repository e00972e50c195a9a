"""How the page opens over a slow line on a slow processor: first paint, when it can be used, what it weighs.

Chromium holds back network and processor as Lighthouse's "slow 4G" does. First contentful paint is the browser's own
figure; the page can be used from the end of its last long task (over 50 ms of the main thread) before five seconds
without one (web.dev/tti; the stream that Gradio keeps open counts for nothing here).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from playwright.sync_api import Browser

LATENCY, DOWN, UP = 150, 1.6e6 / 8, 0.75e6 / 8  # ms; bytes a second
SLOWER = 4  # times, the processor
QUIET = 5000.0  # ms without a long task
PATIENCE = 180_000  # ms
# Keeps every long task of the page as [start, end], ms since the page was asked for.
WATCH_TASKS = """window.longTasks = [];
new PerformanceObserver((list) => {
  for (const { startTime, duration } of list.getEntries()) longTasks.push([startTime, startTime + duration]);
}).observe({ type: "longtask", buffered: true });"""
# The time now, once nothing has been asked for and no task has been long for QUIET ms.
SETTLED = """(quiet) => {
  const fetched = performance.getEntriesByType("resource").map((r) => r.responseEnd);
  const last = Math.max(0, ...longTasks.map(([, end]) => end), ...fetched);
  return document.readyState === "complete" && performance.now() - last > quiet;
}"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


@dataclass(frozen=True)
class Weight:
    """One file of the page: bytes over the wire, headers with them, and as it is unpacked."""

    name: str
    sent: int
    unpacked: int


@dataclass(frozen=True)
class Opening:
    """Milliseconds since the page was asked for, and what it brought along, the heaviest first."""

    painted: float
    usable: float
    longest_task: float
    files: Sequence[Weight]


def usable_from(painted: float, tasks: Sequence[Sequence[float]], quiet: float = QUIET) -> float:
    """When the page can be used: after the last long task before `quiet` ms without one, and not before it is painted.
    `tasks`: (start, end) of each, in order."""
    usable = painted
    for start, end in tasks:
        if end > usable:
            if start - usable > quiet:
                break
            usable = end
    return usable


def opening(browser: Browser, url: str, throttled: bool = True) -> Opening:
    """A fresh visitor's page. Without throttling what it weighs is the same."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
    page = context.new_page()
    wire = context.new_cdp_session(page)
    urls: dict[str, str] = {}
    sent: Counter[str] = Counter()
    unpacked: Counter[str] = Counter()
    wire.on("Network.responseReceived", lambda e: urls.update({e["requestId"]: e["response"]["url"]}))
    wire.on("Network.dataReceived", lambda e: unpacked.update({e["requestId"]: e["dataLength"]}))
    wire.on("Network.loadingFinished", lambda e: sent.update({e["requestId"]: int(e["encodedDataLength"])}))
    wire.send("Network.enable")
    if throttled:
        wire.send("Network.emulateNetworkConditions", {"offline": False, "latency": LATENCY, "downloadThroughput": DOWN,
                                                       "uploadThroughput": UP})
        wire.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.add_init_script(WATCH_TASKS)
    page.goto(url, timeout=PATIENCE)
    page.locator("#adapted-status").wait_for(timeout=PATIENCE)
    page.wait_for_function(SETTLED, arg=QUIET, timeout=PATIENCE)
    painted, tasks = page.evaluate(PAINTED), page.evaluate("longTasks")
    context.close()
    files = [Weight(name_of(urls[i]), sent[i], unpacked[i]) for i in sent if i in urls]
    return Opening(painted, usable_from(painted, tasks), max((end - start for start, end in tasks), default=0.0),
                   sorted(files, key=lambda file: -file.sent))


def name_of(url: str) -> str:
    """The path without its host and query."""
    return urlsplit(url).path
