"""The life of a project on each metadata store: fail, repair, replay, revert, vacuum, and runs that race."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import create_branch, drop_branch, merge_branch, revert_batch
from tidemill.flow.maintain import vacuum
from tidemill.model.batch import BatchState
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.errors import Busy
from tidemill.model.expectation import between
from tidemill.model.run import RunState

NOW = timedelta(0)
DAYS = [f"2026-01-{day:02d}" for day in range(1, 5)]


class Shop:
    """A pipeline with a table of every write mode, and what its source gives by day."""

    def __init__(self, project: Project) -> None:
        self.feed = {day: [{"id": n, "day": f"d{n}", "price": 10 * n}] for n, day in enumerate(DAYS, 1)}
        self.pipeline: Pipeline = project.pipeline()
        p = self.pipeline

        @p.source
        def orders(interval: Any) -> Iterator[dict[str, Any]]:
            yield from self.feed[interval.ds]

        @p.table(key="id", write="upsert")
        def latest(orders: Any) -> Any:
            return orders

        @p.table(key="id", write="history", surrogate_key="version")
        def versions(orders: Any) -> Any:
            return orders

        p.sql(text='SELECT sum(price) AS price FROM {{ ref("latest") }}', name="total")
        p.expect("latest", [between("price", 0, 1000)])


def ids(project: Project, table: str = "latest", branch: str = MAIN) -> list[int]:
    return [r["id"] for r in project.rows(f"select id from shop.{table} order by id", branch=branch)]


def test_fail_repair_replay_revert_vacuum(stored: Project) -> None:
    shop = Shop(stored)
    p = shop.pipeline
    assert stored.run(p, DAYS[0]).ok
    good, shop.feed[DAYS[1]] = shop.feed[DAYS[1]], [{"id": 2, "day": "d2", "price": -1}]
    before = stored.pointers()
    failed = stored.run(p, DAYS[1])
    assert failed.state is RunState.FAILED
    assert stored.pointers() == before
    assert failed.branch is not None
    assert ids(stored, branch=failed.branch) == [1, 2]
    shop.feed[DAYS[1]] = good
    assert stored.run(p, DAYS[1], refetch=True).ok
    assert stored.run(p, DAYS[0], start=["latest"]).ok, "a replay from a task on"
    assert stored.run(p, DAYS[0]).ok, "a replay"
    for table in ("orders", "latest", "versions"):
        assert ids(stored, table) == [1, 2]
    revert_batch(stored.services, 2)
    for table in ("orders", "latest", "versions"):
        assert ids(stored, table) == [1]
    with stored.services.metadata.read() as tx:
        assert [b.state for b in tx.batches.recent()] == [BatchState.REVERTED, BatchState.PUBLISHED]
        assert [m.rows for m in tx.archive.recent(batch_id=2)] == [1, 1]
    done = vacuum(stored.services, grace=NOW, keep=NOW)
    assert done.deleted > 0
    assert stored.run(p, DAYS[1]).ok
    assert ids(stored) == [1, 2]
    assert len(stored.rows("select * from tidemill.files")) == 3


def test_branches_of_people(stored: Project) -> None:
    shop = Shop(stored)
    assert stored.run(shop.pipeline, DAYS[0]).ok
    for name in ("keep", "drop"):
        create_branch(stored.services, name)
    create_branch(stored.services, "v1", kind=RefKind.TAG)
    assert stored.run(shop.pipeline, DAYS[1]).ok
    assert ids(stored, branch="v1") == [1]
    drop_branch(stored.services, "drop")
    assert merge_branch(stored.services, "keep").moves == {}
    assert ids(stored) == [1, 2]


def test_runs_that_race_all_arrive(stored: Project) -> None:
    """Each replaces `total` and upserts into `latest`: they take turns, and the last sum is that of all."""
    shop = Shop(stored)
    assert stored.run(shop.pipeline, DAYS[0]).ok
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda day: stored.run(shop.pipeline, day), DAYS[1:]))
    assert [str(r.error) for r in reports if not r.ok] == []
    assert ids(stored) == [1, 2, 3, 4]
    assert ids(stored, "versions") == [1, 2, 3, 4]
    assert stored.rows("select count(*) as n from shop.orders") == [{"n": 4}]
    assert stored.rows("select price::int as price from shop.total") == [{"price": 100}]
    with stored.services.metadata.read() as tx:
        assert {b.state for b in tx.batches.recent()} == {BatchState.PUBLISHED}
        assert {r.state for r in tx.refs.all(kinds=[RefKind.RUN])} <= {RefState.MERGED, RefState.DROPPED}


def test_one_interval_has_one_live_run(stored: Project) -> None:
    shop = Shop(stored)
    refused: list[BaseException] = []
    begun = []

    @shop.pipeline.table
    def during(orders: Any) -> Any:
        if not begun:
            begun.append(True)
            with pytest.raises(Busy) as caught:
                stored.run(shop.pipeline, DAYS[0])
            refused.append(caught.value)
        return orders

    assert stored.run(shop.pipeline, DAYS[0]).ok
    assert len(refused) == 1
    assert ids(stored) == [1]
