"""make screenshots: the page at 1440 and 390 pixels wide, light and dark, from a freshly started app."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
PORT = 7898
SIZES = {"1440": {"width": 1440, "height": 900}, "390": {"width": 390, "height": 844}}
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
                for name, size in SIZES.items():
                    page = browser.new_page(viewport=size)
                    page.goto(f"{url}?__theme={theme}")
                    page.locator("#adapted-status .lens-status").wait_for()
                    page.wait_for_timeout(800)
                    page.screenshot(path=HERE / f"compare-{name}-{theme}.png", full_page=name == "390")
                    page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
