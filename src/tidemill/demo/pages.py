"""The demo's end: `tidemill up` serves the pages, flights go on leaving, until Ctrl-C.

The demo becomes this program, so that the engines which it has loaded do not stay in memory: `python -m
tidemill.demo.pages FOLDER BEGAN FED [--open]`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tidemill.demo.departing import Departure, departures
from tidemill.demo.folder import LEFT_DAY, DemoFolder
from tidemill.demo.screen import Screen
from tidemill.model.errors import RunFailed
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings
from tidemill.wiring.topics import open_topics

TOPIC = "departures"
#: Event time that passes in a second: some twenty messages.
_SPEED = 1800.0
#: Seconds between two looks.
_LOOK = 0.25
#: Seconds in which the pages must be there, and in which all must have ended.
_PATIENCE, _END = 120.0, 30.0
_ADDRESS = re.compile(r"Pages at (http://[^/\s]+)/")


def can_serve() -> bool:
    """Whether the packages that serve pages are installed."""
    return find_spec("starlette") is not None and find_spec("uvicorn") is not None


def become(root: Path, began: float, fed: int, *, opens: bool) -> NoReturn:
    """Go on as this program, in the same process.

    Args:
        root: the folder.
        began: when the demo began, by the monotonic clock.
        fed: messages of the story that are in the topic.
        opens: whether a browser is to be opened.
    """
    sys.stdout.flush()
    more = ["--open"] if opens else []
    command = [sys.executable, "-m", "tidemill.demo.pages", os.fspath(root), str(began), str(fed), *more]
    os.execv(sys.executable, command)  # noqa: S606 - no shell


def serve(root: Path, began: float, fed: int, *, opens: bool) -> int:
    """Serve the pages and let flights leave until Ctrl-C or SIGTERM; returns the exit code."""
    screen, folder = Screen(), DemoFolder(root)
    screen.chapter("The pages: a run that failed and its branch, runs that were published, a stream that is fed.")
    _command(root, "-q", "pipelines", "pause", "flights")
    screen.fact("paused", "flights: its schedule would go on with the last day; resume it on its page")
    with _stopped_by_signals() as is_stopped, _Up(root) as up:
        address = up.address(is_stopped)
        if address is None:
            return 0
        screen.fact("serving", f"{address}/", f"{system_clock().monotonic() - began:.0f} s after the beginning")
        screen.fact("", f"{address}/pipelines/flights", "the run that failed, and why; its branch has what was refused")
        screen.fact("", f"{address}/streams", "the stream; flights go on leaving, half an hour a second")
        screen.chapter("To repair it: the right file, and this batch alone again.")
        screen.command(f"cd {shlex.quote(os.fspath(root))}")
        good, bad = (path.relative_to(root) for path in (folder.original_of(LEFT_DAY), folder.feed_of(LEFT_DAY)))
        screen.command(f"cp {good} {bad}")
        screen.command(f"tidemill run flights {LEFT_DAY} --refetch")
        screen.chapter("Ctrl-C ends all of it. `tidemill up` in the folder begins again.")
        sys.stdout.flush()
        if opens and _has_windows():
            webbrowser.open(f"{address}/")
        _feed(root, departures(folder), fed, lambda: is_stopped() or up.has_ended())
        if not is_stopped():
            raise RunFailed("tidemill up has ended.", hint=f"see {up.log}")
    return 0


def _feed(root: Path, flights: list[Departure], fed: int, is_over: Callable[[], bool]) -> None:
    """Send flights as they leave, those that are not in the topic yet; then wait."""
    clock = system_clock()
    settings = load_settings(root)
    metadata = open_metadata(settings, clock)
    topics = open_topics(settings, metadata, clock)
    try:
        info = topics.describe(TOPIC)
        sent = max(0, sum(info.end) - fed) if info is not None else 0
        writer = topics.writer(f"feed.{TOPIC}")
        start, began = flights[sent].at.timestamp() if sent < len(flights) else 0.0, clock.monotonic()
        while not is_over():
            upto = start + (clock.monotonic() - began) * _SPEED
            due = next((at for at in range(sent, len(flights)) if flights[at].at.timestamp() > upto), len(flights))
            if due > sent:
                some, sent = flights[sent:due], due
                writer.send(TOPIC, [one.value for one in some], keys=[one.key for one in some])
                writer.commit({})
            clock.sleep(_LOOK)
        writer.close()
    finally:
        topics.close()
        metadata.close()


class _Up:
    """`tidemill up` in the folder, with one worker: nothing is to run but what its reader asks for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.log = root / ".tidemill" / "up.log"

    def __enter__(self) -> _Up:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidemill.cli", "--project", os.fspath(self._root), "up", "--workers", "1"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
            return
        self._process.kill()
        self._process.wait()

    def has_ended(self) -> bool:
        """Whether it does not run any more."""
        return self._process.poll() is not None

    def address(self, is_stopped: Callable[[], bool]) -> str | None:
        """Where the pages are; None: it was stopped before. Raises RunFailed."""
        clock = system_clock()
        until = clock.monotonic() + _PATIENCE
        while not (found := _ADDRESS.search(self.log.read_text("utf-8", "replace"))):
            if is_stopped():
                return None
            if self.has_ended() or clock.monotonic() > until:
                raise RunFailed("tidemill up serves no pages.", hint=f"see {self.log}")
            clock.sleep(0.05)
        return found[1]


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, or SIGTERM has come: they end what is done here in its order."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_windows() -> bool:
    """Whether a browser would have a screen of its own: one of text would take this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _command(root: Path, *words: str) -> None:
    command = [sys.executable, "-m", "tidemill.cli", "--project", os.fspath(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RunFailed(f"tidemill {' '.join(words)} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    from tidemill.model.errors import TidemillError

    folder_, began_, fed_, *others = sys.argv[1:]
    try:
        sys.exit(serve(Path(folder_), float(began_), int(fed_), opens="--open" in others))
    except TidemillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
