"""Compaction changes files and no rows, beside runs that are under way and before others that come again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.attempt import open_attempt
from tidemill.flow.compact import compact_tables
from tidemill.flow.maintain import vacuum
from tidemill.flow.publish import publish_run
from tidemill.flow.run import open_batch
from tidemill.flow.stage import Stage
from tidemill.flow.write import commit_rows
from tidemill.model.branch import MAIN
from tidemill.model.run import RunState
from tidemill.model.table import TableName
from tidemill.wiring.runner import keys_of

NOW = timedelta(0)
DAYS = [f"2026-01-{day:02d}" for day in range(1, 7)]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.close()


def shop(project: Project) -> Pipeline:
    """A source in two files a day, and an upserted table that mixes batches."""
    p = project.pipeline()
    p.files("feeds/{{ ds }}-*.csv", name="orders", partition="part")

    @p.table(key="id", write="upsert", partition="bucket(2, id)")
    def latest(orders: Any) -> Any:
        return orders

    folder = project.root / "feeds"
    folder.mkdir()
    for at, day in enumerate(DAYS):
        (folder / f"{day}-a.csv").write_text(f"id,part,n\n{at},x,{at}\n{at + 1},x,{at}\n")
        (folder / f"{day}-b.csv").write_text(f"id,part,n\n{at + 2},y,{at}\n")
    for day in DAYS:
        assert project.run(p, day).ok
    return p


def files(project: Project, table: str) -> int:
    name = TableName.parse(f"shop.{table}")
    with project.services.metadata.read() as tx:
        pointer = tx.refs.pointers(MAIN)[name]
    return len(project.services.catalog.scan(name, pointer).files)


def test_rows_stay_and_files_become_few(project: Project) -> None:
    """Batches of an append table keep files of their own."""
    shop(project)
    before = project.table("shop.latest"), project.table("shop.orders")
    many = files(project, "latest")
    done = {str(c.table): (c.before, c.after) for c in compact_tables(project.services, keep=NOW)}
    assert (project.table("shop.latest"), project.table("shop.orders")) == before
    assert done["shop.latest"] == (many, 2)
    assert files(project, "orders") == 2 * len(DAYS)
    assert {t for t in done if "orders" in t} <= {"shop.orders"}


def test_twice_is_once(project: Project) -> None:
    shop(project)
    compact_tables(project.services, keep=timedelta(days=1))
    assert compact_tables(project.services, keep=timedelta(days=1)) == []


def test_batches_are_replaced_as_before(project: Project) -> None:
    p = shop(project)
    compact_tables(project.services, keep=NOW)
    (project.root / "feeds" / f"{DAYS[2]}-a.csv").write_text("id,part,n\n2,x,99\n")
    assert project.run(p, DAYS[2], refetch=True).ok
    assert project.rows("select n from shop.orders where part = 'x' and n in (2, 99)") == [{"n": 99}]
    # Day 3 has the newest row of 2, day 4 that of 3.
    assert project.rows("select id, n from shop.latest where id in (2, 3) order by id") == [
        {"id": 2, "n": 99},
        {"id": 3, "n": 3},
    ]


def test_the_collector_takes_what_was_joined(project: Project) -> None:
    shop(project)
    before = project.table("shop.latest")
    compact_tables(project.services, keep=NOW)
    done = vacuum(project.services, grace=NOW, keep=NOW)
    assert done.deleted > 0
    assert project.table("shop.latest") == before


def test_a_run_under_way_publishes_onto_the_compacted_table(project: Project) -> None:
    """It forked before; its rows are rebased, none is lost (rule 4)."""
    p = shop(project)
    spec = p.spec()
    orders = spec.sources["orders"].table
    [key] = keys_of(spec, DAYS[3], project.services)
    batch = open_batch(project.services, spec, key)
    with open_attempt(project.services, spec, batch) as attempt:
        with Stage(attempt, orders) as stage:
            schema = project.services.catalog.load(orders.name, attempt.fork[orders.name]).schema
            stage.write_rows([{"id": 50, "part": "x", "n": 50}], schema.without(("_batch_id", "_loaded_at")))
            attempt.commit({orders.name: commit_rows(stage)})
        assert compact_tables(project.services, keep=NOW)
        with project.services.metadata.write() as tx:
            tx.runs.move(attempt.run.id, attempt.run.fence, RunState.PUBLISHING, now=project.services.clock.now())
        publish_run(attempt, {})
    assert project.rows("select id from shop.orders where n = 50") == [{"id": 50}]
    assert project.rows("select count(*) as n from shop.orders where n = 3") == [{"n": 0}]


def test_the_collector_leaves_alone_what_a_compaction_is_writing(project: Project) -> None:
    """Nothing refers to its files until the swap; a vacuum without grace beside it must not take them."""
    shop(project)
    name = TableName.parse("shop.latest")
    services = project.services
    real = services.catalog.expire
    seen = []

    def vacuum_first(*args: Any, **options: Any) -> str:
        if args[0] == name:
            seen.append(vacuum(services, grace=NOW, keep=NOW))
        return real(*args, **options)

    before = project.table("shop.latest")
    services.catalog.expire = vacuum_first  # type: ignore[method-assign]  # the moment between writing and the swap
    compact_tables(services, keep=NOW)
    assert seen
    assert project.table("shop.latest") == before
