"""Promises about the metadata database's schema: one truth on two ways, upgrades, what is refused, and indexes."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text

from harness.postgres import Postgres
from harness.records import FLIGHTS, START, check_record, day, manifest, start_run
from tidemill.adapters.sql import run_lists, upgrade
from tidemill.adapters.sql.engine import Engines, open_engines
from tidemill.adapters.sql.schema import REVISION, schema_for, version
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.access import Role, Tries, User
from tidemill.model.batch import BatchState
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.definition import Definition, Kind
from tidemill.model.errors import SettingsError
from tidemill.model.graph import Graph, Node
from tidemill.model.run import RunState, TaskState
from tidemill.ports.access import Access
from tidemill.ports.definitions import Unreadable
from tidemill.ports.metadata import Tx
from tidemill.testing.clock import ManualClock

OpenStore = Callable[..., SqlMetadata]


@pytest.fixture
def engines(empty_database: str) -> Engines:
    return open_engines(empty_database)


def made_by_migrations(engines: Engines, *, scripts: Path = upgrade.SCRIPTS, to: str = "head") -> None:
    with upgrade._alone(engines) as connection:
        upgrade.run_migrations(connection, scripts=scripts, to=to)


def definition(connection: Connection) -> set[tuple[Any, ...]]:
    """Every column, index and constraint, in the database's own words."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))
        return {
            (kind, name, " ".join(sorted(re.split(r"[\s,]+", sql.replace('"', "")))))
            for kind, name, sql in found
            if name != version.name
        }
    queries = (
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
    )
    rows = [tuple(row) for query in queries for row in connection.execute(text(query))]
    return {row for row in rows if row[0] != version.name}


def test_migrations_make_exactly_the_schema_that_the_code_declares(engines: Engines) -> None:
    made_by_migrations(engines)
    with engines.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": version.name})
        assert compare_metadata(context, schema_for(connection.dialect.name)) == []


def test_a_new_database_gets_the_same_schema_at_once_as_by_all_migrations(
    engines: Engines, open_store: OpenStore, backend: Postgres | None, tmp_path: Path
) -> None:
    url = backend.new_database() if backend else f"sqlite:///{tmp_path / 'at-once.db'}"
    open_store(url).migrate()
    made_by_migrations(engines)
    with engines.writer.connect() as slow, open_engines(url).writer.connect() as quick:
        assert definition(quick) == definition(slow)
        assert slow.execute(text("SELECT version_num FROM tidemill_version")).all() == [(REVISION,)]
        assert quick.execute(text("SELECT version_num FROM tidemill_version")).all() == [(REVISION,)]


