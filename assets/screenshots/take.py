"""make screenshots: every tab at 1440 and 390 pixels wide, light and dark, from a freshly started app."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import TimeoutError, sync_playwright

HERE = Path(__file__).resolve().parent
PORT = 7898
SIZES = {"1440": {"width": 1440, "height": 900}, "390": {"width": 390, "height": 844}}
TABS = {"compare": "并排比较", "changed": "改变了什么", "timeline": "时间线", "reported": "报告", "blind": "盲测",
        "howto": "原理"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def wait_for(url: str, server: subprocess.Popen) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if server.poll() is not None:
                sys.exit("app.py ended before the page was up")
            time.sleep(0.5)
    sys.exit("the page was not up after two minutes")


def take(page, url: str, theme: str, width: str) -> None:
    """One picture a tab that this build has; phones and long tabs as a whole, Compare as it opens."""
    page.goto(f"{url}?__theme={theme}&lang=zh")
    page.locator("#adapted-status").wait_for()
    for name, label in TABS.items():
        tab = page.get_by_role("tab", name=label)
        if not tab.count():
            continue
        tab.click()
        page.mouse.move(0, 0)
        with contextlib.suppress(TimeoutError):  # a tab may say so for other reasons
            page.wait_for_function("!document.body.innerText.includes('正在写')", timeout=15_000)
        page.wait_for_timeout(1500)
        page.screenshot(path=HERE / f"{name}-{width}-{theme}.png", full_page=width == "390" or name != "compare")


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("Chromium is missing")
    server = subprocess.Popen([sys.executable, "app.py", "--port", str(PORT)], cwd=HERE.parent.parent,
                              stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{PORT}/"
    try:
        wait_for(url, server)
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
            for theme in ("light", "dark"):
                for width, size in SIZES.items():
                    page = browser.new_page(viewport=size)
                    take(page, url, theme, width)
                    page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
