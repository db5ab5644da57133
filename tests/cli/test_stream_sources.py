"""`tidemill stream sources, refeed`: what feeds topics before, while and after streams run."""

from __future__ import annotations

import itertools
import json

import pytest

from harness.commands import CommandLine, Told
from harness.streams import CARS, done, running
from harness.webapi import serving
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.model.errors import UnknownName
from tidemill.testing.clock import ManualClock
from tidemill.version import __version__
from tidemill.wiring.installation import elsewhere
from tidemill.wiring.settings import load_settings
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.stream_sources import fed_topics

FED = """
import tidemill as tm
from tidemill import live

shop = tm.Pipeline("shop")
orders = tm.topic("orders", {"id": "long"}, key="id", source=live.tail("orders.jsonl"))
gone = tm.topic("gone", {"id": "long"}, source=live.archive("shop.nothing"))


@shop.stream(orders, to=tm.topic("copies"))
def copies(orders):
    return orders


@shop.stream(gone, to=tm.topic("never"))
def never(gone):
    return gone
"""


@pytest.fixture
def fed(cli: CommandLine) -> CommandLine:
    cli.write("pipelines/fed.py", FED)
    cli.write("orders.jsonl", '{"id": 1}\n{"id": 2}\n{"id":')
    return cli


def test_a_project_without_sources_is_told_how_to_get_one(cli: CommandLine) -> None:
    cli.write("pipelines/cars.py", CARS)
    result = cli("stream", "sources")
    assert (result.exit_code, result.out) == (0, "")
    assert "live.tail" in result.err
    assert cli("stream", "sources", "--json").object == {"sources": []}


def test_before_anything_runs_sources_are_listed_and_no_topic_is_made(fed: CommandLine) -> None:
    result = fed("stream", "sources")
    assert result.out.splitlines()[1:] == [
        "gone  archive shop.nothing  stopped  0  -  -",
        "orders  tail orders.jsonl  stopped  0  -  -",
        "next: tidemill stream peek gone",
    ]
    topics = fed("stream", "topics", "--json").object["topics"]
    assert {one["partitions"] for one in topics} == {0}


def test_lists_of_topics_and_streams_name_what_feeds_them(fed: CommandLine) -> None:
    listed = fed("stream", "topics").out.splitlines()
    assert "orders  not made  0  read  shop.copies  tail orders.jsonl" in listed
    assert "copies  not made  0  written  shop.copies  -" in listed
    assert "fed  orders  from tail orders.jsonl" in fed("stream", "show", "copies").out


def test_while_streams_run_it_is_shown_how_far_sources_are_and_why_one_fails(fed: CommandLine) -> None:
    """The one that fails stops neither the other nor a stream."""
    with running(fed) as until:

        def both(care: StreamCare) -> bool:
            found = {one.topic: one for one in fed_topics(care)}
            states = {name: one.state for name, one in found.items()}
            return states == {"gone": "failed", "orders": "running"} and found["orders"].messages == 2

        until(both)
        until(done)
        result = fed("stream", "sources")
        assert 'error: gone: There is no archived source "shop.nothing".' in result.out
        assert '[{"name": "orders.jsonl"' in result.out
    _see_the_same_by_a_server(fed)
    copies = fed("stream", "peek", "copies", "--json").object["messages"]
    assert [json.loads(one["value"]) for one in copies] == [{"id": 1}, {"id": 2}]
    assert {one["state"] for one in fed("stream", "sources", "--json").object["sources"]} == {"stopped"}
    roles = {one["name"]: one["role"] for one in fed("stream", "topics", "--json").object["topics"]}
    assert roles["orders.source"] == "own"


def _see_the_same_by_a_server(fed: CommandLine) -> None:
    """Words and objects; a source that begins anew there does so here."""
    (fed.folder / "raw.jsonl").write_bytes(b"\xff\xfe\n" + b"x" * 20_000 + b"\n")
    fed("stream", "feed", "never", "raw.jsonl", "--raw")
    asking = [LOCAL]
    with serving(load_settings(fed.folder), lambda _: asking[0]) as api:

        def there(*words: str) -> Told:
            return fed("stream", *words, "--server", api.url)

        for words in (["topics"], ["topics", "--all"], ["sources"], ["peek", "orders"], ["peek", "none"],
                      ["peek", "orders", "-n", "0"], ["refeed", "none", "--yes"]):  # fmt: skip
            assert there(*words) == fed("stream", *words), words
        for words in (["topics", "--json"], ["sources", "--json"], ["peek", "orders", "--json"]):
            assert there(*words).object == fed("stream", *words).object, words
        odd = there("peek", "never", "-n", "2")
        assert ("0xfffe" in odd.out, "of long messages the beginning is shown" in odd.err) == (True, True)
        found = there("peek", "orders", "-n", "500")
        assert (found.exit_code, "try: -n 200" in found.err, found.out) == (1, True, ""), found.err
        _follow(fed, api.url)
        assert (
            there("refeed", "orders", "--yes").out.splitlines()[0] == "forgotten  tail orders.jsonl  after 2 messages"
        )
        assert "nothing has fed orders yet" in fed("stream", "refeed", "orders", "--yes").err
        shop, others = (Principal("one", Role.NONE, {name: Role.VIEWER}) for name in ("shop", "others"))
        for who, listed in ((shop, 2), (others, 0)):
            asking[:] = [who]
            assert len(api.get("sources")["sources"]) == listed
            assert api.ask("POST", "topics/orders/refeed", {}).status == 403


def _follow(fed: CommandLine, url: str) -> None:
    """What is there is not given again; what comes is, all of it, though a server gives 200 at once."""
    told: list[str] = []
    streams = elsewhere(url, {}, __version__, told.append, ManualClock()).streams
    seen = streams.follow("never")
    assert next(seen) is None
    (fed.folder / "raw.jsonl").write_bytes(b"".join(b"%d\n" % n for n in range(201)) + b"\xff\n")
    fed("stream", "feed", "never", "raw.jsonl", "--raw")
    values = [one["value"] for one in itertools.takewhile(lambda one: one is not None, seen) if one is not None]
    assert values == [*map(str, range(201)), b"\xff"]
    assert told == []
    with pytest.raises(UnknownName):
        next(streams.follow("none"))


def test_a_source_can_be_made_to_begin_anew(fed: CommandLine) -> None:
    result = fed("stream", "refeed", "orders", "--yes")
    assert (result.exit_code, result.err) == (0, "nothing has fed orders yet")
    result = fed("stream", "refeed", "order")  # it is not asked about what is not there
    assert result.exit_code == 2
    assert 'There is no topic with a source "order".' in result.err
    assert 'did you mean "orders"?' in result.err
