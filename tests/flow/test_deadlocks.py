"""Writers of the metadata that meet in PostgreSQL: each waits for the other at most, and none for ever."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from harness.driving import chain, dag, define, queue
from harness.postgres import Postgres
from harness.project import Project
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.schedule_schema import pipelines
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.attempt import Attempt
from tidemill.flow.publish import PublishConflict
from tidemill.flow.shared import _begin_anew
from tidemill.model.branch import MAIN, TableConflict
from tidemill.model.run import RunState
from tidemill.model.table import TableName


@pytest.mark.postgres
def test_a_publish_and_a_run_that_begins_anew_do_not_wait_for_each_other(tmp_path: Path, postgres: Postgres) -> None:
    """Both give up tickets, and say that their pipeline has room: in the same order."""
    url = postgres.new_database()
    project = Project(tmp_path / "project", metadata_url=url)
    services, store = project.services, project.services.metadata
    assert isinstance(store, SqlMetadata)
    clock, table = services.clock, TableName("shop", "latest")
    definition = define(store, dag("shop", *chain("a")), clock)
    with store.session(writing=True) as session:
        row = {"project": session.project, "name": "shop", "definition_id": definition, "code_version": "c0de"}
        row |= {"file": "shop.py", "paused": False, "active": True, "next_at": None, "seen_at": clock.now()}
        session.add_all(session.insert(pipelines), [row])
    first, second = (queue(store, definition, "shop", clock, key) for key in ("one", "two"))
    with store.write() as tx:
        tx.refs.ticket(table, first.id, now=clock.now())
        batch = tx.batches.get(second.batch_id)
    assert batch is not None
    attempt = Attempt(services, project.pipeline().spec(), batch, second, {}, {}, 0)
    conflict = PublishConflict("batch-2", [TableConflict(table, "the branch changed rows by upsert")])

    def waits() -> bool:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        return bool(row and row[0])

    with ThreadPoolExecutor(1) as pool:
        with store.write() as tx:  # what a publish does, in its order
            tx.runs.check(first.id, first.fence)
            tx.refs.lock(MAIN)
            tx.refs.release_tickets(first.id)
            anew = pool.submit(_begin_anew, services, attempt.pipeline, attempt, conflict)
            until = time.monotonic() + 120
            while not waits():
                assert time.monotonic() < until
            tx.runs.move(first.id, first.fence, RunState.CANCELLED, now=clock.now())
        anew.result(30)
    with store.read() as tx:
        again = tx.runs.last(second.batch_id)
    assert again is not None
    assert again.state is RunState.QUEUED
    claimed = SqlRunStore(store, clock).claim("a", timedelta(seconds=15), 1)
    assert [run.id for run in claimed] == [again.id]
    with store.read() as tx:
        assert tx.refs.ticket_holder(table, clock.now()) == again.id
    project.close()
