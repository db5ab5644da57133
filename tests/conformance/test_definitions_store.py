"""Promises of the store `definitions`: what is known of pipelines between two readings of their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from harness.records import DAY, START, start_run
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.batch import Interval
from tidemill.model.condition import FilesArrive, Published
from tidemill.model.definition import Definition, Kind, Schedule, TaskInfo
from tidemill.model.errors import Refused, UnknownName
from tidemill.model.graph import Graph, Node
from tidemill.model.run import RunState
from tidemill.plan.schedule import parse_timetable
from tidemill.ports.definitions import Unreadable
from tidemill.testing.clock import ManualClock

OpenStore = Callable[..., SqlMetadata]
DAILY = Schedule(parse_timetable("@daily"), text="@daily")
LATER = START + timedelta(hours=1)


def named(name: str, **values: Any) -> Definition:
    return Definition(name, Kind.TASKS, Graph([Node("a")]), {"a": TaskInfo("bash")}, **{"schedule": DAILY, **values})


def broken(file: str, what: str = "SyntaxError: invalid syntax") -> Unreadable:
    return Unreadable(file, "DefinitionError", what, f"{file}:3", f"python {file}", START)


@pytest.fixture
def kept(store: SqlMetadata) -> SqlMetadata:
    """A store that knows file a.py with pipelines x and y, and b.py with z."""
    with store.write() as tx:
        tx.definitions.keep([named("x"), named("y")], "c1", "a.py", START)
        tx.definitions.keep([named("z", schedule=Schedule())], "c1", "b.py", START)
        for name in "xyz":
            tx.definitions.advance(name, None, None)
    return store


def names(store: SqlMetadata, **options: Any) -> list[str]:
    with store.read() as tx:
        return [record.name for record in tx.definitions.pipelines(**options)]


def test_what_a_file_makes_is_recorded_and_comes_back_equal(store: SqlMetadata) -> None:
    wanted = named("x", doc="why", tags=("a", "b"), params={"n": {"default": 3}})
    with store.write() as tx:
        assert tx.definitions.keep([wanted], "c1", "a.py", START) == ["x"]
    with store.read() as tx:
        record = tx.definitions.pipeline("x")
        assert record is not None
        assert (record.file, record.code, record.active, record.paused) == ("a.py", "c1", True, False)
        assert (record.newest, record.next_at, record.seen_at) == (None, START, START)
        assert tx.definitions.get(record.definition_id) == wanted
        assert tx.definitions.get_all([record.definition_id, 99]) == {record.definition_id: wanted}
        assert tx.definitions.get(99) is None
        assert tx.definitions.pipeline("y") is None


def test_an_unchanged_definition_keeps_its_id_and_its_place_in_time(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        before = tx.definitions.pipeline("x")
        tx.definitions.advance("x", None, LATER)
        assert tx.definitions.keep([named("x"), named("y")], "c2", "a.py", START + DAY) == []
        after = tx.definitions.pipeline("x")
    assert before is not None
    assert after == replace(before, code="c2", seen_at=START + DAY, next_at=LATER)


def test_a_changed_definition_is_due_at_once_and_what_was_done_stays(kept: SqlMetadata) -> None:
    newest = Interval(START, START + DAY)
    with kept.write() as tx:
        tx.definitions.advance("x", newest, START + 2 * DAY)
        tx.definitions.pause("x", True, START)
        before = tx.definitions.pipeline("x")
        assert tx.definitions.keep([named("x", doc="new"), named("y")], "c2", "a.py", LATER) == ["x"]
        after = tx.definitions.pipeline("x")
        assert before is not None
        assert after is not None
        assert after.definition_id != before.definition_id
        assert (after.next_at, after.newest, after.paused) == (LATER, newest, True)
        # What a run began with stays to be read, and a definition that comes back is the same again.
        assert tx.definitions.get(before.definition_id) == named("x")
        assert tx.definitions.keep([named("x"), named("y")], "c3", "a.py", LATER) == ["x"]
        again = tx.definitions.pipeline("x")
        assert again is not None
        assert again.definition_id == before.definition_id


@pytest.mark.parametrize(
    ("schedule", "by_time"),
    [(Schedule(), False), (DAILY, True), (Schedule(on=Published("a.b")), False),
     (Schedule(files=FilesArrive("in/*")), True), (Schedule(intervals=(Interval(START, LATER),)), True)],
)  # fmt: skip
def test_only_a_schedule_by_time_is_looked_at_by_time(store: SqlMetadata, schedule: Schedule, by_time: bool) -> None:
    with store.write() as tx:
        assert tx.definitions.keep([named("x", schedule=schedule)], "c1", "a.py", START) == ["x"]
        assert [record.name for record in tx.definitions.due(START)] == (["x"] if by_time else [])
        tx.definitions.advance("x", None, None)
        tx.definitions.pause("x", True, START)
        tx.definitions.pause("x", False, LATER)
        assert tx.definitions.next_due() == (LATER if by_time else None)


def test_a_pipeline_that_its_file_makes_no_longer_rests_and_comes_back(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        assert tx.definitions.keep([named("y")], "c2", "a.py", LATER) == []
    assert (names(kept), names(kept, active=False), names(kept, active=None)) == (["y", "z"], ["x"], ["x", "y", "z"])
    with kept.write() as tx:
        assert tx.definitions.keep([named("x"), named("y")], "c2", "a.py", LATER) == ["x"]
        assert [record.name for record in tx.definitions.due(LATER)] == ["x"]


def test_a_file_that_is_gone_takes_its_pipelines_along(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        tx.definitions.fail(broken("a.py"))
        assert tx.definitions.forget("a.py") == ["x", "y"]
        assert tx.definitions.forget("a.py") == []
        assert tx.definitions.errors() == []
        assert tx.definitions.files() == {"b.py"}
    assert names(kept) == ["z"]


def test_an_unreadable_file_leaves_its_pipelines_and_is_forgiven_when_it_can_be_read(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        tx.definitions.fail(broken("a.py", "first"))
        tx.definitions.fail(broken("a.py"))
        tx.definitions.fail(broken("c.py"))
        assert tx.definitions.errors() == [broken("a.py"), broken("c.py")]
        assert tx.definitions.files() == {"a.py", "b.py", "c.py"}
    assert names(kept) == ["x", "y", "z"]
    with kept.write() as tx:
        tx.definitions.keep([named("x"), named("y")], "c2", "a.py", LATER)
        assert tx.definitions.errors() == [broken("c.py")]


def test_an_error_may_quote_what_a_database_refuses(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.definitions.fail(broken("a.py", "bad \x00 and \udcff"))
        assert tx.definitions.errors()[0].what == "bad \N{SYMBOL FOR NULL} and \\udcff"


def test_a_name_belongs_to_the_file_that_has_it(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        with pytest.raises(Refused, match=r'Pipeline "x" is made by another file too: a\.py') as caught:
            tx.definitions.keep([named("new"), named("x", place="b.py:4")], "c2", "b.py", LATER)
        assert (caught.value.where, caught.value.hint) == ("b.py:4", "rename one of them")
    assert names(kept) == ["x", "y", "z"], "nothing of a refused file is recorded, and what it made stays"
    with kept.write() as tx:
        tx.definitions.forget("a.py")
        assert tx.definitions.keep([named("x"), named("z", schedule=Schedule())], "c2", "b.py", LATER) == ["x"]


def test_a_pipeline_may_move_between_two_files_that_are_read_together(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        done = tx.definitions.keep_all({"b.py": [named("x"), named("w")], "a.py": [named("y")]}, "c2", LATER)
        assert (done.changed, done.refused) == (("w", "x"), {})
        files = {record.name: record.file for record in tx.definitions.pipelines()}
    assert files == {"w": "b.py", "x": "b.py", "y": "a.py"}


def test_of_two_new_files_with_one_name_the_first_has_it(store: SqlMetadata) -> None:
    with store.write() as tx:
        done = tx.definitions.keep_all(
            {"a.py": [named("x")], "b.py": [named("x"), named("y")], "c.py": [named("z")]}, "c1", START
        )
    assert (done.changed, list(done.refused)) == (("x", "z"), ["b.py"])
    assert names(store) == ["x", "z"]


def test_a_new_version_is_that_of_every_pipeline_whose_file_can_be_read(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        tx.definitions.fail(broken("b.py"))
        tx.definitions.recode("c2")
        assert [(record.name, record.code) for record in tx.definitions.pipelines()] == [
            ("x", "c2"), ("y", "c2"), ("z", "c1"),
        ]  # fmt: skip
        assert tx.definitions.code_in_use() == {"c1", "c2"}


def test_a_version_is_in_use_while_a_run_of_it_has_not_ended(kept: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(kept, clock, code_version="old")
    with kept.write() as tx:
        assert tx.definitions.code_in_use() == {"c1", "old"}
        tx.runs.move(run.id, run.fence, RunState.FAILED, now=clock.now())
        assert tx.definitions.code_in_use() == {"c1"}


def test_paused_is_what_people_say_after_what_the_code_said_first(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.definitions.keep([named("x", paused=True), named("y")], "c1", "a.py", START)
        assert [record.name for record in tx.definitions.due(START)] == ["y"]
        tx.definitions.pause("x", False, LATER)
        tx.definitions.pause("y", True, LATER)
        tx.definitions.keep([named("x", paused=True, doc="new"), named("y", doc="new")], "c2", "a.py", LATER)
        assert [(record.name, record.paused) for record in tx.definitions.pipelines()] == [("x", False), ("y", True)]
        assert tx.definitions.next_due() == LATER


def test_pausing_what_is_paused_moves_nothing(kept: SqlMetadata) -> None:
    with kept.write() as tx:
        tx.definitions.pause("x", False, LATER)
        assert tx.definitions.next_due() is None
        with pytest.raises(UnknownName, match='no pipeline "xx"') as caught:
            tx.definitions.pause("xx", True, LATER)
    assert caught.value.hint is not None
    assert "did you mean" in caught.value.hint or "known: x, y, z" in caught.value.hint


def test_schedules_are_due_in_the_order_of_their_times(kept: SqlMetadata) -> None:
    newest = Interval(START, START + DAY)
    with kept.write() as tx:
        tx.definitions.advance("x", newest, START + 2 * DAY)
        tx.definitions.advance("y", None, LATER)
        assert tx.definitions.next_due() == LATER
        assert [record.name for record in tx.definitions.due(LATER)] == ["y"]
        assert [record.name for record in tx.definitions.due(START + 2 * DAY)] == ["y", "x"]
        tx.definitions.advance("x", None, LATER)
        found = tx.definitions.pipeline("x")
        assert found is not None
        assert (found.newest, found.next_at) == (newest, LATER)


def test_projects_in_one_database_do_not_see_each_other(database: str, open_store: OpenStore) -> None:
    first, second = open_store(database), open_store(database, "other")
    with first.write() as tx:
        tx.definitions.keep([named("x")], "c1", "a.py", START)
        tx.definitions.fail(broken("c.py"))
        record = tx.definitions.pipeline("x")
        assert record is not None
    with second.write() as tx:
        assert tx.definitions.get(record.definition_id) is None
        assert (tx.definitions.pipelines(), tx.definitions.errors(), tx.definitions.files()) == ([], [], frozenset())
        assert (tx.definitions.due(LATER), tx.definitions.next_due()) == ([], None)
        assert tx.definitions.keep([named("x")], "c9", "b.py", LATER) == ["x"]
        tx.definitions.forget("a.py")
        tx.definitions.recode("c10")
    with first.read() as tx:
        assert tx.definitions.pipeline("x") == record


def test_thousands_of_files_are_recorded_in_few_statements(store: SqlMetadata) -> None:
    files = {f"d/{n:05}.py": [named(f"p{n}")] for n in range(1_200)}
    sent: list[str] = []
    from sqlalchemy import event

    event.listen(store._engines.writer, "before_cursor_execute", lambda _c, _u, text, *_: sent.append(text))
    with store.write() as tx:
        assert len(tx.definitions.keep_all(files, "c1", START).changed) == 1_200
    first = len(sent)
    with store.write() as tx:
        assert tx.definitions.keep_all(files, "c1", START).changed == ()
    assert first < 25
    assert len(sent) - first < 15
    assert len(names(store)) == 1_200
