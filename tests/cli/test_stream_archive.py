"""A topic with an archive, by commands: what is archived shows; resets, replays and new streams reach back to it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from harness.commands import CommandLine
from harness.streams import care_of, done, lines, row, running
from tidemill.wiring.stream_care import StreamCare

CARS = """
    import tidemill as tm

    p = tm.Pipeline("cars")
    telemetry = tm.topic(
        "telemetry", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car", time="ts", partitions=2,
        retention="1h", archive="50ms",
    )

    def per_window(telemetry):
        return telemetry.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    p.stream(per_window, telemetry, to=tm.topic("means"), name="means")
    p.stream(per_window, telemetry, to=tm.topic("again"), name="again", bootstrap="archive")
    p.stream(per_window, telemetry, to=tm.topic("fresh"), name="fresh")
"""
ROWS = [row(1), row(3, "d"), row(21), row(22, "d"), row(45), row(46, "d")]
LATER = [row(61), row(62, "d"), row(83), row(84, "d")]


def results(cli: CommandLine, topic: str) -> list[Any]:
    found = cli("stream", "peek", topic, "-n", "100", "--json").object["messages"]
    return sorted((one["car"], one["window_start"], one["n"]) for m in found for one in [json.loads(m["value"])])


def archived(care: StreamCare) -> bool:
    info = care.topics.live.describe("telemetry")
    return info is not None and sum(care.archives.of("telemetry").end.values()) == sum(info.end)


@pytest.fixture
def cars(cli: CommandLine) -> CommandLine:
    """Messages were archived, and then removed by retention; more have come since."""
    cli.write("pipelines/cars.py", CARS)
    assert cli("stream", "feed", "telemetry", "-", given=lines(ROWS)).exit_code == 0
    with running(cli, "cars.means") as until:
        until(lambda care: not sum(lag.behind for lag in care.lag("means")["cars.means"]))
        until(archived)
    with care_of(cli.folder) as care:
        care.topics.live.tidy(care.clock.now() + timedelta(hours=2))  # type: ignore[attr-defined]  # embedded topics
        info = care.topics.live.describe("telemetry")
        assert info is not None
        assert info.first == info.end
    assert cli("stream", "feed", "telemetry", "-", given=lines(LATER)).exit_code == 0
    return cli


def test_a_stream_with_a_bootstrap_begins_in_the_archive_and_others_with_what_the_topic_has(cars: CommandLine) -> None:
    with running(cars) as until:
        until(done)
    assert results(cars, "again") == results(cars, "means")
    assert len(results(cars, "means")) == 8
    assert len(results(cars, "fresh")) == 2


def test_a_stream_that_was_away_for_longer_than_the_retention_loses_nothing(cars: CommandLine) -> None:
    before = len(results(cars, "means"))
    with care_of(cars.folder) as care:
        partitions = [lag.partition for lag in care.lag("means")["cars.means"]]
        care.topics.reset("cars.means", dict.fromkeys(partitions, 0))
    with running(cars) as until:
        until(done)
    assert len(results(cars, "means")) == before + 4, "rows that were read before are late for its state, and no others"


def test_it_shows_what_is_archived(cars: CommandLine) -> None:
    shown = next(one for one in cars("stream", "topics", "--json").object["topics"] if one["name"] == "telemetry")
    assert (shown["messages"], shown["unarchived"]) == (4, 4)
    assert shown["archived"] == [[0, 3], [0, 3]]
    line = next(line for line in cars("stream", "topics").out.splitlines() if line.startswith("telemetry"))
    assert line.split()[:5] == ["telemetry", "2", "4", "6", "4"]


def test_batches_of_messages_are_listed_and_shown(cars: CommandLine) -> None:
    (listed, *_) = cars("data", "batches", "--json").object["batches"]
    assert (listed["pipeline"], listed["state"]) == ("topic.telemetry", "published")
    assert sum(one["rows"] for one in cars("data", "batches", "--json").object["batches"]) == 6
    shown = cars("data", "batches", str(listed["batch_id"]))
    assert "topic.telemetry messages" in shown.out
    assert ".parquet" in shown.out
    for command in (["replay"], ["branch", "revert"]):
        refused = cars(*command, str(listed["batch_id"]))
        assert refused.exit_code == 1, refused.err
        assert 'raw messages of topic "telemetry"' in refused.err


def test_a_reset_and_a_replay_reach_back_to_what_only_the_archive_has(cars: CommandLine) -> None:
    told = cars("stream", "replay", "means", "--from", "2000-01-01", "--until", "2100-01-01", "--json").object
    assert told["messages"] == 10
    positions = cars("stream", "reset", "means", "--to", "2000-01-01", "--dry-run", "--json").object["positions"]
    assert [one["offset"] for one in positions] == [0, 0]
    earliest = [
        [one["offset"] for one in cars("stream", "reset", name, "--dry-run", "--json").object["positions"]]
        for name in ("again", "fresh")
    ]
    assert earliest == [[0, 0], [3, 3]], "where a first start begins"
    before = results(cars, "means")
    assert cars("stream", "reset", "means", "--to", "2000-01-01", "--yes").exit_code == 0
    with running(cars) as until:
        until(done)
    assert set(results(cars, "means")) >= set(before)
    assert len(results(cars, "means")) == len(before) + 8


def test_a_table_of_the_lake_is_the_past_of_a_topic(cli: CommandLine) -> None:
    """Rows of the table before the time, messages from then on; a reset begins with the table again."""
    cli.write(
        "pipelines/cars.py",
        """
        import tidemill as tm

        p = tm.Pipeline("cars")

        @p.source
        def log():
            yield {"ts": "2026-01-01T00:00:05Z", "car": "a", "speed": 1.0}
            yield {"ts": "2026-01-01T00:00:25Z", "car": "d", "speed": 1.0}
            yield {"ts": "2026-01-01T00:00:45Z", "car": "d", "speed": 1.0}

        @p.table
        def laps(log):
            return log.with_columns(ts=tm.col("ts").cast(str).str.to_datetime(time_zone="UTC"))

        telemetry = tm.topic("telemetry", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car",
                             time="ts", partitions=2)
        past = tm.whole("laps", until="2026-01-01T00:00:40Z")

        @p.stream(telemetry, to=tm.topic("all"), bootstrap=past)
        def everything(telemetry):
            return telemetry.with_columns(n=1)
        """,
    )
    told = cli("stream", "run", "cars.everything")
    assert told.exit_code == 2
    assert 'no table "cars.laps"' in told.err
    assert cli("run", "cars").exit_code == 0
    assert cli("stream", "feed", "telemetry", "-", given=lines([row(1), row(45, "d"), row(50)])).exit_code == 0
    for times in (1, 2):
        with running(cli) as until:
            until(lambda care, many=4 * times: len(messages(care)) == many)
        if times == 1:
            shown = cli("stream", "reset", "everything", "--dry-run")
            assert "telemetry[0]  from its table" in shown.out
            assert cli("stream", "reset", "everything", "--yes").exit_code == 0
    found = cli("stream", "peek", "all", "-n", "100", "--json").object["messages"]
    seconds = sorted(json.loads(one["value"])["ts"][17:19] for one in found)
    assert seconds == ["05", "05", "25", "25", "45", "45", "50", "50"]


def messages(care: StreamCare) -> list[Any]:
    return care.peek("all", 100) if care.topics.describe("all") is not None else []


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ('tm.topic("t", archive="2h", retention="1h")', "would remove messages before they are archived"),
        ('tm.topic("t", archive=3)', "archive=3 is not a duration"),
    ],
)
def test_an_archive_that_cannot_work_is_refused(cli: CommandLine, declared: str, said: str) -> None:
    cli.write("pipelines/wrong.py", f"import tidemill as tm\n\nt = {declared}\n")
    result = cli("stream", "ls")
    assert result.exit_code == 2
    assert said in result.err


@pytest.mark.parametrize(
    ("bootstrap", "said"),
    [
        ('"archive"', 'topic "t" is not archived'),
        ('"table"', "bootstrap='table' is not known"),
        ('{"rows": "archive"}', 'has no topic "rows"'),
        ('tm.whole("past")', "says where it ends"),
        ('tm.whole("past", until="2026-01-01")', "no time with a zone"),
        ('tm.whole("past", until="2026-01-01T00:00Z")', "which has none"),
        ('tm.whole("past", offset="o")', "says where it ends"),
    ],
)
def test_a_bootstrap_that_makes_no_sense_is_refused(cli: CommandLine, bootstrap: str, said: str) -> None:
    cli.write(
        "pipelines/wrong.py",
        f"""
        import tidemill as tm

        wrong = tm.Pipeline("wrong")

        @wrong.stream(tm.topic("t", {{"n": "long"}}), to="u", bootstrap={bootstrap})
        def u(t):
            return t
        """,
    )
    result = cli("stream", "ls")
    assert result.exit_code == 2
    assert said in result.err
    assert "pipelines/wrong.py:5" in result.err
