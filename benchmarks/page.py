"""Measure how fast a page writes in headless Chromium on one core: python benchmarks/page.py run=outputs/…

Writes the page of the run, opens it, presses the button that writes, and prints the characters per second that the page
itself shows, of several rounds. Linux; needs chromium and chromedriver.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 5
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


def main() -> None:
    page = Path(tempfile.mkdtemp()) / "page.html"
    subprocess.run([sys.executable, "-m", "microgpt", "page", f"out={page}", *sys.argv[1:]], check=True)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the browser inherits it: one core
    browser = open_browser()
    try:
        browser.get(page.as_uri())
        speeds = [characters_per_second(browser) for _ in range(ROUNDS)]
    finally:
        browser.quit()
    print(f"{statistics.median(speeds):,.0f} characters per second ({min(speeds):,.0f} to {max(speeds):,.0f})")


def open_browser() -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tempfile.mkdtemp()}"]:
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver") or ""))


def characters_per_second(browser: Any) -> float:
    browser.execute_script("document.getElementById('write').click()")
    while not browser.execute_script("return document.getElementById('stop').disabled"):
        time.sleep(0.2)
    text = browser.find_element("id", "speed").text
    return float(text.partition(": ")[2].split()[0].replace(",", ""))


if __name__ == "__main__":
    main()
