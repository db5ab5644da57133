"""Who watches an installation: Prometheus asks `tidemill up`, a collector of OpenTelemetry's is told."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from harness.installation import Installation
from harness.otlp import Received, attributes, collector
from harness.scraping import address_in, parsed, scrape, value
from tidemill.flow.stream.facts import ProcessFacts

Install = Callable[..., Installation]

CARS = """
    import tidemill as tm

    p = tm.Pipeline("cars", schedule="@daily", start="2026-01-01", end="2026-01-02", catchup=False)
    speeds = tm.topic("speeds", {"car": "string", "speed": "long"}, key="car")

    @p.stream(speeds, to=tm.topic("fast"))
    def fast(speeds):
        return speeds.filter(speeds["speed"] > 20)

    @p.source
    def laps(interval):
        yield {"car": "a", "lap": 1}

    @p.table
    def best(laps):
        return laps
"""
SETTINGS = """
[project]
name = "shop"
[metrics]
listen = "127.0.0.1:0"
token = "open sesame"
"""
SHOWN = {"Authorization": "Bearer open sesame"}


def feed(shop: Installation, *speeds: int) -> None:
    (shop.folder / "speeds.jsonl").write_text("".join(f'{{"car": "a", "speed": {speed}}}\n' for speed in speeds))
    shop.command("stream", "feed", "speeds", str(shop.folder / "speeds.jsonl"))


@pytest.fixture
def shop(install: Install) -> Installation:
    made = install(cars=CARS)
    (made.folder / "tidemill.toml").write_text(SETTINGS)
    return made


def test_up_serves_what_all_its_processes_do(shop: Installation) -> None:
    shop.up("--workers", "1")
    address = shop.wait(lambda: address_in(shop.said()))
    assert address is not None
    with pytest.raises(urllib.error.HTTPError, match="401"):
        scrape(address)

    def told(name: str, **labels: str) -> float | None:
        return value(parsed(scrape(address, SHOWN)), name, **labels)

    shop.wait(lambda: told("tidemill_stream_processes", stream="cars.fast", state="running") == 1)
    feed(shop, 10, 30)
    shop.wait(lambda: told("tidemill_stream_rows_written_total", stream="cars.fast", sink="fast") == 1)
    shop.command("run", "cars", "2026-01-01")
    shop.wait(lambda: (told("tidemill_runs_ended_total", pipeline="cars", state="success") or 0) >= 1)
    assert told("tidemill_metrics_source_up", source="metadata") == 1
    assert told("tidemill_stream_lag_messages", stream="cars.fast", topic="speeds", partition="0") == 0

    # A process that dies is told of by its silence: what it has said is let grow old.
    with shop.metadata.write() as tx:
        facts = ProcessFacts.from_json(tx.streams.told("cars.fast")[0])
        old = facts.at - timedelta(minutes=5)
        tx.streams.tell("cars.fast", "dead-0", old, {**facts.as_json(), "process": "dead-0", "at": old.isoformat()})
    assert told("tidemill_stream_processes", stream="cars.fast", state="gone") == 1
    assert shop.stop() == 0


@contextmanager
def serving(shop: Installation, received: Received, *arguments: str) -> Iterator[None]:
    """A part of an installation, which sends to the collector."""
    process = shop.start(*arguments, **received.environment)
    try:
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0, shop.said()
    finally:
        process.kill()
        process.wait()


def test_a_stream_tells_a_collector_of_its_checkpoints_and_counts(shop: Installation) -> None:
    (shop.folder / "tidemill.toml").write_text('[project]\nname = "shop"\n[otel]\nenabled = true\n')
    with collector() as received:
        with serving(shop, received, "stream", "run"):
            feed(shop, 10, 30, 40)
            shop.wait(lambda: any(span.name == "checkpoint" for span in received.spans))
            shop.wait(lambda: received.points("tidemill.stream.checkpoint"))
        checkpoints = [span for span in received.spans if span.name == "checkpoint"]
        facts = [attributes(span) for span in checkpoints]
        assert {one["tidemill.stream"] for one in facts} == {"cars.fast"}
        assert sum(one["tidemill.messages"] for one in facts) == 3
        assert sum(one["tidemill.rows"] for one in facts) == 2
        for span in checkpoints:
            parts = [one for one in received.spans if one.parent_span_id == span.span_id]
            assert sorted(one.name for one in parts) == ["commit", "process", "save", "store"]
            assert min(one.start_time_unix_nano for one in parts) == span.start_time_unix_nano
            assert abs(max(one.end_time_unix_nano for one in parts) - span.end_time_unix_nano) < 10_000
        histogram = received.points("tidemill.stream.checkpoint")[-1][1]
        assert histogram.count == len(checkpoints)
        labels, read = received.points("tidemill.stream.messages_read")[-1]
        assert (labels["topic"], read) == ("speeds", 3), "what is left is told at the end"
        assert {(one["service.name"], one["tidemill.project"]) for one in received.resources} == {("tidemill", "shop")}


def test_runs_and_the_tries_of_their_tasks_are_traces(shop: Installation) -> None:
    (shop.folder / "tidemill.toml").write_text(SETTINGS + "[otel]\nenabled = true\n")
    with collector() as received:
        with serving(shop, received, "serve", "metrics"):
            shop.wait(lambda: address_in(shop.said()))
            shop.command("run", "cars", "2026-01-01")
        [run] = [span for span in received.spans if span.name == "run"]
        assert attributes(run)["tidemill.pipeline"] == "cars"
        tasks = [span for span in received.spans if span.parent_span_id == run.span_id]
        assert {attributes(span)["tidemill.task"] for span in tasks} == {"extract.laps", "load.laps", "build.best"}
        assert all(attributes(span)["tidemill.try"] >= 1 for span in tasks)
        assert received.points("tidemill.runs_ended")[-1] == ({"pipeline": "cars", "state": "success"}, 1)


def test_without_the_extra_its_name_is_told(shop: Installation) -> None:
    (shop.folder / "tidemill.toml").write_text('[project]\nname = "shop"\n[otel]\nenabled = true\n')
    code = "import sys; sys.modules['opentelemetry'] = None; from tidemill.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--project", str(shop.folder), "stream", "run"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: [otel] needs OpenTelemetry, which is not installed.",
        f"  at: {shop.folder / 'tidemill.toml'}",
        '  try: pip install "tidemill[otel]"',
    ]
