"""Makes the pictures of the pages in `docs/images`: the demo, run as users run it, in Debian's Chromium.

    ./run screenshots

It takes two minutes, and needs `chromium`. Pictures are JPEG, some 60 KB each.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
#: Name of the picture -> page, whether in dark.
PAGES = {
    "home": ("/", False),
    "pipeline": ("/pipelines/flights?run={failed}", False),
    "pipeline-dark": ("/pipelines/flights?run={failed}", True),
    "runs": ("/runs?pipeline=flights", False),
    "lineage": ("/lineage", False),
    "table": ("/data/flights.delay_by_carrier", False),
    "batch": ("/batches/3", False),
    "branch": ("/branches/{branch}", False),
    "stream-dark": ("/streams/live.delay_per_airport_hour", True),
    "quality": ("/quality", False),
}
#: Seconds in which the demo must be there, and for which its stream is fed before a picture is made.
_WAIT, _FLOWS = 240, 15


def main() -> int:
    """Make them all; returns the exit code."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        print("There is no chromium on PATH: apt-get install chromium", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="tidemill-screenshots-") as folder:
        log = (Path(folder) / "demo.log").open("w+")
        command = [sys.executable, "-m", "tidemill.cli", "demo", "--serve", "--no-open", f"{folder}/tidemill-demo"]
        env = {**os.environ, "TIDEMILL_WEB_PORT": "0", "PYTHONUNBUFFERED": "1"}
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=env)
        try:
            address = _address(Path(log.name))
            time.sleep(_FLOWS)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
                _look(browser, address)
                browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(_WAIT)
            log.close()
    return 0


def _address(log: Path) -> str:
    """Where the pages are, as the demo says it at its end."""
    until = time.monotonic() + _WAIT
    while time.monotonic() < until:
        found = re.search(r"serving +(http://[^/\s]+)/", log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise SystemExit(f"The demo has not ended:\n{log.read_text()}")


def _look(browser: Browser, address: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    asking = browser.new_context().request
    (failed, *_) = asking.get(f"{address}/api/v1/runs?state=failed&pipeline=flights").json()["runs"]
    for name, (path, dark) in PAGES.items():
        context = browser.new_context(
            viewport={"width": 1360, "height": 850}, color_scheme="dark" if dark else "light", timezone_id="UTC"
        )
        page = context.new_page()
        page.goto(address + path.format(failed=failed["run_id"], branch=failed["branch"]))
        page.wait_for_selector("h1")
        page.wait_for_timeout(1500)  # what scripts draw is there, and nothing says when
        page.screenshot(path=IMAGES / f"{name}.jpg", type="jpeg", quality=62)
        context.close()
        print(IMAGES / f"{name}.jpg")


if __name__ == "__main__":
    sys.exit(main())