def test_the_code_knows_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(upgrade.SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [REVISION]
    assert all(script.revision.isdecimal() for script in scripts.walk_revisions())


NEXT = f"{int(REVISION) + 1:04}"
LATER = f'''"""A later revision."""
from alembic import op
import sqlalchemy as sa
revision, down_revision = "{NEXT}", "{REVISION}"
def upgrade():
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("host", sa.Text(), nullable=False, server_default="?"))
        table.alter_column("holder", new_column_name="owner")
'''


def test_an_older_database_is_refused_then_upgraded_with_all_its_rows(
    empty_database: str, open_store: OpenStore, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rehearsal of the next release: this schema, a revision more, and rows that refer to each other."""
    store = open_store(empty_database)
    store.migrate()
    _, run = start_run(store, clock)
    scripts = tmp_path / "migrations"
    shutil.copytree(upgrade.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "v9999_later.py").write_text(LATER)
    monkeypatch.setattr(upgrade, "REVISION", NEXT)
    with (
        pytest.raises(SettingsError, match=f"has schema {REVISION}; this Tidemill needs {NEXT}") as caught,
        store.read(),
    ):
        pass
    assert caught.value.hint == "tidemill doctor --migrate"
    engines = open_engines(empty_database)
    made_by_migrations(engines, scripts=scripts)
    with engines.writer.connect() as connection:
        assert connection.execute(text("SELECT id, owner, host FROM runs")).all() == [(run.id, "here:1:0", "?")]
        assert connection.execute(text("SELECT version_num FROM tidemill_version")).all() == [(NEXT,)]
        if engines.sqlite:
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_tasks_of_the_first_schema_are_instances_of_the_second(empty_database: str) -> None:
    engines = open_engines(empty_database)
    made_by_migrations(engines, to="0001")
    with engines.writer.connect() as connection, connection.begin():
        for statement in (
            "INSERT INTO batches (project, pipeline, run_key, state, created_at)"
            " VALUES ('p', 'f', 'k', 'open', '2026-01-01 00:00:00.000000')",
            "INSERT INTO fences (project, purpose, at) VALUES ('p', 'batch 1', '2026-01-01 00:00:00.000000')",
            "INSERT INTO runs (project, batch_id, attempt, state, fence, created_at)"
            " VALUES ('p', 1, 1, 'failed', 1, '2026-01-01 00:00:00.000000')",
            "INSERT INTO tasks (run_id, task, state, tries) VALUES (1, 'load.a', 'failed', 2)",
        ):
            connection.execute(text(statement))
    made_by_migrations(engines)
    with engines.writer.connect() as connection:
        found = connection.execute(text("SELECT task, map_index, tries, failed, lost FROM tasks")).all()
        assert found == [("load.a", -1, 2, 0, 0)]
        assert connection.execute(text("SELECT id, state, kind, cancel_at FROM runs")).all() == [
            (1, "failed", None, None)
        ]


def test_a_failed_migration_changes_nothing(engines: Engines, tmp_path: Path) -> None:
    made_by_migrations(engines)
    scripts = tmp_path / "migrations"
    shutil.copytree(upgrade.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "v9999_later.py").write_text(LATER + "    raise RuntimeError('out of luck')\n")
    with engines.writer.connect() as connection:
        before = definition(connection)
    with pytest.raises(RuntimeError, match="out of luck"):
        made_by_migrations(engines, scripts=scripts)
    with engines.writer.connect() as connection:
        assert definition(connection) == before
        assert connection.execute(text("SELECT version_num FROM tidemill_version")).all() == [(REVISION,)]


def test_a_newer_database_is_refused_by_every_door(empty_database: str, open_store: OpenStore) -> None:
    store = open_store(empty_database)
    store.migrate()
    with store.write() as tx:
        assert tx.refs.get(MAIN) is not None
    with open_engines(empty_database).writer.begin() as connection:
        connection.execute(text("UPDATE tidemill_version SET version_num = '9999'"))
    for use in (store.migrate, lambda: store.rows("runs"), store.read().__enter__, store.write().__enter__):
        with pytest.raises(SettingsError, match="schema 9999, newer than this Tidemill knows") as caught:
            use()
        assert caught.value.hint == "pip install --upgrade tidemill"


def test_a_database_without_tables_is_refused_with_the_command_to_run(
    empty_database: str, open_store: OpenStore
) -> None:
    store = open_store(empty_database)
    for use in (lambda: store.rows("runs"), store.read().__enter__, store.write().__enter__):
        with pytest.raises(SettingsError, match="no tables of Tidemill yet") as caught:
            use()
        assert caught.value.hint == "tidemill doctor --migrate"
    store.migrate()
    store.migrate()
    assert store.rows("runs")[1] == []


def test_a_new_sqlite_file_that_another_process_is_making_is_waited_for(tmp_path: Path, open_store: OpenStore) -> None:
    """SQLite itself gives up at once when it cannot switch a file to WAL, whatever the time-out."""
    for begin in ("BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"):
        path = tmp_path / f"{begin}.db"
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute(begin)
        other.execute("CREATE TABLE theirs (x)")
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        open_store(f"sqlite:///{path}").migrate()
        release.join()
        other.close()


def test_another_applications_table_of_the_same_name_is_not_adopted(
    empty_database: str, open_store: OpenStore, engines: Engines
) -> None:
    with engines.writer.begin() as connection:
        connection.execute(text("CREATE TABLE events (what TEXT)"))
    with pytest.raises(SettingsError, match="tables of another application"):
        open_store(empty_database).migrate()
    with engines.writer.connect() as connection:
        assert {name for name, *_ in definition(connection)} <= {"table", "events"}, "and nothing else was made"


def test_a_current_database_is_opened_without_alembic_and_postgresqls_dialect(tmp_path: Path) -> None:
    """Alembic takes 250 ms to import, PostgreSQL's dialect 110: neither is for a laptop's SQLite file."""
    code = f"""
import sys
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.testing.clock import ManualClock
with SqlMetadata("sqlite:///{tmp_path}/m.db", "project", ManualClock()) as store:
    store.migrate()
    store.migrate()
    with store.write() as tx:
        tx.events.add("published", {{}}, ManualClock().now())
loaded = {{"alembic", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "psycopg", "pyiceberg"}} & set(sys.modules)
print(sorted(loaded))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_lookup_of_the_port_uses_an_index(tmp_path: Path, clock: ManualClock) -> None:
    """Asked of SQLite's planner for each statement that the stores send; a scan of a table would be told as SCAN."""
    sent: list[tuple[str, Any]] = []
    with SqlMetadata(f"sqlite:///{tmp_path}/m.db", "project", clock) as store:
        store.migrate()

        @event.listens_for(store._engines.writer, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
            sent.append((statement, parameters[0] if many else parameters))

        use_every_lookup(store, clock)
        for table in ("batches", "runs", "tasks", "checks", "files", "stream_checks"):
            store.rows(table)
    lookups = {
        statement: parameters
        for statement, parameters in sent
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE") and "tidemill_version" not in statement
    }
    assert len(lookups) > 50
    connection = sqlite3.connect(tmp_path / "m.db")
    scans = {
        (plan[3], statement)
        for statement, parameters in lookups.items()
        for plan in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)
        if re.match(r"SCAN (?!anon_\d)", plan[3]) and "USING" not in plan[3]
    }
    assert scans == set()


def test_runs_of_a_stretch_of_time_are_found_in_one_index(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are newer: no row of theirs is read, and none of their batches."""
    monkeypatch.setattr(run_lists, "_FEW", 0)  # as where the stretch is a long one
    sent: list[tuple[str, Any]] = []
    with SqlMetadata(f"sqlite:///{tmp_path}/m.db", "project", clock) as store:
        store.migrate()
        batch, run = start_run(store, clock)
        event.listen(
            store._engines.reader, "before_cursor_execute",
            lambda _c, _cursor, statement, parameters, _context, _many: sent.append((statement, parameters)),
        )  # fmt: skip
        assert batch.key.interval is not None
        with store.read() as tx:
            found = tx.runs.listed(until=batch.key.interval.end, limit=50)
            assert [one.run.id for one in found] == [run.id]
            assert tx.runs.listed(until=batch.key.interval.start, limit=50) == []
    connection = sqlite3.connect(tmp_path / "m.db")
    plans = {
        plan[3]
        for statement, parameters in sent
        if "interval_start <" in statement and "ORDER BY runs.id" in statement
        for plan in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)
    }
    assert plans == {"SEARCH runs USING COVERING INDEX ix_runs_project_id_interval_start (project=?)"}


def test_tasks_that_wait_are_found_without_a_look_at_the_runs_of_the_past(tmp_path: Path, clock: ManualClock) -> None:
    """The planner of SQLite would ask each run of the project: a third of a second for a million."""
    sent: list[tuple[str, Any]] = []
    with SqlMetadata(f"sqlite:///{tmp_path}/m.db", "project", clock) as store:
        store.migrate()
        event.listen(
            store._engines.reader, "before_cursor_execute",
            lambda _c, _cursor, statement, parameters, _context, _many: sent.append((statement, parameters)),
        )  # fmt: skip
        with store.read() as tx:
            assert tx.runs.deferred() == []
    ((statement, parameters),) = [one for one in sent if "'deferred'" in one[0]]
    plan = sqlite3.connect(tmp_path / "m.db").execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()
    assert [step[3] for step in plan] == [
        "SCAN tasks USING INDEX ix_tasks_deferred", "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)"
    ]  # fmt: skip


def look_up_definitions(tx: Tx, now: datetime) -> None:
    made = Definition("flights", Kind.TABLES, Graph([Node("a")]))
    for doc in ("", "new", "new"):
        tx.definitions.keep([replace(made, doc=doc)], "c1", "a.py", now)
    tx.definitions.keep([replace(made, name="weather")], "c1", "a.py", now)
    tx.definitions.keep([made], "c1", "b.py", now)
    tx.definitions.fail(Unreadable("c.py", "DefinitionError", "what", None, None, now))
    tx.definitions.recode("c2")
    tx.definitions.recode("c3", ["b.py"])
    tx.definitions.code_in_use()
    tx.definitions.files()
    tx.definitions.get(1)
    tx.definitions.pipeline("flights")
    tx.definitions.pipelines()
    tx.definitions.pipelines(active=None)
    tx.definitions.due(now)
    tx.definitions.next_due()
    tx.definitions.advance("flights", None, now)
    tx.definitions.pause("flights", True, now)
    tx.definitions.errors()
    tx.definitions.forget("a.py")


def look_up_access(access: Access, now: datetime) -> None:
    access.users.add(User("ada", Role.ADMIN, created_at=now))
    access.users.lock()
    access.users.update("ada", password="hash")
    access.users.rehash("ada", "hash", "another")
    access.tokens.get("id")
    access.tokens.all("ada")
    access.tokens.used("id", now, now)
    access.tokens.revoke("id", now)
    access.sessions.get("digest")
    access.sessions.all("ada")
    access.sessions.seen("digest", now, now)
    access.sessions.end("digest")
    access.sessions.end_all("ada", but="digest")
    access.sessions.forget(now, now)
    access.failures.lock(["key"], now)
    access.failures.put("key", Tries(1, now))
    access.failures.get(["key"])
    access.failures.forget(now, now)
    access.log.page()
    access.log.page(before=7, who="ada", since=now, until=now)
    access.log.forget(now)
    access.seen.first("key", now, now)


def use_every_lookup(store: SqlMetadata, clock: ManualClock) -> None:
    batch, run = start_run(store, clock)
    now = clock.now()
    with store.write() as tx:
        tx.batches.find(day(3))
        tx.batches.get(batch.id)
        tx.batches.recent()
        tx.batches.recent("flights", state=BatchState.OPEN, limit=3)
        tx.batches.update(batch.id, state=BatchState.PUBLISHED)
        tx.runs.renew(run.id, run.fence, now)
        tx.runs.set_task(run.id, run.fence, "load", TaskState.RUNNING, now=now)
        tx.runs.set_task(run.id, run.fence, "load", TaskState.SUCCESS, now=now)
        tx.runs.add_reads(run.id, [])
        tx.runs.tasks(run.id)
        tx.runs.recent()
        tx.runs.recent(batch_id=batch.id)
        tx.runs.recent(state=RunState.RUNNING)
        tx.runs.move(run.id, run.fence, RunState.FAILED, now=now)
        tx.streams.pause("cars.means", now)
        tx.streams.paused()
        tx.streams.resume("cars.means")
        tx.refs.swap(MAIN, FLIGHTS, None, "p1")
        tx.refs.swap(MAIN, FLIGHTS, "p1", "p2")
        tx.refs.swap(MAIN, FLIGHTS, "p2", None)
        tx.refs.set_base(MAIN, FLIGHTS, "p1")
        tx.refs.set_view(MAIN, FLIGHTS, "select 1")
        tx.refs.set_view(MAIN, FLIGHTS, None)
        tx.refs.views(MAIN)
        tx.refs.bases(MAIN)
        tx.refs.all(states=[RefState.OPEN])
        tx.refs.log(MAIN, "publish", now=now, changes={FLIGHTS: (None, "p1")}, batch_id=batch.id)
        tx.refs.commits(MAIN, since=0, limit=5)
        tx.refs.commits(MAIN, batch_id=batch.id)
        tx.refs.pointers_at(MAIN, now)
        tx.refs.ticket(FLIGHTS, run.id, now=now)
        tx.refs.ticket_holder(FLIGHTS, now)
        tx.refs.release_tickets(run.id)
        tx.bookmarks.swap("flights", "feed", 0, 1, batch.id)
        tx.bookmarks.swap("flights", "feed", 1, 2, batch.id)
        tx.archive.add(manifest(batch.id))
        tx.archive.get(batch.id, "feed")
        tx.archive.get(batch.id, "feed", 1)
        tx.archive.recent()
        tx.archive.recent(batch_id=batch.id)
        tx.archive.recent(pipeline="flights")
        lease = tx.leases.acquire("reader", [], now)
        tx.leases.renew(lease, now)
        tx.leases.live(now)
        tx.leases.release(lease)
        tx.leases.doom(["a"], now)
        tx.leases.doomed(START)
        tx.leases.pardon(["a"])
        tx.checks.add([check_record(run)])
        tx.checks.recent()
        tx.checks.recent(run_id=run.id)
        tx.checks.recent(table=FLIGHTS)
        tx.events.done(tx.events.add("published", {}, now), now)
        tx.events.pending("published")
        look_up_definitions(tx, now)
        look_up_access(tx.access, now)
    _, second = start_run(store, clock)
    clock.advance(1000)
    start_run(store, clock)
    with pytest.raises(Exception, match="replaced"), store.write() as tx:
        tx.runs.check(second.id, second.fence)
    with store.write() as tx:
        tx.refs.create("work", RefKind.BRANCH, now=now, pointers={FLIGHTS: "p1"})
        tx.refs.update("work", state=RefState.DROPPED)
        tx.refs.remove_pointers("work")
