"""Definitions, jobs and their ends survive the way through a database, a pipe or a broker."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tidemill.model.batch import Interval
from tidemill.model.condition import FilesArrive, Published, condition_json, read_condition
from tidemill.model.definition import Definition, Kind, Schedule, TaskInfo
from tidemill.model.errors import DefinitionError
from tidemill.model.graph import Graph, Lengths, Node, Retry, TriggerRule
from tidemill.model.instance import Deferred, Failed, Report, Rescheduled, Skipped, Succeeded
from tidemill.model.partition import Only, Parts, Rollup, Same, StartOf, Window
from tidemill.model.run import RunInfo, RunKind
from tidemill.plan.schedule import parse_timetable
from tidemill.ports.executor import Job, JobEnded, JobStarted
from tidemill.ports.jobs import dump_event, dump_job, load_event, load_job

LONDON = ZoneInfo("Europe/London")
NIGHT = Interval(datetime(2026, 10, 25, tzinfo=LONDON), datetime(2026, 10, 26, tzinfo=LONDON))


def _definition() -> Definition:
    a = Node("a", retry=Retry(2, timedelta(seconds=7), 2.0, jitter=0.5), timeout=timedelta(minutes=3), setup=True)
    mapped = Lengths((3,), ("a",), (("a",),), True, (("a", "a"),))
    b = Node("b", ("a",), TriggerRule.ONE_DONE, mapped=mapped, scope="g", limit=4)
    return Definition(
        "night",
        Kind.TASKS,
        Graph([a, b]),
        {"a": TaskInfo("bash", ("g", "h"), "why", labels={"b": "yes"}, callbacks=("failure",)), "b": TaskInfo()},
        Schedule(parse_timetable(["@daily", "0 12 * * 1"], "Europe/London"), (NIGHT,), True,
                 Published("x.y") & (Published("z") | Published("w")), FilesArrive("in/*"), True, True,
                 {"x.y": Rollup(StartOf("week", "Europe/London"), Window("week"), -1),
                  "z": Parts((Same(), Only(("q",))))},
                 "%Y-%m-%d", -1, "many"),
        "Europe/London", NIGHT.start, None, True, 3, 9, timedelta(hours=2), timedelta(hours=1), True, True, True,
        {"n": {"type": "integer", "default": 3}}, "dags/a.py", "dags/a.py:3", "doc", ("x",), "me", ("failure",),
    )  # fmt: skip


def test_a_definition_comes_back_equal():
    made = _definition()
    again = Definition.from_json(made.as_json())
    assert again == made
    assert again.graph.nodes == made.graph.nodes
    assert again.schedule == made.schedule
    assert again.tasks == made.tasks
    assert again.schedule.timetable == parse_timetable(["@daily", "0 12 * * 1"], "Europe/London")


def test_a_default_definition_is_small_and_comes_back():
    small = Definition("d", Kind.TABLES, Graph([Node("t")]), {"t": TaskInfo()})
    assert Definition.from_json(small.as_json()) == small
    assert set(small.as_json()) == {
        "name", "kind", "nodes", "tasks", "schedule", "zone", "catchup", "max_active_runs", "sequential", "absorb",
        "bookmarks_only", "paused",
    }  # fmt: skip


def test_conditions_combine_and_hold():
    condition = Published("a") & (Published("b") | Published("c"))
    assert condition.assets() == ("a", "b", "c")
    assert condition.holds({"a", "c"})
    assert not condition.holds({"b", "c"})
    assert read_condition(condition_json(condition)) == condition
    with pytest.raises(DefinitionError):
        read_condition({"none": []})


@pytest.mark.parametrize("conf", [{}, {"n": [1, None]}])
def test_a_job_comes_back_equal_with_its_zone(conf):
    run = RunInfo(4, 5, 1, "night", "c0de", "dags/a.py", RunKind.SCHEDULED, NIGHT, conf=conf)
    job = Job(4, 9, ("a", 3), 2, "default", datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=5), run, 1)
    again = load_job(dump_job(job))
    assert again == job
    assert again.run is not None
    assert again.run.interval is not None
    assert str(again.run.interval.start.tzinfo) == "Europe/London"
    assert load_job(dump_job(Job(1, 2, ("a", -1), 1, "q", job.until))).run is None


@pytest.mark.parametrize(
    "outcome",
    [None, Succeeded(3, ("x",)), Failed("no", False, timedelta(seconds=3)), Skipped(),
     Rescheduled(datetime(2026, 1, 1, tzinfo=UTC)), Deferred("at", {"moment": "x"}, timedelta(seconds=9))],
)  # fmt: skip
def test_an_end_comes_back_equal(outcome):
    ended = JobEnded(1, 2, ("a", -1), 3, outcome, Report((("return_value", "[1]"),), 3, 4, 0.5, "host:1"))
    assert load_event(dump_event(ended)) == ended
    started = JobStarted(1, 2, ("a", -1), 3)
    assert load_event(dump_event(started)) == started
