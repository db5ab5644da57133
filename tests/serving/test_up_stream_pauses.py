"""Streams that are paused beside a `tidemill up` that goes on: let go, reset, taken up again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from click.testing import CliRunner, Result

from harness.installation import Installation
from harness.streams import CARS, care_of, lines, row
from tidemill.cli.main import root
from tidemill.wiring.stream_care import Overview

Install = Callable[..., Installation]


def test_a_stream_is_paused_reset_and_resumed_beside_up(install: Install) -> None:
    made = install(cars=CARS)
    feed = made.folder / "rows.jsonl"
    feed.write_text(lines(row(second, car, 30.0) for second in range(0, 60, 5) for car in ("a", "b")))

    def asked(*words: str) -> Result:
        return CliRunner().invoke(root, ["stream", *words, "--project", str(made.folder)], prog_name="tidemill")

    def told(*words: str) -> Any:
        found = asked(*words, "--json")
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)

    def streams() -> dict[str, Overview]:
        with care_of(made.folder) as care:
            return {one.stream: one for one in care.overview()}

    def until(holds: Callable[[dict[str, Overview]], bool]) -> None:
        deadline = time.monotonic() + 240
        while not holds(found := streams()):
            assert time.monotonic() < deadline, (found, (made.folder / "up.log").read_text())
            time.sleep(0.5)  # between two looks, not to pass

    def results() -> int:
        with care_of(made.folder) as care:
            return len(care.peek("means", 1_000))

    def worked_off(found: dict[str, Overview], name: str) -> bool:
        return found[name].lag == 0 and found[name].state == "running"

    told("feed", "telemetry", str(feed))
    # Before anybody works on it: it is not begun.
    assert told("pause", "fast") == {"stream": "cars.fast", "state": "paused"}
    made.up()
    until(lambda found: worked_off(found, "cars.means"))
    first = results()
    assert first > 0
    assert (streams()["cars.fast"].state, streams()["cars.fast"].lag) == ("paused", 24)
    refused = asked("reset", "means", "--yes")
    assert "try: tidemill stream pause cars.means" in refused.stderr, refused.output

    assert told("pause", "means") == {"stream": "cars.means", "state": "paused"}
    assert streams()["cars.means"].members == 0
    told("reset", "means")
    assert streams()["cars.means"].lag == 24
    told("resume", "fast")
    until(lambda found: worked_off(found, "cars.fast"))
    assert (streams()["cars.means"].state, results()) == ("paused", first)
    told("resume", "means")
    # The process of `up` that let go takes it up: what it reads again gives the same results once more.
    until(lambda found: worked_off(found, "cars.means"))
    assert results() == 2 * first
