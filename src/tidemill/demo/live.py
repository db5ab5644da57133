"""The demo's stream: the week's flights are replayed into a topic while a process works on it, and is killed.

What is said of it is read back: messages and lag from offsets, and the table by a query, against the batch's table.
"""
# ruff: noqa: S608 - the queries are this module's own

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.demo.screen import Screen
from tidemill.model.errors import RunFailed
from tidemill.model.table import TableName
from tidemill.ports.clock import Clock
from tidemill.wiring.stream_care import StreamCare

STREAM = "live.delay_per_airport_hour"
TOPIC = "departures"
TABLE = TableName("live", "delay_per_airport_hour")

#: Eight days in five seconds.
SPEED = 8 * 86_400 / 5
#: Seconds between two slices, and between two looks; the process is killed after so many of these.
_SLICE, _LOOK, _KILL = 0.1, 1.0, 3
#: Seconds in which a process must have begun, or worked off what waits.
_PATIENCE = 60.0

_COLUMNS = "origin, window_start, departures, mean_dep_delay"
#: The last hour that the story is about is before this: flights that leave later are told of while pages are served.
_END = "timestamptz '2013-01-09 05:00:00+00'"
#: Hours that are in one of the two tables and not, or otherwise, in the other; of the batch's those that the stream has
#: closed, which it does in the order of their ends, each airport for itself.
DIFFERENT = f"""with
    closed as (select origin, max(window_end) as until from {TABLE} group by origin),
    stream as (select {_COLUMNS} from {TABLE} where window_start < {_END}),
    batch as (select {_COLUMNS} from flights.{TABLE.table}
        join closed using (origin) where window_end <= until and window_start < {_END})
    (from stream except all from batch) union all (from batch except all from stream)"""
_DEPARTURES = """select scheduled_at, origin, carrier, flight, dep_delay,
        epoch(scheduled_at) + coalesce(dep_delay, 0) * 60 as departed
    from flights.clean_departures where flight_date <= '{until}' order by departed, origin, carrier, flight"""
_HOURS = f"""select origin, count(*) as hours, sum(departures) as departures, max(window_end) as until
    from {TABLE} group by origin order by origin"""

_COUNTED = f"select count(*) as hours from {TABLE} where window_start < {_END}"

Rows = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Look:
    """What offsets say at a moment: messages in the topic, those that the stream has committed, rows on their way."""

    at: float
    sent: int
    counted: int
    loading: int

    @property
    def lag(self) -> int:
        """Messages that wait for the stream."""
        return self.sent - self.counted


