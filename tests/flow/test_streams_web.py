"""Streams and topics through the web API, on a stream that has run: lag over time, offsets that are reset, messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from harness.commands import CommandLine
from harness.streams import CARS, care_of, done, lines, row, running
from harness.webapi import Api, serving
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.ports.topic import Partition
from tidemill.wiring import lag_history
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.settings import load_settings
from tidemill.wiring.stream_care import StreamCare

HOSTILE = b'{"ts": "2026-01-01T00:00:00Z", "car": "<script>alert(1)</script>\\u202egnp", "speed": "fast"}'
PEOPLE = {
    "operator": Principal("operator", Role.OPERATOR),
    "viewer": Principal("viewer", Role.VIEWER),
    "of-others": Principal("of-others", Role.NONE, {"others": Role.OPERATOR}),
}


def identify(request: Request) -> Principal | None:
    name = request.headers.get("x-test-user")
    return LOCAL if name is None else PEOPLE[name]


def test_streams_are_seen_over_time_and_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag_history, "EVERY", 0.05)
    cli = CommandLine(tmp_path)
    cli.write("tidemill.toml", '[project]\nname = "test"\n')
    cli.write("pipelines/cars.py", CARS)
    rows = [row(second, car) for second in range(0, 100, 5) for car in ("a", "b", "c", "d")]
    settings = load_settings(tmp_path)
    with care_of(tmp_path) as care, serving(settings, identify) as api:
        care.feed("telemetry", [*lines(rows).encode().splitlines(), HOSTILE, b"x" * 40_000], strict=False)
        parse_once(settings)
        with running(cli) as until:
            until(done)
            _see_tasks(until, api)
            refused = api.ask("POST", "streams/cars.means/reset", {"to": "earliest"})
            assert (refused.status, "is running" in refused.data["detail"]) == (409, True)
        care.feed("telemetry", lines(rows[:8]).encode().splitlines())
        until = time.monotonic() + 60
        while (found := api.get("streams/cars.means/lag/history"))["partitions"] == [] or _last(found) != 8:
            assert time.monotonic() < until, found
            time.sleep(0.05)  # between two looks, not to pass
        assert (found["stream"], found["every"], found["most"], found["left_out"]) == ("cars.means", 5.0, 720, 0)
        assert {len(one["lag"]) for one in found["partitions"]} == {len(found["times"])}
        assert len(found["rate"]) == len(found["state_bytes"]) == len(found["times"])
        assert max(found["state_bytes"]) > 0
        assert api.ask("GET", "streams/cars.none/lag/history").status == 404
        minutes = api.get("throughput")["minutes"]
        assert [one["rate"] for one in minutes if one["rate"] is not None]
        other = api.ask("GET", "throughput", headers={"x-test-user": "of-others"}).data["minutes"]
        assert {one["rate"] for one in other} == {None}
        _see_topics(api)
        _see_reset(cli, care, api)
        _see_feeding(care, api)
        _see_letters(api)


def _last(found: dict[str, Any]) -> int:
    """What waits in the topic at the end of a history."""
    return sum(one["lag"][-1] for one in found["partitions"] if one["topic"] == "telemetry")


def _see_tasks(until: Callable[[Any], Any], api: Api) -> None:
    """What tasks tell of themselves: ten seconds of four cars are open."""

    def parts(_care: Any) -> list[dict[str, Any]]:
        told = api.get("streams/cars.means")["processes"]
        return [part for process in told for part in process["parts"].values() if part["windows"]]

    until(lambda care: sum(part["windows"] for part in parts(care)) == 4)
    assert {part["watermark"] for part in parts(None)} == {"2026-01-01T00:01:35+00:00"}


def _see_topics(api: Api) -> None:
    listed = {one["topic"]: one for one in api.get("topics")["topics"]}
    assert listed.keys() == {"telemetry", "means", "fast"}
    assert listed["telemetry"]["messages"] == 90
    assert [one["stream"] for one in listed["telemetry"]["consumers"]] == ["cars.fast", "cars.means"]
    assert len(api.get("topics", own="true")["topics"]) > 3
    found = {who: api.ask("GET", "search", headers={"X-Test-User": who}, q="telem").data["hits"] for who in PEOPLE}
    topic = {"kind": "topic", "name": "telemetry", "pipeline": None, "table": None}
    assert (topic in found["viewer"], found["of-others"]) == (True, [])
    one = api.get("topics/telemetry")
    assert [column["name"] for column in one["columns"]] == ["ts", "car", "speed"]
    assert sum(part["end"] for part in one["parts"]) == 90
    for consumer in one["consumers"]:
        assert sum(consumer["committed"]) == 82
    everything = api.get("topics/telemetry/messages", limit=200)["messages"]
    assert len(everything) == 90
    (hostile,) = [one for one in everything if "script" in str(one["value"])]
    assert "\\u202e" in hostile["value"]
    assert "speed" in hostile["error"]
    (long,) = [one for one in everything if one["bytes"] == 40_000]
    assert (len(long["value"]), long["cut"]) == (16_384, True)
    assert {one["row"]["speed"] for one in everything if one["row"]} == {10.0}
    first = api.get("topics/telemetry/messages", partition=0, offset=0, limit=10)
    assert [one["offset"] for one in first["messages"]] == list(range(10))
    second = api.get("topics/telemetry/messages", partition=0, offset=first["next_offset"], limit=1)
    assert second["messages"][0]["offset"] == 10
    for query in ({"offset": 3}, {"partition": 7}, {"limit": 100_000}):
        assert 400 <= api.ask("GET", "topics/telemetry/messages", **query).status < 500
    other = {"x-test-user": "of-others"}
    assert api.ask("GET", "topics", headers=other).data["topics"] == []
    assert api.ask("GET", "topics/telemetry/messages", headers=other).status == 404


def _see_letters(api: Api) -> None:
    """Several at once: all of them or none, or each that can be; what is told beforehand is what is done."""
    path = "streams/cars.fast/redrive"
    offsets = sorted(one["offset"] for one in api.get("streams/cars.fast/letters")["letters"])
    assert len(offsets) == 2

    def end() -> int:
        return int(sum(one["end"] for one in api.get("topics/telemetry")["parts"]))

    before, asked = end(), {"offsets": [*offsets, 999], "each": True}
    assert api.ask("POST", path, {"offsets": [*offsets, 999]}).status == 404
    assert api.ask("POST", path, {**asked, "edits": {str(offsets[0]): "no JSON"}}).status == 422
    would = api.post(path, asked, dry_run=True)
    assert (would["offsets"], [(one["offset"], one["status"]) for one in would["refused"]]) == (offsets, [(999, 404)])
    assert end() == before
    assert api.post(path, asked) == {**would, "dry_run": False}
    assert end() == before + 2
    again = api.post(path, asked)
    assert (again["offsets"], [one["status"] for one in again["refused"]]) == ([], [409, 409, 404])
    assert "was sent again at" in again["refused"][0]["error"]
    assert api.post(path, {"all": True, "each": True})["offsets"] == []
    assert api.post(path, {**asked, "again": True})["offsets"] == offsets
    assert end() == before + 4


def _see_feeding(care: StreamCare, api: Api) -> None:
    """All or nothing, by those who may; a stream's own topics are its own."""
    before = sum(one["end"] for one in api.get("topics/telemetry")["parts"])
    good = {"ts": "2026-01-01T01:00:00Z", "car": "a", "speed": 1.5}
    would = api.post("topics/telemetry/messages", {"rows": [good, good]}, dry_run=True)
    assert (would["messages"], would["dry_run"], would["why"][:10]) == (2, True, "2 messages")
    bad = api.ask("POST", "topics/telemetry/messages", {"rows": [good, {"speed": "fast"}]})
    assert (bad.status, bad.data["where"]) == (422, "line 2")
    for body in ({}, {"rows": [good], "lines": ["{}"]}, {"rows": good}):
        assert api.ask("POST", "topics/telemetry/messages", body).status == 400
    own = next(one["topic"] for one in api.get("topics", own="true")["topics"] if one["role"] == "own")
    assert api.ask("POST", f"topics/{own}/messages", {"rows": [good]}).status == 409
    assert api.ask("POST", "topics/none/messages", {"rows": [good]}).status == 404
    for who in ("viewer", "of-others"):
        assert api.ask("POST", "topics/telemetry/messages", {"rows": [good]}, {"x-test-user": who}).status == 403
    assert sum(one["end"] for one in api.get("topics/telemetry")["parts"]) == before
    text = '{ "ts":"2026-01-01T01:00:00Z", "car":"a", "speed":1.50 }'
    sent = b'{"rows": [%s]}' % text.encode()
    headers = {"x-test-user": "operator", "Content-Type": "application/json"}
    assert api.post("topics/telemetry/messages", sent, headers)["messages"] == 1
    assert api.post("topics/telemetry/messages", {"lines": ["no JSON"], "raw": True})["messages"] == 1
    values = [one.value for one in care.peek("telemetry", 200)]
    assert len(values) == before + 2
    assert {text.encode(), b"no JSON"} <= set(values)  # byte for byte


