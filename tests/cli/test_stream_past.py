"""`tidemill stream dlq, redrive, reset, replay`: letters go again once, a stream begins anew, the past is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness.commands import CommandLine
from harness.streams import CARS, care_of, lines, row, running, work
from tidemill.flow.stream.resetting import do_reset, plan_reset
from tidemill.plan.partitioning import partition_of
from tidemill.ports.topic import Partition, Topics

NewCommandLine: TypeAlias = Callable[[], CommandLine]

DOUBLES = """
    import tidemill as tm

    d = tm.Pipeline("d")
    numbers = tm.topic("numbers", {"id": "long", "n": "string"}, key="id")

    @d.stream(numbers, to=tm.topic("doubles"))
    def doubles(numbers):
        double = lambda row: {"id": row["id"], "n": 2 * int(row["n"])}
        return numbers.map_rows(double, returns={"id": "long", "n": "long"})
"""
ROWS = [row(1), row(3, "b", 30.0), row(21), row(22, "b", 32.0), row(45), row(46, "b", 5.0)]


def messages(cli: CommandLine, topic: str) -> list[Any]:
    found = cli("stream", "peek", topic, "-n", "100", "--json").object["messages"]
    return [json.loads(one["value"]) for one in found]


@pytest.fixture(scope="module")
def made_letters(new_cli: NewCommandLine) -> CommandLine:
    cli = new_cli()
    cli.write("pipelines/d.py", DOUBLES)
    given = '{"id": 1, "n": "1"}\n{"id": 2, "n": "two"}\n{"id": 3\n'
    assert cli("stream", "feed", "numbers", "-", "--raw", given=given).exit_code == 0
    work(cli)
    assert messages(cli, "doubles") == [{"id": 1, "n": 2}]
    return cli


@pytest.fixture
def letters(made_letters: CommandLine, tmp_path: Path) -> CommandLine:
    """A stream with a letter of each kind: one that is no JSON, one that the function cannot take."""
    return made_letters.copied(tmp_path)


def test_letters_are_listed_newest_first_with_where_from_and_why(letters: CommandLine) -> None:
    result = letters("stream", "dlq", "doubles")
    assert result.exit_code == 0
    told = letters("stream", "dlq", "doubles", "--json").object["letters"]
    assert {(one["kind"], one["step"], one["topic"], one["message_offset"]) for one in told} == {
        ("failed", "map_rows", "numbers", 1), ("undecodable", "decode", "numbers", 2),
    }  # fmt: skip
    assert "invalid literal for int()" in result.out
    assert letters("stream", "ls", "--json").object["streams"][0]["dead_letters"] == 2


def test_a_letter_is_shown_with_its_bytes_and_the_users_line(letters: CommandLine) -> None:
    told = letters("stream", "dlq", "doubles", "--json").object["letters"]
    offset = next(one["offset"] for one in told if one["kind"] == "failed")
    result = letters("stream", "dlq", "doubles", str(offset))
    assert 'value   {"id": 2, "n": "two"}' in result.stdout
    assert "pipelines/d.py" in result.stdout
    assert result.out.splitlines()[-1] == f"next: tidemill stream redrive d.doubles {offset}"
    assert letters("stream", "dlq", "doubles", "99").exit_code == 2


def test_an_edited_letter_goes_through_the_stream_and_is_never_sent_twice_without_asking(letters: CommandLine) -> None:
    told = letters("stream", "dlq", "doubles", "--json").object["letters"]
    offset = str(next(one["offset"] for one in told if one["kind"] == "failed"))
    unfit = letters("stream", "redrive", "doubles", offset, "--edit", '{"id": "two", "n": "2"}', "--yes")
    assert unfit.exit_code == 1
    assert 'The new value does not fit topic "numbers": id: ' in unfit.err
    sent = letters("stream", "redrive", "doubles", offset, "--edit", '{"id": 2, "n": "2"}', "--yes")
    assert sent.exit_code == 0, sent.err
    work(letters)
    assert messages(letters, "doubles") == [{"id": 1, "n": 2}, {"id": 2, "n": 4}]
    again = letters("stream", "redrive", "doubles", offset, "--yes")
    assert again.exit_code == 1
    assert "--again" in again.err
    shown = letters("stream", "dlq", "doubles", "--json").object["letters"]
    assert {str(one["offset"]): len(one["redriven"]) for one in shown}[offset] == 1, "the letter stays"
    assert letters("stream", "redrive", "doubles", offset, "--again", "--yes").exit_code == 0


def test_all_means_those_that_were_not_sent_yet_and_is_shown_before(letters: CommandLine) -> None:
    shown = letters("stream", "redrive", "doubles", "--all", "--dry-run", "--json").object
    assert (len(shown["would_send"]), shown["sent"]) == (2, [])
    asked = letters("stream", "redrive", "doubles", "--all", given="n\n")
    assert asked.exit_code == 130
    assert letters("stream", "redrive", "doubles", "--all", "--yes").exit_code == 0
    assert letters("stream", "redrive", "doubles", "--all", "--json").object["sent"] == []
    work(letters)
    assert len(letters("stream", "dlq", "doubles", "--json").object["letters"]) == 4, "they fail again: new letters"


def test_each_that_can_be_sent_is_sent_and_of_others_it_is_told_why(letters: CommandLine) -> None:
    offset = letters("stream", "dlq", "doubles", "--json").object["letters"][0]["offset"]
    assert letters("stream", "redrive", "doubles", str(offset), "99", "--yes").exit_code == 2, "none is sent"
    shown = letters("stream", "redrive", "doubles", str(offset), "99", "--each", "--dry-run")
    assert [line.split()[:3] for line in shown.out.splitlines()] == [
        ["would", "send", str(offset)], ["left", "out", "99"]
    ]  # fmt: skip
    done = letters("stream", "redrive", "doubles", str(offset), "99", "--each", "--json").object
    assert (done["sent"], [one["offset"] for one in done["refused"]]) == ([offset], [99])


def test_an_edit_with_the_columns_of_the_key_writes_the_key_anew(cli: CommandLine) -> None:
    cli.write("pipelines/d.py", DOUBLES.replace('key="id")', 'key="id", key_codec="json", partitions=4)'))
    assert cli("stream", "feed", "numbers", "-", given='{"id": 1, "n": "1"}').exit_code == 0
    with care_of(cli.folder) as care:
        writer = care.topics.writer("other")
        writer.send("numbers", [b'{"n": "2"}'], keys=[b"two"], partitions=3)
        writer.commit({})
    work(cli)
    (letter,) = cli("stream", "dlq", "doubles", "--json").object["letters"]
    assert (letter["kind"], letter["error"][:9]) == ("undecodable", "its key: ")
    assert cli("stream", "redrive", "doubles", "0", "--edit", '{"id": 2, "n": "2"}', "--yes").exit_code == 0
    work(cli)
    assert sorted(one["id"] for one in messages(cli, "doubles")) == [1, 2]
    sent = cli("stream", "peek", "numbers", "-n", "9", "--json").object["messages"]
    assert [one["partition"] for one in sent if one["key"] == '{"id":2}'] == [partition_of(b'{"id":2}', 4)]


@pytest.mark.parametrize("wrong", [[], ["0", "--all"], ["0", "1", "--edit", "x"]])
def test_redrive_wants_to_know_exactly_what(letters: CommandLine, wrong: list[str]) -> None:
    assert letters("stream", "redrive", "doubles", *wrong).exit_code == 2


# Beginning anew


@pytest.fixture(scope="module")
def made_cars(new_cli: NewCommandLine) -> CommandLine:
    cli = new_cli()
    cli.write("pipelines/cars.py", CARS)
    assert cli("stream", "feed", "telemetry", "-", given=lines(ROWS)).exit_code == 0
    work(cli)
    assert len(messages(cli, "means")) == 4
    return cli


@pytest.fixture
def cars(made_cars: CommandLine, tmp_path: Path) -> CommandLine:
    """Streams that have worked off all that was fed."""
    return made_cars.copied(tmp_path)


def test_rows_that_came_too_late_are_shown_and_said_to_be_of_no_use_to_send_again(cars: CommandLine) -> None:
    assert cars("stream", "feed", "telemetry", "-", given=lines([row(2)])).exit_code == 0
    work(cars)
    shown = cars("stream", "dlq", "means", "--late")
    assert "Sent again they would be late again." in shown.err
    (letter,) = cars("stream", "dlq", "means", "--late", "--json").object["letters"]
    assert (letter["step"], letter["value"], letter["row"]["car"]) == ("tumbling_window", None, "a")
    refused = cars("stream", "redrive", "means", str(letter["offset"]), "--yes")
    assert refused.exit_code == 1
    assert "Letter 0 is a row that came too late" in refused.err
    assert "tidemill stream reset cars.means" in refused.err


def test_a_reset_stream_makes_its_results_again_from_what_the_topics_hold(cars: CommandLine) -> None:
    before = messages(cars, "means")
    shown = cars("stream", "reset", "means", "--dry-run")
    assert "would read  telemetry[0]  from 0  instead of 6" in shown.out
    assert "would empty" in shown.out
    assert cars("stream", "lag", "means", "--json").object["cars.means"][0]["committed"] == 6, "nothing was done"
    assert cars("stream", "reset", "means", "--yes").exit_code == 0
    work(cars)
    assert messages(cars, "means") == before * 2, "the state is new: no row was counted twice"


def test_a_reset_to_the_end_forgets_what_was_begun(cars: CommandLine) -> None:
    assert cars("stream", "reset", "means", "--to", "latest", "--yes").exit_code == 0
    assert cars("stream", "feed", "telemetry", "-", given=lines([row(47), row(71)])).exit_code == 0
    work(cars)
    assert [(one["car"], one["n"]) for one in messages(cars, "means")[4:]] == [("a", 1)], "the row at 45 is forgotten"


@pytest.mark.parametrize(("to", "positions"), [("4", [4, 0]), ("2099-01-01", [6, 0]), ("latest", [6, 0])])
def test_a_reset_goes_to_an_offset_or_a_time(cars: CommandLine, to: str, positions: list[int]) -> None:
    told = cars("stream", "reset", "means", "--to", to, "--dry-run", "--json").object
    assert [one["offset"] for one in told["positions"]] == positions
    assert cars("stream", "reset", "means", "--to", "noon").exit_code == 2


def test_a_running_stream_is_not_reset(cars: CommandLine) -> None:
    with running(cars) as until:
        until(lambda care: care.told("cars.means"))
        with care_of(cars.folder) as care:
            plan = care.plan(care.find("means")[1])
            before = care.topics.committed("cars.means", [lag.partition for lag in care.lag("means")["cars.means"]])
            with pytest.raises(Exception, match="is running"):
                do_reset(plan_reset(plan, care.topics, care.stores, "earliest"), plan, care.topics, care.stores)
            after = care.topics.committed("cars.means", [lag.partition for lag in care.lag("means")["cars.means"]])
    assert before == after
    assert len(messages(cars, "means")) == 4


class Dies(Exception):
    """The process that resets is killed."""


@pytest.mark.parametrize("at", ["reset", "delete", "create"])
def test_a_reset_that_died_half_way_keeps_the_stream_from_going_on_with_half_a_state(
    cars: CommandLine, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    before = messages(cars, "means")
    with care_of(cars.folder) as care:
        plan = care.plan(care.find("means")[1])
        _interrupt(monkeypatch, care.topics, at)
        with pytest.raises(Dies):
            do_reset(plan_reset(plan, care.topics, care.stores, "earliest"), plan, care.topics, care.stores)
        monkeypatch.undo()
    if at != "create":  # then all is done but for topics, which the next process makes
        told = cars.process("stream", "run", "cars.means")
        assert told.exit_code == 1
        assert "tidemill stream reset cars.means" in told.stderr
        assert cars("stream", "reset", "means", "--yes").exit_code == 0
    work(cars)
    assert messages(cars, "means") == before * 2


def _interrupt(monkeypatch: pytest.MonkeyPatch, topics: Topics, at: str) -> None:
    """Die when a method is called that does something; looking whether the group has members is not that."""
    real = getattr(type(topics), at)

    calls: list[str] = []

    def dying(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(at)
        if at == "reset" and len(calls) == 1:
            return real(self, *arguments, **named)
        raise Dies

    monkeypatch.setattr(type(topics), at, dying)


# The past


def test_a_replay_shows_what_the_code_of_today_makes_and_touches_nothing(cars: CommandLine) -> None:
    before = cars("stream", "lag", "--json").object
    topics = cars("stream", "topics", "--json").object
    told = cars("stream", "replay", "means", "--from", "2000-01-01", "--json").object
    assert (told["messages"], told["rows"]) == (6, 4)
    assert [one["row"]["n"] for one in told["results"]] == [1, 1, 1, 1]
    assert {one["to"] for one in told["results"]} == {"means"}
    assert cars("stream", "topics", "--json").object == topics
    after = cars("stream", "lag", "--json").object
    assert after == before


def test_a_replay_goes_to_a_topic_of_choice(cars: CommandLine) -> None:
    result = cars("stream", "replay", "fast", "--from", "2000-01-01", "--until", "2100-01-01", "--to", "means")
    assert (result.exit_code, result.out) == (0, "")
    assert result.err == "6 messages gave 2 rows to means"
    assert len(messages(cars, "means")) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2100-01-01", "--until", "2000-01-01"], "the range is empty"),
        (["--from", "noon", "--until", "2000-01-01"], '"noon" is no time'),
        (["--from", "2000-01-01", "--until", "2100-01-01", "--to", "telemetry"], "reads \"telemetry\" itself"),
        (["--from", "2000-01-01", "--until", "2100-01-01", "--to", "meens"], 'did you mean "means"'),
    ],
)  # fmt: skip
def test_a_replay_that_makes_no_sense_is_refused(cars: CommandLine, arguments: list[str], said: str) -> None:
    result = cars("stream", "replay", "means", *arguments)
    assert result.exit_code == 2
    assert said.lower() in result.err.lower()


PAST = """
    import tidemill as tm

    c = tm.Pipeline("c")

    @c.source
    def past():
        for minute in range(10, 60, 10):
            yield {"at": f"2026-01-01T00:{minute}:00Z", "n": minute, "p": 0, "o": minute // 10 - 1}

    ticks = tm.topic("ticks", {"at": "timestamptz", "n": "long"}, time="at")

    @c.stream(ticks, to="timed", bootstrap=tm.whole("past", until="2026-01-01T00:30:00Z"))
    def timed(ticks):
        return ticks.select("n")

    @c.stream(ticks, to="numbered", bootstrap=tm.whole("past", partition="p", offset="o"))
    def numbered(ticks):
        return ticks.select("n")
"""


def test_a_replay_reads_the_table_that_is_the_past_before_the_topic(cli: CommandLine) -> None:
    cli.write("pipelines/c.py", PAST)
    assert cli("run", "c").exit_code == 0
    ticks = [{"at": f"2026-01-01T00:{minute}:01Z", "n": minute + 1} for minute in range(10, 60, 10)]
    assert cli("stream", "feed", "ticks", "-", given=lines(ticks)).exit_code == 0

    def replayed(name: str, *arguments: str) -> tuple[list[int], int]:
        told = cli("stream", "replay", name, "--json", *arguments).object
        return [one["row"]["n"] for one in told["results"]], told["messages"]

    assert replayed("timed", "--from", "2026-01-01T00:10:00Z") == ([10, 20, 31, 41, 51], 7)
    assert replayed("timed", "--from", "2026-01-01T00:05:00Z", "--until", "2026-01-01T00:15:00Z") == ([10], 1)
    with care_of(cli.folder) as care:
        care.topics.trim({Partition("ticks", 0): 5})
    assert cli("stream", "feed", "ticks", "-", given=lines([ticks[0]])).exit_code == 0
    assert replayed("numbered", "--from", "2026-01-01T00:30:00Z") == ([30, 40, 50, 11], 4)
