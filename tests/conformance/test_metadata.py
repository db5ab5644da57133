"""Promises of the port `metadata`: its transactions, what they keep apart, and what its errors say."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.postgres import Postgres
from harness.records import DELAYS, FLIGHTS, MINUTE, START, check_record, day, manifest, start_run
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.branch import MAIN, RefKind
from tidemill.model.errors import Conflict, DefinitionError, Refused, SettingsError, UnknownName, Unreachable
from tidemill.model.run import Read, TaskState
from tidemill.ports.metadata import View
from tidemill.testing.clock import ManualClock

OpenStore = Callable[..., SqlMetadata]


class Deliberate(Exception):
    pass


def write_to_every_store(store: SqlMetadata, clock: ManualClock) -> None:
    """One transaction that changes something in each store."""
    now = clock.now()
    with store.write() as tx:
        batch = tx.batches.open(day(0), now)
        run = tx.runs.start(batch.id, holder="here:1:0", now=now, lease_until=now + MINUTE)
        tx.runs.set_task(run.id, run.fence, "load", TaskState.RUNNING, now=now, rows=3)
        tx.runs.add_reads(run.id, [Read("flights.departures", 7, "batch")])
        tx.refs.create("work", RefKind.RUN, now=now, pointers={FLIGHTS: "p1"}, run_id=run.id)
        tx.refs.swap(MAIN, DELAYS, None, "d1")
        tx.refs.set_view(MAIN, FLIGHTS, "select 1")
        tx.refs.log(MAIN, "publish", now=now, changes={DELAYS: (None, "d1")}, batch_id=batch.id, run_id=run.id)
        tx.refs.ticket(FLIGHTS, run.id, now=now)
        tx.bookmarks.swap("flights", "feed", 0, {"page": 2}, batch.id)
        tx.archive.add(manifest(batch.id))
        tx.leases.acquire("reader", [(FLIGHTS, "p1")], now + MINUTE)
        tx.leases.doom(["a/b.parquet"], now)
        tx.checks.add([check_record(run)])
        tx.events.add("published", {"batch": batch.id}, now)


def everything(store: SqlMetadata, clock: ManualClock) -> dict[str, object]:
    """What each store holds, as far as it is not what a new project has."""
    with store.read() as tx:
        held = {
            "batches": tx.batches.recent(),
            "runs": tx.runs.recent(),
            "tasks": [task for run in tx.runs.recent() for task in tx.runs.tasks(run.id)],
            "reads": [read for run in tx.runs.recent() for read in tx.runs.reads(run.id)],
            "refs": [ref for ref in tx.refs.all() if ref.name != MAIN or ref.head],
            "pointers": tx.refs.pointers(MAIN) | tx.refs.pointers("work"),
            "bases": tx.refs.bases("work"),
            "views": tx.refs.views(MAIN),
            "commits": tx.refs.commits(MAIN),
            "past": tx.refs.pointers_at(MAIN, clock.now()),
            "ticket": tx.refs.ticket_holder(FLIGHTS, clock.now()),
            "bookmark": tx.bookmarks.get("flights", "feed").value,
            "archive": tx.archive.recent(),
            "leases": tx.leases.live(clock.now()),
            "doomed": tx.leases.doomed(clock.now() + MINUTE),
            "checks": tx.checks.recent(),
            "events": list(tx.events.pending("published")),
        }
    return {name: value for name, value in held.items() if value}


def test_what_was_written_is_there_for_the_next_process(
    database: str, open_store: OpenStore, clock: ManualClock
) -> None:
    write_to_every_store(open_store(database), clock)
    assert len(everything(open_store(database), clock)) == 17


def test_an_exception_undoes_all_stores_together(store: SqlMetadata, clock: ManualClock) -> None:
    with pytest.raises(Deliberate), store.write() as tx:
        now = clock.now()
        batch = tx.batches.open(day(0), now)
        run = tx.runs.start(batch.id, holder="here:1:0", now=now, lease_until=now + MINUTE)
        tx.refs.create("work", RefKind.RUN, now=now, pointers={FLIGHTS: "p1"}, run_id=run.id)
        tx.refs.swap(MAIN, DELAYS, None, "d1")
        tx.refs.log(MAIN, "publish", now=now, changes={DELAYS: (None, "d1")})
        tx.bookmarks.swap("flights", "feed", 0, 1, batch.id)
        tx.archive.add(manifest(batch.id))
        tx.leases.acquire("reader", [], now + MINUTE)
        tx.leases.doom(["x"], now)
        tx.checks.add([check_record(run)])
        tx.events.add("published", {}, now)
        raise Deliberate
    assert everything(store, clock) == {}


def test_a_refused_step_undoes_the_steps_before_it(store: SqlMetadata, clock: ManualClock) -> None:
    with pytest.raises(Conflict), store.write() as tx:
        tx.refs.swap(MAIN, FLIGHTS, None, "p1")
        tx.refs.swap(MAIN, DELAYS, "somewhere", "d1")
    assert everything(store, clock) == {}


def test_a_read_is_one_snapshot_of_the_moment_it_began(
    database: str, open_store: OpenStore, clock: ManualClock
) -> None:
    reader, writer = open_store(database), open_store(database)
    with reader.read() as snapshot:
        write_to_every_store(writer, clock)
        assert snapshot.batches.recent() == []
        assert snapshot.refs.pointers(MAIN) == {}
        write_to_every_store(open_store(database, "another"), clock)
        assert snapshot.refs.get("work") is None
        assert snapshot.events.pending("published") == []
    assert everything(reader, clock) != {}


def test_a_reader_does_not_wait_for_a_writer_and_sees_nothing_unfinished(
    store: SqlMetadata, clock: ManualClock
) -> None:
    with store.write() as tx:
        tx.refs.swap(MAIN, FLIGHTS, None, "p1")
        assert everything(store, clock) == {}
    assert everything(store, clock) == {"pointers": {FLIGHTS: "p1"}}


def test_a_read_transaction_cannot_write(store: SqlMetadata, clock: ManualClock) -> None:
    with store.read() as tx:
        with pytest.raises(AssertionError, match="write"):
            tx.events.add("published", {}, clock.now())
        with pytest.raises(AssertionError, match="write"):
            tx.refs.swap(MAIN, FLIGHTS, None, "p1")


def test_a_write_within_a_write_is_a_defect_that_is_told_at_once(store: SqlMetadata, clock: ManualClock) -> None:
    with pytest.raises(AssertionError, match="wait for itself"), store.write(), store.write():
        pass
    with store.write() as tx:  # and the store goes on working
        tx.events.add("published", {}, clock.now())


def test_projects_in_one_database_see_nothing_of_each_other(
    database: str, open_store: OpenStore, clock: ManualClock
) -> None:
    mine, theirs = open_store(database, "mine"), open_store(database, "theirs")
    write_to_every_store(mine, clock)
    assert everything(theirs, clock) == {}
    assert all(theirs.rows(table)[1] == [] for table in ("batches", "runs", "tasks", "checks", "files"))
    write_to_every_store(theirs, clock)  # the same names, keys and branches
    with mine.read() as tx:
        (batch,), (run,), (lease,) = tx.batches.recent(), tx.runs.recent(), tx.leases.live(clock.now())
        (event,) = tx.events.pending("published")
    with theirs.write() as tx:
        assert tx.batches.get(batch.id) is None
        assert tx.runs.get(run.id) is None
        assert tx.runs.tasks(run.id) == []
        assert tx.archive.get(batch.id, "feed") is None
        with pytest.raises(UnknownName):
            tx.runs.start(batch.id, holder="x", now=clock.now(), lease_until=clock.now())
        with pytest.raises(Conflict):
            tx.runs.check(run.id, run.fence)
        with pytest.raises(Conflict):
            tx.leases.renew(lease.id, clock.now() + 9 * MINUTE)
        tx.leases.release(lease.id)
        tx.events.done(event.id, clock.now())
        tx.leases.pardon(["a/b.parquet"])
        tx.refs.release_tickets(run.id)
    assert len(everything(mine, clock)) == 17


def test_threads_share_a_store(store: SqlMetadata, clock: ManualClock) -> None:
    batch, _ = start_run(store, clock)

    def count() -> None:
        for _ in range(10):
            while True:
                with store.read() as tx:
                    seen = tx.bookmarks.get("flights", "feed")
                try:
                    with store.write() as tx:
                        tx.bookmarks.swap("flights", "feed", seen.version, seen.version + 1, batch.id)
                    break
                except Conflict:
                    continue

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert tx.bookmarks.get("flights", "feed").value == 40


def test_a_write_that_waits_too_long_for_another_is_a_conflict_that_may_be_retried(
    database: str, open_store: OpenStore
) -> None:
    patient, hasty = open_store(database), open_store(database, lock_wait=0.1)
    with patient.write() as tx:
        tx.refs.lock(MAIN)
        with pytest.raises(Conflict, match="Another writer was in the way") as caught, hasty.write() as other:
            other.refs.lock(MAIN)
    assert caught.value.retryable
    with hasty.write() as other:
        other.refs.lock(MAIN)


aware = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones() | st.just(UTC), allow_imaginary=False
)


@settings(max_examples=few(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments=st.lists(aware, min_size=1, max_size=5))
def test_times_come_back_exact_to_the_microsecond_aware_and_in_utc(store: SqlMetadata, moments: list[datetime]) -> None:
    with store.write() as tx:
        ids = [tx.events.add("tick", {}, moment) for moment in moments]
    with store.write() as tx:
        found = {event.id: event.at for event in tx.events.pending("tick", limit=10_000)}
        for event_id in found:
            tx.events.done(event_id, START)
    # A time that its zone has twice equals none of another zone, says Python (PEP 495): so in one zone.
    assert [found[i] for i in ids] == [moment.astimezone(UTC) for moment in moments]
    assert all(at.utcoffset() == timedelta(0) for at in found.values())


@settings(max_examples=few(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noted=aware, apart=st.integers(-3, 3))
def test_times_compare_exactly_to_the_microsecond(store: SqlMetadata, noted: datetime, apart: int) -> None:
    limit = noted.astimezone(UTC) + apart * timedelta(microseconds=1)
    with store.write() as tx:
        tx.leases.doom(["x"], noted)
        assert (tx.leases.doomed(limit) == ["x"]) == (apart > 0)
        tx.leases.pardon(["x"])


def test_text_that_no_database_stores_is_kept_readable(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        tx.runs.set_task(
            run.id, run.fence, "load", TaskState.RUNNING, now=clock.now(), error="line 3: \x00 and \udcff, é"
        )
        tx.events.add("note", {"raw": "a\x00b"}, clock.now())
    with store.read() as tx:
        assert tx.runs.tasks(run.id)[0].error == "line 3: ␀ and \\udcff, é"
        assert tx.events.pending("note")[0].payload == {"raw": "a\x00b"}


@pytest.mark.parametrize("value", [START, float("nan"), {1, 2}])
def test_a_bookmark_that_is_not_json_is_told_as_the_users_mistake(
    store: SqlMetadata, clock: ManualClock, value: object
) -> None:
    batch, _ = start_run(store, clock)
    with pytest.raises(DefinitionError, match="cannot be kept as JSON") as caught, store.write() as tx:
        tx.bookmarks.swap("flights", "feed", 0, value, batch.id)  # type: ignore[arg-type]
    assert caught.value.hint is not None


def test_a_record_of_what_does_not_exist_is_refused(store: SqlMetadata, clock: ManualClock) -> None:
    with pytest.raises(Refused, match="does not exist"), store.write() as tx:
        tx.archive.add(manifest(batch_id=999))


def test_system_tables_have_their_columns_also_when_empty(store: SqlMetadata, clock: ManualClock) -> None:
    empty, none = store.rows("runs")
    assert none == []
    write_to_every_store(store, clock)
    full, (row,) = store.rows("runs")
    assert full == empty
    found = dict(zip(full.names, row, strict=True))
    assert (found["pipeline"], found["attempt"], found["state"], found["started_at"]) == (
        "flights",
        1,
        "running",
        START,
    )
    for table, count in {"batches": 1, "tasks": 1, "checks": 1, "files": 2}.items():
        schema, rows = store.rows(table)
        assert len(rows) == count
        assert all(len(row) == len(schema) for row in rows)
    schema, rows = store.rows("checks")
    assert rows[0][schema.names.index("table")] == "flights.departures"


def test_an_unknown_system_table_gets_a_suggestion(store: SqlMetadata) -> None:
    with pytest.raises(UnknownName, match="batchs") as caught:
        store.rows("batchs")
    assert caught.value.hint == 'did you mean "batches"?'


def test_a_server_that_does_not_answer_is_unreachable_and_the_message_has_no_password(clock: ManualClock) -> None:
    store = SqlMetadata("postgresql://me:s3cret@127.0.0.1:1/lake", "project", clock)
    for use in (store.migrate, lambda: store.rows("runs"), lambda: store.read().__enter__()):
        with pytest.raises(Unreachable, match="does not answer") as caught:
            use()
        assert caught.value.where == "127.0.0.1:1/lake"
        assert "s3cret" not in str(caught.value) + repr(store)


@pytest.mark.postgres
@pytest.mark.parametrize(("part", "wrong"), [("password", "wr0ng"), ("database", "nowhere"), ("user", "nobody")])
def test_a_wrong_login_is_a_wrong_setting(postgres: Postgres, clock: ManualClock, part: str, wrong: str) -> None:
    url = {
        "password": postgres.url().replace(postgres.password, wrong),
        "database": postgres.url("nowhere"),
        "user": postgres.url().replace("tidemill:", "nobody:"),
    }[part]
    with pytest.raises(SettingsError, match="cannot be used") as caught:
        SqlMetadata(url, "project", clock).migrate()
    assert caught.value.hint is not None
    assert postgres.password not in str(caught.value)
    assert part == "password" or wrong in str(caught.value)


@pytest.mark.postgres
def test_a_connection_that_is_lost_in_a_write_undoes_it_and_the_next_write_works(
    postgres: Postgres, open_store: OpenStore, clock: ManualClock
) -> None:
    url = postgres.new_database()
    store, other = open_store(url), open_store(url)
    store.migrate()
    with pytest.raises(Unreachable), store.write() as tx:
        tx.events.add("published", {}, clock.now())
        with other._engines.writer.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        tx.events.add("published", {}, clock.now())
    with store.write() as tx:
        assert tx.events.pending("published") == []
        tx.events.add("published", {}, clock.now())


@pytest.mark.postgres
def test_a_deadlock_is_broken_by_a_conflict_for_one_and_success_for_the_other(
    postgres: Postgres, open_store: OpenStore, clock: ManualClock
) -> None:
    store = open_store(postgres.new_database())
    store.migrate()
    with store.write() as tx:
        tx.refs.create("a", RefKind.BRANCH, now=clock.now(), pointers={})
        tx.refs.create("b", RefKind.BRANCH, now=clock.now(), pointers={})
    met, ends = threading.Barrier(2), []

    def lock(first: str, second: str) -> None:
        try:
            with store.write() as tx:
                tx.refs.lock(first)
                met.wait(10)
                tx.refs.lock(second)
            ends.append("done")
        except Conflict:
            ends.append("conflict")

    threads = [threading.Thread(target=lock, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["conflict", "done"]


def test_a_sqlite_file_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(SettingsError, match="unable to open"):
        SqlMetadata(f"sqlite:///{tmp_path}/no/such/folder/m.db", "project", clock).migrate()
    Path(tmp_path, "text.db").write_text("this is no database, however long it is " * 100)
    with pytest.raises(SettingsError, match="not a database"):
        SqlMetadata(f"sqlite:///{tmp_path}/text.db", "project", clock).migrate()


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///:memory:", "no url", "postgresql://h:x/d"])
def test_a_url_that_cannot_work_is_refused_before_anything_is_connected(url: str, clock: ManualClock) -> None:
    with pytest.raises(SettingsError) as caught:
        SqlMetadata(url, "project", clock)
    assert caught.value.hint is not None


@pytest.mark.parametrize("name", ["", "a@b", "a b", "ü", "x" * 101])
def test_a_project_name_that_would_not_fit_a_catalog_is_refused(name: str, clock: ManualClock) -> None:
    with pytest.raises(SettingsError, match="cannot name a project"):
        SqlMetadata("sqlite:///m.db", name, clock)


def test_a_temporary_store_is_the_same_store_and_leaves_nothing(clock: ManualClock) -> None:
    with SqlMetadata.temporary(clock) as store:
        write_to_every_store(store, clock)
        folder = Path(store._engines.where).parent
        assert folder.exists()
        with store.write() as tx:
            tx.refs.create("v", RefKind.BRANCH, now=START, pointers={}, views=[View(FLIGHTS, "select 2")])
            assert tx.refs.views("v")[FLIGHTS].sql == "select 2"
    assert not folder.exists()


def test_sqlite_keeps_what_was_committed_through_a_power_failure(tmp_path: Path, clock: ManualClock) -> None:
    """WAL with synchronous=FULL (2): each commit is on the disk before `write` returns."""
    with SqlMetadata(f"sqlite:///{tmp_path}/m.db", "project", clock) as store:
        store.migrate()
        with store._engines.writer.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert sqlite3.connect(f"{tmp_path}/m.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)