def _see_reset(cli: CommandLine, care: StreamCare, api: Api) -> None:
    """The same preview as the command's; done by those who may; what was done is where the stream goes on."""
    told = cli("stream", "reset", "means", "--to", "3", "--dry-run", "--json").object
    plan = api.post("streams/cars.means/reset", {"to": "3"}, dry_run=True)
    assert not plan["running"]
    named = ("topic", "partition", "before", "offset")
    assert [{name: one[name] for name in named} for one in plan["positions"]] == told["positions"]
    assert (plan["cleared"], plan["stores"]) == (told["cleared"], told["stores"])
    assert [one["messages"] for one in plan["positions"]] == [
        abs(one["before"] - one["offset"]) for one in plan["positions"]
    ]
    assert {one["direction"] for one in plan["positions"]} == {"again"}
    assert api.ask("POST", "streams/cars.means/reset", {"to": "3"}, {"x-test-user": "viewer"}).status == 403
    for no_place in ("soon", "0001-01-01", "9999-12-31T23:59:59-14:00", " "):
        assert api.ask("POST", "streams/cars.means/reset", {"to": no_place}, dry_run=True).status in (200, 422)
    done_so = api.post("streams/cars.means/reset", {"to": "3"}, {"x-test-user": "operator"})
    assert done_so["positions"] == plan["positions"]
    partitions = [Partition("telemetry", number) for number in (0, 1)]
    assert [one.offset for one in care.topics.committed("cars.means", partitions).values()] == [3, 3]
