"""Measure how fast a page writes in headless Chromium on one core: python benchmarks/page.py run=outputs/…

Writes the page of the run, opens it, and presses the button that writes. Prints two figures of several rounds: the
characters per second of CPU time of all processes of the browser, which other programs hardly change; and those per
second by the clock, which the page itself shows. Linux; needs chromium and chromedriver.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROUNDS = 5
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


def main() -> None:
    page = Path(tempfile.mkdtemp()) / "page.html"
    subprocess.run([sys.executable, "-m", "microgpt", "page", f"out={page}", *sys.argv[1:]], check=True)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the browser inherits it: one core
    profile = tempfile.mkdtemp()
    browser = open_browser(profile)
    try:
        browser.get(page.as_uri())
        wait(browser)  # a page writes when it is opened
        rounds = [measure(browser, profile) for _ in range(ROUNDS)]
    finally:
        browser.quit()
    for what, speeds in zip(("CPU time", "the clock"), zip(*rounds, strict=True), strict=True):
        low, high = min(speeds), max(speeds)
        print(f"{statistics.median(speeds):,.0f} characters per second of {what} ({low:,.0f} to {high:,.0f})")


def open_browser(profile: str) -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver") or ""))


def measure(browser: Any, profile: str) -> tuple[float, float]:
    """Characters per second of CPU time, and by the clock."""
    before = cpu_seconds(profile)
    browser.execute_script("document.getElementById('write').click()")
    wait(browser)
    n, speed = re.findall(r"[\d,]+(?= characters|(?: per second))", browser.find_element("id", "speed").text)
    return float(n.replace(",", "")) / (cpu_seconds(profile) - before), float(speed.replace(",", ""))


def wait(browser: Any) -> None:
    while not browser.execute_script("return document.getElementById('stop').disabled"):
        time.sleep(0.2)


def cpu_seconds(profile: str) -> float:
    """The CPU time of all processes of the browser, which name the profile or are children of one that does."""
    ticks = {}  # by process: (its parent, its time in ticks)
    own = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks[int(folder.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
            if profile in (folder / "cmdline").read_text():
                own.add(int(folder.name))
    while more := {pid for pid, (parent, _) in ticks.items() if parent in own} - own:
        own |= more
    return sum(ticks[pid][1] for pid in own) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
