"""Streams and topics of a project on Kafka, by the API and on the pages: what waits, messages, letters, offsets."""

from __future__ import annotations

import uuid
from pathlib import Path

from harness.commands import CommandLine
from harness.streams import care_of, done, lines, row, running
from harness.webapi import Api, serving
from tidemill.ports.topic import Partition
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.settings import load_settings

CARS = """
    import tidemill as tm

    p = tm.Pipeline("cars")
    cars = tm.topic(
        "NAME", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car", time="ts", partitions=2,
    )

    @p.stream(cars, to=tm.topic("NAME-fast", key="car"))
    def fast(f):
        return f.filter(f["speed"] > 20)
"""


def test_a_stream_on_kafka_is_seen_and_repaired(tmp_path: Path, kafka_servers: str) -> None:
    """On a broker that is new, too: asked for positions as administrators ask, the client would end the process."""
    name = f"web-{uuid.uuid4().hex}"  # the broker is the session's
    cli = CommandLine(tmp_path)
    cli.write("tidemill.toml", f'[project]\nname = "{name}"\n[streams]\nbroker = "kafka://{kafka_servers}"\n')
    cli.write("pipelines/cars.py", CARS.replace("NAME", name))
    settings = load_settings(tmp_path)
    rows = [row(second, car, 30.0) for second in range(5) for car in ("a", "b", "c", "d")]
    bad = b'{"ts": "2026-01-01T00:00:09Z", "car": "a", "speed": "<b>quick"}'
    with care_of(tmp_path) as care, serving(settings) as api:
        care.feed(name, [*lines(rows).encode().splitlines(), bad], strict=False)
        parse_once(settings)
        with running(cli) as until:
            until(done)
        _see(api, name)
        _send_again(api, name, bad)
        _begin_anew(api, name)
        partitions = [Partition(name, number) for number in (0, 1)]
        assert [one.offset for one in care.topics.committed("cars.fast", partitions).values()] == [0, 0]


def _topics(api: Api) -> set[str]:
    found, page = set(), api.get("topics", limit=200)
    while True:
        found |= {one["topic"] for one in page["topics"]}
        if page["next"] is None:
            return found
        page = api.get("topics", limit=200, cursor=page["next"])


def _see(api: Api, name: str) -> None:
    """What is there, and that pages show it."""
    shown = _topics(api)  # those of other tests, too
    assert {one for one in shown if one.startswith(name)} == {name, f"{name}-fast"}
    topic = api.get(f"topics/{name}")
    assert sum(part["end"] for part in topic["parts"]) == 21
    assert [(one["stream"], sum(one["committed"])) for one in topic["consumers"]] == [("cars.fast", 21)]
    messages = api.get(f"topics/{name}/messages", limit=200)["messages"]
    assert len(messages) == 21
    assert sum(one["error"] is not None for one in messages) == 1
    assert len(api.get(f"topics/{name}-fast/messages", limit=200)["messages"]) == 20
    assert {one["lag"] for one in api.get("streams/cars.fast/lag")["lag"]} == {0}
    for path in ("/streams", "/topics", f"/topics/{name}", *(f"/streams/cars.fast?view={v}" for v in _VIEWS)):
        page = api.ask("GET", path)
        assert page.status == 200, (path, page.data)
        assert "<b>quick" not in page.data, path
    assert "&lt;b&gt;quick" in api.ask("GET", "/streams/cars.fast?view=letters").data


_VIEWS = ("topology", "lag", "letters", "reset")


def _send_again(api: Api, name: str, bad: bytes) -> None:
    """The dead letter, put right."""
    letters = api.get("streams/cars.fast/letters")
    assert letters["total"] == 1
    offset = letters["letters"][0]["offset"]
    edits = {str(offset): bad.decode().replace('"<b>quick"', "99")}
    api.post("streams/cars.fast/redrive", {"offsets": [offset], "edits": edits}, dry_run=True)
    assert sum(part["end"] for part in api.get(f"topics/{name}")["parts"]) == 21
    api.post("streams/cars.fast/redrive", {"offsets": [offset], "edits": edits})
    newest = [one["row"] for one in api.get(f"topics/{name}/messages", limit=200)["messages"] if one["row"]]
    assert [one["speed"] for one in newest if one["speed"] == 99] == [99]
    # A transaction's end takes an offset, too.
    assert sum(one["lag"] for one in api.get("streams/cars.fast/lag")["lag"]) >= 1


def _begin_anew(api: Api, name: str) -> None:
    """Paused, resumed, and from its earliest messages again."""
    assert api.post("streams/cars.fast/pause")["state"] == "paused"
    plan = api.post("streams/cars.fast/reset", {"to": "earliest"}, dry_run=True)
    assert sum(one["messages"] for one in plan["positions"]) == 21
    assert {one["topic"] for one in plan["positions"]} == {name}
    assert api.post("streams/cars.fast/reset", {"to": "earliest"})["positions"] == plan["positions"]
    assert api.post("streams/cars.fast/resume")["state"] != "paused"
