"""Databases that go away while they are read: a clear error, nothing half, and the next try has everything."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.databases import NAME, Shop, shop
from harness.mariadb import MariaDB
from harness.postgres import Postgres, away, running
from harness.project import Project
from tidemill import sources
from tidemill.model.databases import DatabaseSource
from tidemill.model.errors import TidemillError, Unreachable

ROWS = 4_000
#: A row takes a fifth of a millisecond, so that there is a middle of a read.
SLOW = "pg_sleep(0.0002) is not null"


@pytest.fixture
def db(postgres: Postgres, tmp_path: Path) -> Iterator[Shop]:
    """A PostgreSQL database with some thousand rows."""
    with shop("postgresql", tmp_path, postgres) as made:
        made.execute(
            f"CREATE TABLE t AS SELECT g AS id FROM generate_series(1, {ROWS}) g", "ALTER TABLE t ADD PRIMARY KEY (id)"
        )
        yield made


class Reading(threading.Thread):
    """A read in a thread, whose end is kept."""

    def __init__(self, db: Shop, source: DatabaseSource) -> None:
        super().__init__(daemon=True)
        self._db = db
        self._source = source
        self.rows: list[Any] = []
        self.error: TidemillError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.rows = self._db.read(self._source)
        except TidemillError as error:
            self.error = error

    def ended(self) -> Reading:
        self.join(60)
        assert not self.is_alive()
        return self


def ask(db: Shop, query: str) -> list[Any]:
    import psycopg

    with psycopg.connect(db.url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def eventually(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 120
    while not (got := found()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return got


OURS = "FROM pg_stat_activity WHERE application_name = 'tidemill' AND datname = current_database()"


@pytest.mark.postgres
def test_a_lost_connection_reads_its_chunk_again_in_the_same_snapshot(db: Shop) -> None:
    reading = Reading(db, sources.sql(NAME, "t", where=SLOW, parallel=2, chunk_rows=1000))
    eventually(lambda: ask(db, f"SELECT 1 {OURS} AND query LIKE 'COPY%'"))
    db.execute("INSERT INTO t VALUES (-1)")  # after the snapshot
    killed = ask(db, f"SELECT pg_terminate_backend(pid) {OURS} AND query LIKE 'COPY%'")
    assert killed
    reading.ended()
    assert reading.error is None
    assert sorted(reading.rows) == [(number,) for number in range(1, ROWS + 1)]


@pytest.mark.postgres
def test_with_the_snapshot_gone_the_read_fails_whole(db: Shop) -> None:
    reading = Reading(db, sources.sql(NAME, "t", where=SLOW, parallel=2, chunk_rows=1000))
    eventually(lambda: ask(db, f"SELECT 1 {OURS} AND query LIKE 'COPY%'"))
    ask(db, f"SELECT pg_terminate_backend(pid) {OURS}")
    assert isinstance(reading.ended().error, Unreachable)
    assert ask(db, f"SELECT count(*) {OURS}") == [(0,)]


@pytest.mark.postgres
def test_a_server_that_stops_in_the_middle_fails_the_run_and_a_later_one_has_all(tmp_path: Path) -> None:
    with running() as server, shop("postgresql", tmp_path, server) as db:
        db.execute(f"CREATE TABLE t AS SELECT g AS id FROM generate_series(1, {ROWS}) g")
        project = Project(tmp_path / "lake")
        p = project.pipeline()
        p.source(sources.sql(NAME, "t", where=SLOW, cursor="id"), name="t")
        reports: list[Any] = []
        run = threading.Thread(target=lambda: reports.append(project.run(p, "2026-01-01")), daemon=True)
        run.start()
        eventually(lambda: ask(db, f"SELECT 1 {OURS} AND query LIKE 'COPY%'"))
        with away(server):
            run.join(60)
            assert isinstance(reports[0].error, Unreachable)
            assert isinstance(project.run(p, "2026-01-01").error, Unreachable)
            assert project.tables() == set()
        assert project.run(p, "2026-01-01").ok
        assert project.rows("select count(*) as n, sum(id) as s from shop.t") == [
            {"n": ROWS, "s": ROWS * (ROWS + 1) // 2}
        ]
        project.close()


@pytest.mark.postgres
def test_a_read_that_is_given_up_leaves_no_connection_and_no_file(db: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(db.root))
    source = sources.sql(NAME, "t", where=SLOW, parallel=2, chunk_rows=500)
    begun = time.monotonic()
    with db.extraction(source) as extraction:
        next(iter(extraction))
        assert list(db.root.iterdir())
    assert time.monotonic() - begun < 100
    assert list(db.root.iterdir()) == []
    eventually(lambda: ask(db, f"SELECT count(*) {OURS}") == [(0,)])


@pytest.mark.postgres
def test_a_table_that_is_changed_while_it_is_read_is_read_as_it_was(db: Shop) -> None:
    reading = Reading(db, sources.sql(NAME, "t", where=SLOW, parallel=2, chunk_rows=500))
    eventually(lambda: ask(db, f"SELECT 1 {OURS} AND query LIKE 'COPY%'"))
    db.execute("UPDATE t SET id = id + 1000000 WHERE id > 2000", "DELETE FROM t WHERE id < 1000")
    assert reading.ended().error is None
    assert sorted(reading.rows) == [(number,) for number in range(1, ROWS + 1)]


def test_a_connection_that_mariadb_ends_is_unreachable_and_read_again(mariadb: MariaDB, tmp_path: Path) -> None:
    with shop("mariadb", tmp_path, mariadb) as db:
        db.execute("CREATE TABLE t (id INT PRIMARY KEY)", f"INSERT INTO t SELECT seq FROM seq_1_to_{ROWS}")
        name = db.url.rpartition("/")[2]
        slow = sources.sql(NAME, "t", where="sleep(0.0005) = 0")

        def readers() -> list[int]:
            with mariadb.connected(name) as connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE db = %s AND info LIKE '%%sleep%%'"
                    " AND id <> connection_id()",
                    [name],
                )
                return [int(row[0]) for row in cursor.fetchall()]

        once = Reading(db, slow)
        db.execute(*(f"KILL CONNECTION {number}" for number in eventually(readers)))
        assert once.ended().error is None
        assert sorted(once.rows) == [(number,) for number in range(1, ROWS + 1)]

        often = Reading(db, slow)
        for _ in range(2):
            found = eventually(readers)
            db.execute(*(f"KILL CONNECTION {number}" for number in found))
            eventually(lambda found=found: not set(found) & set(readers()))
        assert isinstance(often.ended().error, Unreachable)


def test_a_file_that_somebody_writes_is_waited_for_or_unreachable(tmp_path: Path) -> None:
    with shop("duckdb", tmp_path, None) as db:
        db.execute("CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)")
        script = f"import duckdb, sys; c = duckdb.connect({str(tmp_path / 'shop.db')!r})"
        script += "; print('open', flush=True); sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"open\n"
            with pytest.raises(Unreachable):
                db.read(sources.sql(NAME, "t"))
            writer.communicate()
        assert db.read(sources.sql(NAME, "t")) == [(1,)]
