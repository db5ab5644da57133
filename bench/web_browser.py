"""The browser's side of `./run bench web`: what a first visitor loads, and how soon grids, graphs and logs are there.

Chromium without a window draws in software, on the cores that also serve: times are from the beginning of the
navigation to the frame that shows what was asked for.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from harness.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from web_reads import Server

#: What is measured, and the most that it may be.
LIMITS = {
    "an empty page's first paint, ms": None, "an empty page in a frame, ms": None,
    "first page, KB": 150, "first paint, ms": 300, "grid 900 x 25, ms": 300, "graph of 1,000, ms": 500,
    "log of 1,000,000 lines, ms": 300, "a new line, ms": None, "search of all lines, ms": None,
    "frames a second": None, "slowest frame of 20, ms": None,
}  # fmt: skip
#: Fewer frames than this a second are told.
FRAMES = 60
TIMES = 3

#: The moment of the first frame in which something is there, in milliseconds since the navigation began.
_WHEN = """(shows) => new Promise((done) => {
  const there = new Function("return " + shows);
  const look = () => (there() ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look));
  look();
})"""
#: Waits for it without a text that is made a script, which pages' policy refuses.
_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  const first = list.getEntriesByName("first-paint")[0];
  if (first) done(first.startTime);
}).observe({ type: "paint", buffered: true }))"""
#: Frame times while the grid is scrolled, 40 points a frame.
_SCROLL = """() => new Promise((done) => {
  const view = document.querySelector("run-grid .grid-view"), times = [];
  let last = 0;
  const step = (now) => {
    if (last) times.push(now - last);
    last = now;
    view.scrollTop += 40;
    if (times.length < 180) requestAnimationFrame(step); else done(times);
  };
  requestAnimationFrame(step);
})"""


def shown(server: Server, names: dict[str, str]) -> tuple[Any, list[str]]:
    """All of it, and what missed its limit."""
    found: dict[str, list[float]] = {name: [] for name in LIMITS}
    url = f"http://{server.host}:{server.port}"
    log = names["log"]
    with chromium() as browser:
        for _ in range(TIMES + 1):
            _painted(browser, f"{url}/health", found["an empty page's first paint, ms"])
            _first_page(browser, url, found)
            _visit(browser, f"{url}/health", found["an empty page in a frame, ms"], "true")
            grid = "parseFloat(document.querySelector('run-grid .grid-view > div')?.style.height) > 10000"
            _visit(
                browser, f"{url}/pipelines/wide", found["grid 900 x 25, ms"], grid, lambda page: _scroll(page, found)
            )
            graph = "document.querySelectorAll('task-graph .node').length > 0"
            _visit(browser, f"{url}/pipelines/large", found["graph of 1,000, ms"], graph)
            lines = "document.querySelectorAll('task-log .line').length > 10"
            address = f"{url}/pipelines/p150?run={names['run']}&task=load"
            _visit(browser, address, found["log of 1,000,000 lines, ms"], lines, lambda page: _follow(page, log, found))
    told, missed = {}, []
    for name, most in LIMITS.items():
        times = found[name][1:]  # the first round has loaded what the server loads once
        median = statistics.median(times)
        told[name] = {"median": median, "fastest": min(times), "slowest": max(times)}
        said = "" if most is None or median <= most else f"OVER {most}"
        print(f"{name:<32} {min(times):>8.1f} {median:>8.1f} {max(times):>8.1f}  {said}")
        if said:
            missed.append(f"{name}: {median:.0f}, wanted {most}")
    if told["frames a second"]["median"] < FRAMES * 0.98:
        missed.append(f"frames a second: {told['frames a second']['median']:.0f}, wanted {FRAMES}")
    return told, missed


def _first_page(browser: Browser, url: str, found: dict[str, list[float]]) -> None:
    """A visitor who has nothing in the cache: all bytes of the connection's answers, and the first paint."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    told = context.new_cdp_session(page)
    told.send("Network.enable")
    sizes: list[float] = []
    told.on("Network.loadingFinished", lambda said: sizes.append(said["encodedDataLength"]))
    page.goto(f"{url}/", wait_until="load")
    page.wait_for_timeout(300)  # what modules load late is loaded
    found["first paint, ms"].append(page.evaluate(_PAINT))
    found["first page, KB"].append(sum(sizes) / 1000)
    context.close()


def _painted(browser: Browser, address: str, times: list[float]) -> None:
    """What the browser itself takes: a line of text, without style or script."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.goto(address)
    times.append(page.evaluate(_PAINT))
    context.close()


def _visit(
    browser: Browser, address: str, times: list[float], shows: str, then: Callable[[Page], None] | None = None
) -> None:
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.goto(address, wait_until="commit")
    times.append(page.evaluate(_WHEN, shows))
    if then is not None:
        then(page)
    context.close()


def _scroll(page: Page, found: dict[str, list[float]]) -> None:
    page.wait_for_timeout(500)
    times = page.evaluate(_SCROLL)
    found["frames a second"].append(1000 / statistics.mean(times))
    found["slowest frame of 20, ms"].append(sorted(times)[-len(times) // 20])


def _follow(page: Page, log: str, found: dict[str, list[float]]) -> None:
    """A line that is written now is seen; and lines are found in the whole log."""
    said = f"new at {time.time()}"
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f'{{"at": "2026-01-02T00:00:00+00:00", "level": "INFO", "source": "stdout", "text": "{said}"}}\n')
    began = time.perf_counter()
    page.get_by_text(said).wait_for()
    found["a new line, ms"].append((time.perf_counter() - began) * 1000)
    page.get_by_label("Search the log").fill("row 777777 ")
    began = time.perf_counter()
    page.get_by_text("1 line found in the whole log").wait_for()
    found["search of all lines, ms"].append((time.perf_counter() - began) * 1000)
