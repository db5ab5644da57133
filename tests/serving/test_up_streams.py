"""`tidemill up` runs the streams that pipelines declare: only then, anew with changed code, whatever one does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.installation import Installation
from tidemill.flow.stream.facts import ProcessFacts

Install = Callable[..., Installation]

PLAIN = """
    import tidemill as tm

    plain = tm.Pipeline("plain")
"""
CARS = """
    import tidemill as tm

    p = tm.Pipeline("cars")
    speeds = tm.topic("speeds", {"car": "string", "speed": "long"}, key="car")

    @p.stream(speeds, to=tm.topic("fast"))
    def fast(speeds):
        return speeds.filter(speeds["speed"] > LIMIT)
"""
BAD = """
    import tidemill as tm

    bad = tm.Pipeline("bad")

    def broken(row):
        raise ValueError("this row is not to be taken")

    @bad.stream(tm.topic("speeds", {"car": "string", "speed": "long"}), to=tm.topic("never"), errors="stop")
    def never(speeds):
        return speeds.map_rows(broken, returns={"car": "string"})
"""


def cars(limit: int) -> str:
    return CARS.replace("LIMIT", str(limit))


def told(shop: Installation, stream: str = "cars.fast") -> list[ProcessFacts]:
    with shop.metadata.read() as tx:
        return [ProcessFacts.from_json(found) for found in tx.streams.told(stream)]


def runs(shop: Installation, stream: str = "cars.fast", **wanted: Any) -> Callable[[], ProcessFacts | None]:
    def look() -> ProcessFacts | None:
        found = [one for one in told(shop, stream) if Path(f"/proc/{one.pid}").exists()]
        found = [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]
        return found[0] if found else None

    return look


def feed(shop: Installation, *speeds: int) -> None:
    file = shop.folder / "speeds.jsonl"
    file.write_text("".join(json.dumps({"car": "a", "speed": speed}) + "\n" for speed in speeds))
    shop.command("stream", "feed", "speeds", str(file))


def fast(shop: Installation) -> list[int]:
    found = json.loads(shop.command("stream", "peek", "fast", "-n", "100", "--json"))["messages"]
    return [json.loads(one["value"])["speed"] for one in found]


def test_an_installation_without_streams_has_no_process_for_them_and_gets_one_with_the_first(install: Install) -> None:
    shop = install(plain=PLAIN)
    shop.up("--workers", "1")

    def parsed() -> bool:
        with shop.metadata.read() as tx:
            return tx.definitions.pipeline("plain") is not None

    shop.wait(parsed)
    assert not (shop.folder / ".tidemill" / "streams.json").exists()
    before = set(shop.children())
    shop.write("cars", cars(20))
    facts = shop.wait(runs(shop))
    assert facts is not None
    assert facts.pid not in before
    feed(shop, 10, 30)
    shop.wait(lambda: fast(shop) == [30])
    (shop.folder / "pipelines" / "cars.py").unlink()
    shop.wait(lambda: not Path(f"/proc/{facts.pid}").exists())
    assert shop.stop() == 0


def test_changed_code_makes_the_streams_begin_anew_and_nothing_is_lost(install: Install) -> None:
    shop = install(cars=cars(20))
    shop.up("--workers", "1")
    first = shop.wait(runs(shop))
    assert first is not None
    feed(shop, 10, 30)
    shop.wait(lambda: fast(shop) == [30])
    shop.write("cars", cars(5))
    second = shop.wait(lambda: (found := runs(shop)()) and found.pid != first.pid and found)
    assert second
    assert second.version != first.version
    feed(shop, 10, 30)
    shop.wait(lambda: fast(shop) == [30, 10, 30])
    assert "the streams begin anew" in shop.said()
    assert shop.stop() == 0
    assert told(shop) == [], "it has ended in peace"


def test_a_stream_that_fails_is_tried_again_beside_the_others(install: Install) -> None:
    shop = install(cars=cars(20), bad=BAD)
    shop.up("--workers", "1")
    shop.wait(runs(shop))
    feed(shop, 30)
    failed = shop.wait(runs(shop, "bad.never", state="failed"))
    assert failed is not None
    assert "this row is not to be taken" in (failed.error or "")
    shop.wait(lambda: fast(shop) == [30])
    listed = {one["stream"]: one for one in json.loads(shop.command("stream", "ls", "--json"))["streams"]}
    assert (listed["cars.fast"]["state"], listed["bad.never"]["state"]) == ("running", "failed")
    assert "this row is not to be taken" in listed["bad.never"]["error"]
    assert "bad.never has stopped" in shop.said()
    again = shop.wait(lambda: [one for one in told(shop, "bad.never") if one.error_at != failed.error_at])
    assert again, "it was tried again"
    shop.write("bad", BAD.replace('raise ValueError("this row is not to be taken")', 'return {"car": row["car"]}'))
    shop.wait(runs(shop, "bad.never", state="running"))
    assert shop.stop() == 0


def test_killed_streams_are_started_again_and_each_row_comes_once(install: Install) -> None:
    shop = install(cars=cars(20))
    shop.up("--workers", "1")
    first = shop.wait(runs(shop))
    assert first is not None
    feed(shop, 30)
    shop.wait(lambda: fast(shop) == [30])
    os.kill(first.pid, signal.SIGKILL)
    feed(shop, 31, 32)
    shop.wait(lambda: fast(shop) == [30, 31, 32])
    assert shop.stop() == 0


def test_streams_run_in_a_process_of_their_own(install: Install) -> None:
    shop = install(cars=cars(20))
    shop.command("pipelines", "ls")
    shop.root = shop.start("serve", "streams")
    shop.wait(runs(shop))
    feed(shop, 30)
    shop.wait(lambda: fast(shop) == [30])
    assert shop.stop() == 0
