"""Debian's Chromium for tests, driven by Playwright; and axe, which finds what screen readers stumble over."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

AXE = "4.11.0"
_CACHE = Path.home() / ".cache" / "tidemill-tests"


class CannotStart(Exception):
    """Why there is no browser."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Raises CannotStart."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise CannotStart("there is no chromium on PATH: apt-get install chromium")
    # At each call Playwright looks at the whole stack, and `inspect` at all modules for frames that have no file, which
    # are those of pytest-xdist: 5 ms with 2,000 modules, 30 with 7,000. Here it is told that they are of none.
    inspect.modulesbyfile.setdefault("<string>", "")
    with sync_playwright() as playwright:
        # Root may not use Chromium's sandbox; the pages are ours.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


def axe_script() -> Path:
    """The file of axe-core, fetched from npm once for each user. Raises CannotStart."""
    found = _CACHE / f"axe-{AXE}.min.js"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "axe.lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            try:
                subprocess.run(["npm", "pack", f"axe-core@{AXE}"], cwd=folder, check=True, capture_output=True)
                (packed,) = Path(folder).glob("*.tgz")
                shutil.unpack_archive(packed, folder)
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                raise CannotStart(f"npm cannot fetch axe-core {AXE}: {error}") from None
            shutil.copyfile(Path(folder, "package", "axe.min.js"), found.with_suffix(".new"))
            found.with_suffix(".new").rename(found)
    return found


def violations(page: Page) -> list[str]:
    """What axe finds on a page, one line each."""
    page.evaluate(axe_script().read_text("utf-8"))  # not as an element: the policy of pages refuses that
    found: dict[str, Any] = json.loads(page.evaluate("axe.run().then((found) => JSON.stringify(found))"))
    return [
        f"{one['id']}: {one['help']}: {'; '.join(' '.join(map(str, node['target'])) for node in one['nodes'][:4])}"
        for one in found["violations"]
    ]