class LiveStory:
    """Tells of the stream in a demo folder.

    Args:
        root: the folder.
        care: its streams.
        clock: the time.
        screen: where to.
        rows: answers a query.
        has: whether there is a table.
    """

    def __init__(
        self, root: Path, care: StreamCare, clock: Clock, screen: Screen, rows: Rows, has: Callable[[TableName], bool]
    ) -> None:
        self._root = root
        self._care = care
        self._clock = clock
        self._screen = screen
        self._rows = rows
        self._has = has

    def tell(self, until: str) -> int:
        """Replay the flights up to a day, unless they are all in the topic, and compare what comes out; how many.

        Raises:
            RunFailed: the stream's table is another than the batch's, or its process does not do its work.
        """
        screen = self._screen
        found = self._rows(_DEPARTURES.format(until=until))
        first = self._look()
        screen.chapter(f"A table's function over a live topic: the flights again, {SPEED / 3600:.0f} hours a second.")
        if first.sent < len(found) or first.lag or first.loading:
            self._replay(found[first.sent :])
        else:
            screen.fact("found", f"all {first.sent:,} departures in the topic, and counted")
        self._compared()
        screen.command(f'tidemill query "{_HOURS}"')
        screen.table(self._rows(_HOURS))
        screen.chapter("Hours that the stream has closed, against the batch's table:")
        screen.command(f'tidemill query "{DIFFERENT}"')
        screen.table(self._rows(DIFFERENT))
        return len(found)

    def _replay(self, rows: list[dict[str, Any]]) -> None:
        """Send rows at their time while the stream runs; in the middle its process is killed."""
        screen = self._screen
        screen.command(f"tidemill stream run {STREAM}")
        with _Running(self._root, self._wait) as process:
            screen.fact("started", f"process {process.begin(self._is_at_work)}")
            screen.command(f"tidemill stream lag {STREAM}    # once a second")
            looks = [self._look()]
            began, sent = self._clock.monotonic(), 0
            start = float(rows[0]["departed"]) if rows else 0.0
            while sent < len(rows):
                until = start + (self._clock.monotonic() - began) * SPEED
                due = next((at for at in range(sent, len(rows)) if rows[at]["departed"] > until), len(rows))
                if due > sent:
                    self._care.feed(TOPIC, [_message(row) for row in rows[sent:due]], strict=False)
                    sent = due
                if self._clock.monotonic() - looks[-1].at >= _LOOK:
                    looks.append(self._say(looks[-1]))
                    if len(looks) == _KILL + 1:
                        killed = process.kill()
                        screen.fact("killed", f"process {killed} with kill -9; flights go on leaving")
                        screen.fact("started", f"process {process.begin(lambda: True)}")
                self._clock.sleep(_SLICE)
            self._wait(self._is_done, process)
            self._say(looks[-1])

    # -- reading

    def _look(self) -> Look:
        lags = self._care.lag(STREAM)[STREAM]
        mine = [lag for lag in lags if lag.partition.topic == TOPIC]
        loading = sum(lag.behind for lag in lags if lag.loads is not None)
        return Look(
            self._clock.monotonic(), sum(lag.end for lag in mine), sum(lag.committed or 0 for lag in mine), loading
        )

    def _is_at_work(self) -> bool:
        told = self._care.told(STREAM)
        return any(one.is_live(self._care.clock.now()) and one.tasks for one in told)

    def _is_done(self) -> bool:
        look = self._look()
        return look.lag == 0 and look.loading == 0

    def _wait(self, what: Callable[[], bool], process: _Running) -> None:
        until = self._clock.monotonic() + _PATIENCE
        while not what():
            if self._clock.monotonic() > until or not process.is_alive():
                raise RunFailed(f"The stream {STREAM} does not do its work.", hint=f"see {process.log}")
            self._clock.sleep(_SLICE)

    # -- saying

    def _say(self, before: Look) -> Look:
        """What offsets say now, and the rate since the look before."""
        look = self._look()
        rate = (look.counted - before.counted) / max(look.at - before.at, 1e-9)
        self._screen.fact(
            "offsets", f"{look.sent:>5,} sent", f"{look.counted:>5,} counted", f"{rate:>5,.0f} a second",
            f"lag {look.lag:>5,}", self._compared(),
        )  # fmt: skip
        return look

    def _compared(self) -> str:
        """How many hours the stream's table has, all of them as the batch has them.

        Raises:
            RunFailed: they are not.
        """
        if not self._has(TABLE):
            return "no hour closed yet"
        different = self._rows(DIFFERENT)
        if different:
            raise RunFailed(f"{len(different)} hours of {TABLE} are others than the batch's: {different[0]}.")
        (hours,) = (row["hours"] for row in self._rows(_COUNTED))
        return f"{hours:>3} closed hours, 0 differ"


class _Running:
    """The stream's process: one at a time."""

    def __init__(self, root: Path, wait: Callable[[Callable[[], bool], _Running], None]) -> None:
        self._root = root
        self._wait = wait
        self._process: subprocess.Popen[bytes] | None = None
        self.log = root / ".tidemill" / "stream-run.log"

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def begin(self, ready: Callable[[], bool]) -> int:
        """Start it, and wait until it is ready; its process id."""
        command = [sys.executable, "-m", "tidemill.cli", "--project", os.fspath(self._root), "stream", "run", STREAM]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait(ready, self)
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> int:
        """End it as a power cut would; its process id."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        return self._process.pid


def _message(row: Mapping[str, Any]) -> bytes:
    return json.dumps({
        "scheduled_at": row["scheduled_at"].isoformat(),
        **{name: row[name] for name in ("origin", "carrier", "flight", "dep_delay")},
    }).encode()  # fmt: skip
