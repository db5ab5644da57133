"""Checks of streams: rows that fail are put aside with the names of what they fail, and each row is counted once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tidemill as tm
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.authoring import registry
from tidemill.flow.stream.facts import ProcessFacts
from tidemill.flow.stream.notes import position_of
from tidemill.flow.stream.observing import Observer
from tidemill.flow.stream.tally import MOST, Judge, Tally
from tidemill.model.errors import DefinitionError, RunFailed, UnknownName
from tidemill.ports.stream_engine import Judged
from tidemill.testing import StreamTest

COLUMNS = {"ts": "timestamptz", "car": "string", "speed": "double"}
NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


def telemetry(**options: Any) -> Any:
    return tm.topic("telemetry", COLUMNS, key="car", time="ts", partitions=2, **options)


def row(second: int = 1, car: str | None = "a", speed: float | None = 10.0) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:00:{second:02}Z", "car": car, "speed": speed}


def same(telemetry: Any) -> Any:
    return telemetry.select("car", "speed")


def made(function: Callable[..., Any] = same, topic: Any = None, **options: Any) -> Any:
    return tm.Pipeline("cars").stream(topic or telemetry(), to=tm.topic("out"), **options)(function)


def speeds(test: StreamTest) -> list[float]:
    test.checkpoint()
    return [one["speed"] for one in test.rows("out")]


# What becomes of rows


def test_a_row_that_fails_is_put_aside_with_all_that_it_fails() -> None:
    test = StreamTest(made(checks=[tm.not_null("car"), tm.expect(tm.col("speed") < 100, name="sane")]))
    test.feed("telemetry", [row(), row(speed=400.0), row(car=None, speed=500.0), row(speed=None)])
    assert sorted(map(str, speeds(test))) == ["10.0", "None"], "a row whose answer is null is left out of the check"
    both, one = sorted(test.dead_letters(), key=lambda letter: len(letter["error"]), reverse=True)
    assert (both["kind"], both["step"], both["error"]) == ("quarantined", "expect", "not_null(car); sane")
    assert (one["error"], one["row"]) == ("sane", {"car": "a", "speed": 400.0})
    assert (json.loads(one["value"])["speed"], one["topic"], one["offset"]) == (400.0, "telemetry", "1")


def test_severity_warn_counts_and_lets_rows_go_on() -> None:
    test = StreamTest(made(checks=[tm.between("speed", 0, 50, severity="warn", mostly=0.9)]))
    test.feed("telemetry", [row(speed=40.0), row(speed=60.0)])
    assert speeds(test) == [40.0, 60.0]
    assert (test.dead_letters(), test.checks()) == ([], {"between(speed, 0, 50)": (2, 1)})


def test_a_topics_checks_judge_what_the_stream_reads() -> None:
    def fast(telemetry: Any) -> Any:
        return telemetry.filter(tm.col("speed") > 20).select("speed")

    test = StreamTest(made(fast, telemetry(checks=[tm.col("car") != "x"])))
    test.feed("telemetry", [row(speed=30.0), row(car="x", speed=30.0), row(car="x")])
    assert speeds(test) == [30.0]
    assert len(test.dead_letters()) == 2, "also what the function would have left out"


@pytest.mark.parametrize(
    ("errors", "letters"), [({"expect": "skip"}, 0), ({"expect": "dead_letter"}, 1), ({"decode": "stop"}, 1)]
)
def test_what_becomes_of_such_rows_is_said_by_errors(errors: dict[str, str], letters: int) -> None:
    test = StreamTest(made(checks=[tm.not_null("car")], errors=errors))
    test.feed("telemetry", [row(car=None), row()])
    assert speeds(test) == [10.0]
    assert len(test.dead_letters()) == letters


def test_a_stream_that_is_to_stop_says_at_which_row_and_why() -> None:
    test = StreamTest(made(checks=[tm.not_null("car")], errors={"expect": "stop"}))
    with pytest.raises(RunFailed, match=r"stops at a row that fails \(message 0 of telemetry\[\d\]\): not_null\(car\)"):
        test.feed("telemetry", [row(car=None)])


def test_results_of_windows_are_judged_too_and_are_no_single_message() -> None:
    def counts(telemetry: Any) -> Any:
        return telemetry.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    test = StreamTest(made(counts, checks=[tm.between("n", 2)]))
    test.feed("telemetry", [row(1), row(2), row(11), row(21)])
    test.checkpoint()
    assert [one["n"] for one in test.rows("out")] == [2]
    (letter,) = test.dead_letters()
    assert "topic" not in letter
    assert letter["row"]["n"] == 1


def test_a_time_that_fails_closes_no_window() -> None:
    def counts(telemetry: Any) -> Any:
        return telemetry.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    test = StreamTest(made(counts, telemetry(checks=[tm.between("ts", "2020-01-01", "2030-01-01")])))
    test.feed("telemetry", [row(1), {"ts": "9999-01-01T00:00:00Z", "car": "a"}, row(2), row(11)])
    test.checkpoint()
    assert [one["n"] for one in test.rows("out")] == [2]
    assert test.late() == []


def test_a_value_that_cannot_be_judged_harms_no_other() -> None:
    test = StreamTest(made(checks=[tm.expect(tm.col("car").cast(int) > 0)]))
    test.feed("telemetry", [row(car="7"), row(car="x")])
    assert speeds(test) == [10.0]
    (letter,) = test.dead_letters()
    assert (letter["kind"], letter["step"]) == ("failed", "expect")


def test_expect_of_a_stream_adds_checks_as_that_of_a_table_does() -> None:
    stream = made(checks=[tm.not_null("car")])
    stream.expect(tm.col("speed") < 100, name="sane").expect(tm.not_null("car", severity="warn"))
    test = StreamTest(stream)
    test.feed("telemetry", [row(car=None), row(speed=200.0)])
    assert speeds(test) == [10.0]
    assert test.checks() == {"not_null(car)": (2, 1), "sane": (2, 1)}


# What is counted


@pytest.mark.parametrize("how", ["crash", "restart"])
@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_each_row_is_counted_once_whatever_dies_when(how: str, guarantee: str) -> None:
    test = StreamTest(made(checks=[tm.not_null("car")], guarantee=guarantee))
    test.feed("telemetry", [row(), row(car=None)])
    test.checkpoint()
    test.feed("telemetry", [row(), row(car=None), row()])
    getattr(test, how)()
    assert test.checks() == {"not_null(car)": (2, 1) if how == "crash" else (5, 2)}
    test.checkpoint()
    assert test.checks() == {"not_null(car)": (5, 2)}


def test_one_check_that_is_asked_at_several_places_is_one_sum() -> None:
    def both(telemetry: Any) -> Any:
        telemetry.filter(tm.col("speed") > 20).to_topic("fast")
        slow = telemetry.filter(tm.col("speed") <= 20)
        return telemetry.filter(tm.col("speed") > 20), slow

    test = StreamTest(made(both, checks=[tm.not_null("car")]))
    test.feed("telemetry", [row(), row(speed=30.0), row(car=None)])
    test.checkpoint()
    rows, failed = test.checks()["not_null(car)"]
    assert (rows, failed) == (3, 1)


def judges(*checks: Any) -> list[Judge]:
    return [Judge(1, place, "out", check) for place, check in enumerate(checks)]


def test_a_note_goes_on_where_another_process_was() -> None:
    known = judges(tm.not_null("car"), tm.not_null("speed"))
    first = Tally("1.0", known, None, NOW)
    first.add(Judged(1, ((10, 1), (10, 2))))
    note = first.note(NOW, told=False)
    second = Tally("1.0", known, note, NOW + timedelta(seconds=9))
    assert (second.key, second.found()) == (first.key, first.committed())
    other = Tally("1.0", judges(tm.not_null("car")), note, NOW)
    assert other.key[1] > first.key[1], "other checks begin a new life"
    assert [one.rows for one in other.found()] == [0]


def test_an_hour_begins_anew_only_when_the_one_before_was_told() -> None:
    tally = Tally("1.0", judges(tm.not_null("car")), None, NOW)
    later = NOW + timedelta(hours=1)
    tally.add(Judged(1, ((10, 1),)))
    tally.note(NOW, told=False)
    tally.committed()
    tally.add(Judged(1, ((5, 0),)))
    tally.note(later, told=False)
    assert [(one.hour.hour, one.rows) for one in tally.committed()] == [(12, 15)]
    tally.add(Judged(1, ((15, 1),)))
    tally.note(later, told=True)
    assert tally.news
    assert [(one.hour.hour, one.rows, one.failed) for one in tally.committed()] == [(13, 15, 1)]


def test_a_note_holds_as_many_checks_as_a_stage_may_have() -> None:
    from tidemill.ports.topic import LONGEST_NOTE

    tally = Tally("1.0", judges(*(tm.not_null(f"c{n}") for n in range(MOST))), None, NOW)
    tally.add(Judged(1, tuple((9_999_999_999, 9_999_999_999) for _ in range(MOST))))
    note = position_of(-(2**40), "i" * 40, tally.note(NOW, told=False)).note
    assert len(note) <= LONGEST_NOTE
    columns = {f"c{n}": "long" for n in range(MOST + 1)}

    def wide(t: Any) -> Any:
        return t

    stream = made(wide, tm.topic("wide", columns), checks=[tm.not_null(name) for name in columns])
    with pytest.raises(DefinitionError, match=f"{MOST} are the most"):
        StreamTest(stream)


def test_the_database_hears_of_each_hour_once(store: SqlMetadata) -> None:
    test = StreamTest(made(checks=[tm.not_null("car")]))
    test.clock.advance(timedelta(minutes=50))
    facts = ProcessFacts("cars.same", "one", "host", 1, NOW, NOW)

    def looked(seconds: float = 6) -> dict[int, tuple[int, int]]:
        test.clock.advance(seconds)
        test.work()
        observer.look(test.process)
        with store.read() as tx:
            return {one.hour.hour: (one.rows, one.failed) for _, one in tx.streams.counted("cars.same")}

    observer = Observer(store, facts, test.clock)
    test.feed("telemetry", [row(), row(car=None)])
    test.checkpoint()
    assert looked() == {0: (2, 1)}
    test.clock.advance(timedelta(minutes=20) - timedelta(seconds=6))
    test.process = test._begin()
    test.feed("telemetry", [row()])
    test.checkpoint()
    observer = Observer(store, facts, test.clock)
    assert sum(rows for rows, _ in looked().values()) == 3
    test.feed("telemetry", [row(car=None)])
    test.checkpoint()
    observer.look(test.process)
    observer.ended()
    with store.read() as tx:
        assert sum(one.rows for _, one in tx.streams.counted()) == 4
        assert sum(one.failed for _, one in tx.streams.counted()) == 2
    assert test.process.tallies.untold == {}


def test_checks_of_one_name_are_told_apart_by_whose_they_are() -> None:
    test = StreamTest(made(topic=telemetry(checks=[tm.not_null("car")]), checks=[tm.not_null("car")]))
    test.feed("telemetry", [row(), row(car=None)])
    test.checkpoint()
    assert test.checks("telemetry") == {"not_null(car)": (2, 1)}
    assert test.checks("cars.same") == {"not_null(car)": (1, 0)}


# What is refused


@pytest.mark.parametrize(
    ("check", "hint"),
    [
        (lambda: tm.unique("car"), "f.unique("),
        (lambda: tm.row_count(1), "f.tumbling_window("),
        (lambda: tm.references("car", "crm.cars"), "f.join_lookup("),
        (lambda: tm.fresh_within("ts", "1h"), "by its own age"),
        (lambda: tm.not_null("car", of="whole"), 'of="whole"'),
        (lambda: tm.not_null("car", mostly=0.5), 'severity="warn"'),
        (lambda: tm.not_null("car", max_failed=5), 'severity="warn"'),
    ],
)
def test_what_no_row_can_answer_by_itself_is_refused_with_what_does_it(check: Callable[[], Any], hint: str) -> None:
    for declare in (lambda: made(checks=[check()]), lambda: telemetry(checks=[check()])):
        registry.clear()
        with pytest.raises(DefinitionError) as error:
            declare()
        assert hint in (error.value.hint or "")
        assert "test_stream_checks.py" in (error.value.where or "")


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match='two checks named "not_null'):
        made(checks=[tm.not_null("car"), tm.not_null("car")])


def test_an_expression_over_several_rows_is_refused() -> None:
    with pytest.raises(DefinitionError, match="mean"):
        StreamTest(made(checks=[tm.col("speed") < tm.col("speed").mean()]))


def test_a_column_that_the_result_lacks_is_told_with_the_place_of_the_stream() -> None:
    with pytest.raises(UnknownName, match='column "sped"') as error:
        StreamTest(made(checks=[tm.not_null("sped")]))
    assert "test_stream_checks.py" in (error.value.where or "")


def test_results_that_change_cannot_be_judged() -> None:
    def totals(telemetry: Any) -> Any:
        return telemetry.group_by("car").agg(n=tm.agg.count())

    with pytest.raises(DefinitionError, match="expect: what comes before it gives results again"):
        StreamTest(made(totals, checks=[tm.not_null("car")]))
