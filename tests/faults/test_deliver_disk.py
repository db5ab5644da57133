"""A full disk under a destination: told as what it is, nothing is there by halves; with room again all comes, once."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import tidemill as tm
from harness.delivering import TO, Watched, deliver_to, recorded
from harness.disks import Disk, small_disk
from harness.landing import Landing, duckdb_landing, files_landing, postgres_landing
from harness.objectstore import ObjectStore
from harness.postgres import USER, Postgres
from harness.project import Project
from harness.redshift import emulating, redshift_landing
from tidemill.model.delivery import DeliveryState
from tidemill.ports.destination import NoRoom

#: Formats of files, and how DuckDB reads them.
READERS = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}
#: Rows of text that does not become smaller by compression: some 4 MB, on a disk of two.
ROWS, TEXT = 2_000, 2_000


@dataclass
class Full:
    """A destination on a small disk.

    Args:
        at: what an error says of the place.
        said: what the store says.
    """

    disk: Disk
    landing: Landing
    at: str
    options: dict[str, str]
    said: str = "No space left on device"

    def there(self) -> dict[str, int]:
        """Rows of each table; none is there twice."""
        found = {}
        for table in ("big", "small"):
            ((rows, different),) = self.landing.ask(f"SELECT count(*), count(DISTINCT n) FROM shop.{table}")
            assert rows == different
            found[table] = rows
        return found


SERVERS = [pytest.param(kind, marks=pytest.mark.postgres) for kind in ("postgresql", "redshift")]


@pytest.fixture(params=["duckdb", *READERS, *SERVERS])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Full]:
    if request.param in ("postgresql", "redshift"):
        server: Postgres = request.getfixturevalue("postgres")
        with _tablespace(server) as (disk, placed):
            if request.param == "postgresql":
                yield Full(disk, postgres_landing(placed(server.new_database())), "PostgreSQL at 127.0.0.1", {})
                return
            store: ObjectStore = request.getfixturevalue("object_store")
            with emulating(server, store) as place:
                placed(place.kept)
                yield Full(disk, redshift_landing(place), "The disk of Redshift", {}, "Disk Full")
        return
    with small_disk(tmp_path / "disk") as disk:
        if request.param == "duckdb":
            yield Full(disk, duckdb_landing(disk.folder / "w.db"), str(disk.folder / "w.db"), {})
        else:
            folder, reader = disk.folder / "out", READERS[request.param]
            yield Full(disk, files_landing(folder, reader), str(folder), {"format": request.param})


@contextmanager
def _tablespace(server: Postgres) -> Iterator[tuple[Disk, Callable[[str], str]]]:
    """A small disk, and what lets the tables of a database be made there; the database goes before the disk does."""
    place = Path(tempfile.mkdtemp(prefix="tidemill-disk-"))
    place.chmod(0o755)  # another user goes through it
    names: list[str] = []
    try:
        with small_disk(place / "disk") as disk, psycopg.connect(server.url(), autocommit=True) as connection:
            if os.geteuid() == 0:
                shutil.chown(disk.folder, USER, USER)
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'".encode())

            def placed(url: str) -> str:
                names.append(url.rpartition("/")[2])
                for setting in ("default_tablespace", "temp_tablespaces"):
                    connection.execute(f"ALTER DATABASE {names[-1]} SET {setting} = small".encode())
                return url

            try:
                yield disk, placed
            finally:
                for name in names:
                    connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
                connection.execute("DROP TABLESPACE small")
    finally:
        shutil.rmtree(place)


def test_a_full_disk_is_told_and_with_room_again_each_row_is_there_once(full: Full, tmp_path: Path) -> None:
    chance, feed = random.Random(11), list[dict[str, Any]]()
    project = Project(tmp_path / "project")
    shop = project.pipeline("shop")

    @shop.source(columns={"n": "long", "text": "string"})
    def big(interval: Any) -> Iterator[Any]:
        yield feed

    @shop.table
    def small(big: Any) -> Any:
        return big.select("n").filter(tm.col("n") % 1_000 == 0)

    shop.deliver(big, small, to=TO, **full.options)

    def rows(first: int, number: int) -> list[dict[str, Any]]:
        return [{"n": first + n, "text": chance.randbytes(TEXT).hex()} for n in range(number)]

    there = Watched(full.landing.opened())

    def deliver() -> Any:
        return deliver_to(project, shop, there)

    try:
        feed = rows(0, 5)
        assert project.run(shop, "2026-01-01").ok
        first = deliver()
        assert first.error is None, first.error
        feed = rows(5, ROWS)
        assert project.run(shop, "2026-01-02").ok
        for tries in (1, 2):
            report = deliver()
            assert isinstance(report.error, NoRoom), repr(report.error)
            told = str(report.error)
            assert f"{full.at} has no room left: " in told
            assert full.said in told
            assert "try: make room there; nothing of this load is there" in told
            assert report.tries == tries
            assert recorded(project)[1] is DeliveryState.FAILING
            assert all(table.rows.gi_frame is None for table in there.loads[-1].tables), "its queries have ended"
            assert full.there() == {"big": 5, "small": 1}
        full.disk.grow(64)
        assert deliver().error is None
        assert full.there() == {"big": 5 + ROWS, "small": 3}
        again = deliver()
        assert (again.error, again.rows) == (None, 0)
        assert recorded(project)[1] is DeliveryState.DELIVERED
        left = [path for path in full.disk.folder.rglob("*") if path.name.startswith((".tidemill", "begun-"))]
        assert not left, "something of the loads that failed is left"
    finally:
        project.close()
