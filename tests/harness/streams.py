"""A project with streams for tests of commands: run until all is worked off, or until told to stop."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.commands import CommandLine
from tidemill.wiring.metrics_settings import MetricsSettings
from tidemill.wiring.services import connect, open_metadata, system_clock
from tidemill.wiring.settings import load_settings
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.streaming import run_streams

CARS = """
    import tidemill as tm

    p = tm.Pipeline("cars")
    telemetry = tm.topic(
        "telemetry", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car", time="ts", partitions=2,
    )

    @p.stream(telemetry, to=tm.topic("means"))
    def means(telemetry):
        f = telemetry
        f["kmh"] = f["speed"] * 3.6
        return f.tumbling_window("10s", on="ts", by="car").agg(mean=tm.agg.mean("kmh"), n=tm.agg.count()).final()

    @p.stream(telemetry, to=tm.topic("fast", key="car"))
    def fast(telemetry):
        return telemetry.filter(telemetry["speed"] > 20)
"""


def row(second: int, car: str = "a", speed: float = 10.0) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "car": car, "speed": speed}


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in rows)


@contextmanager
def care_of(folder: Path) -> Iterator[StreamCare]:
    """The project's streams, as commands see them."""
    settings = load_settings(folder)
    metadata = open_metadata(settings, system_clock())
    care = StreamCare(settings, metadata)
    try:
        yield care
    finally:
        care.close()
        metadata.close()


@contextmanager
def running(
    cli: CommandLine, *names: str, told: list[str] | None = None, metrics: MetricsSettings | None = None
) -> Iterator[Callable[[Callable[[StreamCare], Any]], Any]]:
    """Streams run in this process meanwhile; gives what waits until something of them is so."""
    stop, told = threading.Event(), [] if told is None else told
    settings = load_settings(cli.folder)
    with care_of(cli.folder) as care:
        # Files are loaded, and modules imported, before the thread does so: what files declare is known to the process
        # once, and pytest rewrites modules as they are imported, which CPython 3.11 cannot do in two threads at a time.
        assert care.overview()
        connect(settings).metadata.close()
        thread = threading.Thread(target=run_streams, args=(settings, names, stop.is_set, told.append, metrics))
        thread.start()

        def until(what: Callable[[StreamCare], Any]) -> Any:
            end = time.monotonic() + 120
            while not (found := what(care)):
                assert thread.is_alive(), f"it has ended: {told}"
                assert time.monotonic() < end, f"it did not come to that: {told}"
                time.sleep(0.02)  # between two looks, not to pass
            return found

        try:
            yield until
        finally:
            stop.set()
            thread.join()


def done(care: StreamCare) -> bool:
    """Whether everything that was fed counts."""
    found = [lag for lags in care.lag().values() for lag in lags]
    return all(lag.behind == 0 and (lag.committed is not None or lag.end == 0) for lag in found)


def work(cli: CommandLine, *names: str) -> None:
    """Run all streams until nothing waits."""
    with running(cli, *names) as until:
        until(done)
