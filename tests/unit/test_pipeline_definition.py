"""What a scheduler is told of a data-first pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.condition import FilesArrive, Published
from tidemill.model.definition import Definition, Kind
from tidemill.model.errors import DefinitionError
from tidemill.model.graph import Retry
from tidemill.plan.schedule import parse_timetable

HERE = Path(__file__).name


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


def shop(**options: Any) -> tm.Pipeline:
    p = tm.Pipeline("shop", "@daily", start="2026-01-01", **options)
    p.files("in/*.csv", name="orders", doc="as they come")

    @p.table(key="id", write="upsert")
    def clean(orders: Any, other=tm.whole("ref.countries")) -> Any:
        """Without doubles."""
        return orders

    clean.expect(tm.not_null("id"), tm.references("c", "ref.countries", "code"))
    return p


def test_a_task_for_each_step_of_each_table_with_what_it_reads_and_writes() -> None:
    made = shop().definition()
    assert (made.name, made.kind, made.schedule.text) == ("shop", Kind.TABLES, "@daily")
    assert {id_: node.upstream for id_, node in made.graph.nodes.items()} == {
        "extract.orders": (),
        "load.orders": ("extract.orders",),
        "build.clean": ("load.orders",),
        "check.clean": ("build.clean",),
    }
    assert {id_: (info.operator, info.inlets, info.outlets) for id_, info in made.tasks.items()} == {
        "extract.orders": ("extract", (), ()),
        "load.orders": ("load", (), ("shop.orders",)),
        "build.clean": ("build", ("shop.orders", "ref.countries"), ("shop.clean",)),
        "check.clean": ("check", ("shop.clean", "ref.countries"), ()),
    }
    assert [info.doc for info in made.tasks.values()] == ["as they come", "as they come"] + 2 * ["Without doubles."]
    assert all(HERE in info.place for info in made.tasks.values())
    assert HERE in made.place


def test_options_of_runs_and_tasks_arrive() -> None:
    made = shop(
        zone="Europe/London", catchup=True, max_active_runs=2, max_active_tasks=3, run_timeout="2h",
        deadline=timedelta(minutes=5), paused=True, owner="ann", tags="money", retries=2, retry_delay="30s",
        params={"n": 3, "when": None, "deep": {"a": [1]}}, doc="sells",
    ).definition()  # fmt: skip
    assert (made.zone, made.catchup, made.max_active_runs, made.max_active_tasks) == ("Europe/London", True, 2, 3)
    assert (made.run_timeout, made.deadline) == (timedelta(hours=2), timedelta(minutes=5))
    assert (made.paused, made.owner, made.tags, made.doc) == (True, "ann", ("money",), "sells")
    assert made.params == {
        "n": {"type": "integer", "default": 3},
        "when": {"default": None},
        "deep": {"type": "object", "default": {"a": [1]}},
    }
    assert {node.retry for node in made.graph.nodes.values()} == {Retry(2, timedelta(seconds=30))}
    assert Definition.from_json(made.as_json()) == made


def test_a_bookmark_makes_runs_wait_for_each_other() -> None:
    p = tm.Pipeline("p")

    @p.source
    def events(bookmark: Any) -> Any:
        yield {}

    assert p.definition().sequential
    assert not shop().definition().sequential


def test_what_a_pipeline_may_be_scheduled_by() -> None:
    other = tm.Pipeline("feed")
    table = other.files("x", name="t")
    p = tm.Pipeline("a", ["@daily", "0 12 * * 1"], zone="Europe/London")
    assert p.definition().schedule.timetable == parse_timetable(["@daily", "0 12 * * 1"], "Europe/London")
    assert p.definition().schedule.text == "@daily | 0 12 * * 1"
    assert tm.Pipeline("b", table).definition().schedule.on == Published("feed.t")
    both = Published("feed.t") & (Published("x.y") | Published("s3://b/k"))
    made = tm.Pipeline("c", both).definition().schedule
    assert (made.on, made.text, made.timetable) == (both, "feed.t and (x.y or s3://b/k)", None)
    made = tm.Pipeline("d", FilesArrive("in/*.csv")).definition().schedule
    assert (made.files, made.text) == (FilesArrive("in/*.csv"), "files in/*.csv")
    assert tm.Pipeline("e").definition().schedule.text == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [({"max_active_runs": 0}, "max_active_runs=0"), ({"max_active_tasks": True}, "max_active_tasks=True"),
     ({"retries": "two"}, "retries='two'"), ({"retries": -1}, "retries=-1"), ({"deadline": "soon"}, '"soon"'),
     ({"schedule": 5}, "5 is no schedule"), ({"schedule": ["@dayly"]}, "@dayly"), ({"zone": "Moon"}, '"Moon"')],
)  # fmt: skip
def test_a_wrong_option_is_told_with_its_place(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        tm.Pipeline("p", **options)
    assert told in caught.value.what
    assert HERE in str(caught.value.where)
    assert caught.value.hint
