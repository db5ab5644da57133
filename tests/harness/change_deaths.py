"""A pipeline that follows a database dies at an effect of a run: on a file, in the metadata, or on a slot.

Before each death project and slot are as they were: the folder is restored from a copy, the slot from another one,
which nobody reads. The database is not: what is written there between death and recovery is what a gap would lose.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from harness.changing import NAME, Followed
from harness.crashing import guarded
from harness.deaths import died
from harness.forking import ran
from harness.project import Project
from tidemill import sources
from tidemill.adapters.databases import cdc
from tidemill.adapters.databases.slots import Server
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.cdc import NEW_SLOT
from tidemill.testing.faults import FaultPoints

TABLES = (
    "CREATE TABLE orders (id int PRIMARY KEY, total int)",
    "CREATE TABLE items (id int PRIMARY KEY, pieces int)",
)
#: What is done to a slot.
_SLOT = {"pg_replication_slot_advance": "move", "pg_copy_logical": "copy", "pg_drop_replication": "drop"}
COLUMNS = {"orders": "id, total", "items": "id, pieces"}


def declare(project: Project, slot: str) -> Pipeline:
    """The state of one table and the history of the other."""
    p = project.pipeline("shop", schedule=None, start=None)
    p.source(sources.cdc(NAME, list(COLUMNS), slot=slot, write={"items": "history"}))
    return p


class Deaths:
    """A followed database on the eve of a run.

    Args:
        shop: the database, with `TABLES`, and the folder of the project.
        first: the run takes the snapshot; else it is published, and changes have come since.
    """

    def __init__(self, shop: Followed, *, first: bool) -> None:
        self._shop, self._number = shop, 100
        self.root = shop.project.root
        self._copy, self._report = self.root.with_name("copy"), self.root.with_name("report")
        self._kept = f"{shop.slot}_kept"
        self.key = "first" if first else "second"
        self.write()
        if not first:
            assert ran(run_keys, self.root, shop.url, shop.slot, ["first"], self._report) == 0, self._told()
            shop.execute(f"SELECT pg_copy_logical_replication_slot('{shop.slot}', '{self._kept}')")
            self.write()
        shop.project.close()
        shutil.copytree(self.root, self._copy)

    def write(self) -> None:
        """An insert, updates and a delete, in a transaction; none like those before."""
        n = self._number = self._number + 2
        self._shop.together(
            f"INSERT INTO orders VALUES ({n}, 0), ({n + 1}, 0)", f"INSERT INTO items VALUES ({n}, {n})",
            f"UPDATE orders SET total = total + 1 WHERE id >= {n - 2}", f"DELETE FROM orders WHERE id = {n - 1}",
            f"UPDATE items SET pieces = 0 WHERE id = {n - 2}",
        )  # fmt: skip

    def effects(self) -> list[str]:
        """The names of the run's fault points, in their order."""
        self._restore()
        assert ran(run_keys, self.root, self._shop.url, self._shop.slot, [self.key], self._report) == 0, self._told()
        return self._told().splitlines()

    def die_and_recover(self, at: int) -> None:
        """Die at a fault point; write more; run again, and once more for what was written since."""
        self._restore()
        arguments = (self.root, self._shop.url, self._shop.slot)
        if not died(ran(run_keys, *arguments, [self.key], self._report, at), self._told(), at):
            return
        self._must_not_be_ahead()
        self.write()
        assert ran(recover, *arguments, [self.key, "later"], self._report) == 0, self._told()
        kept = {name for (name,) in self._shop.rows("SELECT slot_name FROM pg_replication_slots")} - {self._kept}
        assert kept == {self._shop.slot}

    def _must_not_be_ahead(self) -> None:
        """The server has what is not published."""
        project = Project(self.root)
        with project.services.metadata.read() as tx:
            bookmark: Any = tx.bookmarks.get("shop", "changes").value
        project.close()
        slots = self._shop.rows(
            f"SELECT slot_name, confirmed_flush_lsn <= '{(bookmark or {'lsn': '0/0'})['lsn']}'::pg_lsn "
            f"FROM pg_replication_slots WHERE slot_name = '{self._shop.slot}'"
        )
        assert all(behind for _, behind in slots), (slots, bookmark)

    def _restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._copy, self.root)
        slot = self._shop.slot
        with psycopg.connect(self._shop.url, autocommit=True) as connection:
            # The session of one that died ends a moment later.
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots "
                "WHERE active_pid IS NOT NULL AND database = current_database()"
            )
            for name in (slot, slot + NEW_SLOT):
                connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [name]
                )
            if self.key != "first":
                connection.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", [self._kept, slot])

    def _told(self) -> str:
        return self._report.read_text(encoding="utf-8") if self._report.exists() else "no report"


# -- what runs in processes of its own


@contextmanager
def _pointed(points: FaultPoints) -> Iterator[None]:
    """What this process does to slots passes fault points, before and after."""
    rows: Callable[..., Any] = Server.rows
    made: Callable[..., Any] = cdc._NewSlot.made.__func__  # type: ignore[attr-defined]

    def pointed_rows(self: Server, query: str, *values: Any) -> Any:
        what = next((word for name, word in _SLOT.items() if name in query), None)
        if what is None:
            return rows(self, query, *values)
        points.point(f"before {what} of a slot")
        found = rows(self, query, *values)
        points.point(f"after {what} of a slot")
        return found

    @contextmanager
    def pointed_made(cls: Any, info: str, name: str) -> Iterator[Any]:
        points.point("before a slot is made")
        with made(cls, info, name) as slot:
            points.point("after a slot is made")
            yield slot

    Server.rows = pointed_rows  # type: ignore[method-assign]
    cdc._NewSlot.made = classmethod(pointed_made)  # type: ignore[method-assign, assignment]
    yield


def run_keys(root: Path, url: str, slot: str, keys: list[str], report: Path, at: int | None = None) -> None:
    """Run batches; with `at` die at that fault point. The report has those that were passed."""

    def work() -> None:
        os.environ[f"TIDEMILL_CONN_{NAME.upper()}"] = url
        points = FaultPoints(at)
        project = Project(root, wrap_files=points.files, wrap_metadata=points.metadata)
        project.tables()  # opens the store: a new one is migrated, which is no effect of a run
        points.passed.clear()
        with _pointed(points):
            for key in keys:
                done = project.run(declare(project, slot), key)
                assert done.ok, done
        report.write_text("\n".join(points.passed), encoding="utf-8")

    guarded(work, report)


def recover(root: Path, url: str, slot: str, keys: list[str], report: Path) -> None:
    """Run batches, and compare: the state, the history's newest versions, and the log, which has each change once."""

    def work() -> None:
        os.environ[f"TIDEMILL_CONN_{NAME.upper()}"] = url
        project = Project(root)
        for key in keys:
            done = project.run(declare(project, slot), key)
            assert done.ok, done
        with psycopg.connect(url, autocommit=True) as connection:
            for table, columns in COLUMNS.items():
                there = Counter(connection.execute(f"SELECT {columns} FROM {table}".encode()).fetchall())
                where = "where is_current" if table == "items" else ""
                rows = project.rows(f"select {columns} from shop.{table} {where}")
                here = Counter(tuple(row.values()) for row in rows)
                assert (there - here, here - there) == (Counter(), Counter()), table
                log = f"shop.changes__{table}"
                many = project.rows(f"select count(*) as n, count(distinct (_lsn, _seq)) as d from {log}")
                assert many[0]["n"] == many[0]["d"], (table, many)
        # The number of changes that each transaction says it has, less those of its snapshot, are in the logs.
        logged = " union all ".join(f"select _lsn, _xid from shop.changes__{table}" for table in COLUMNS)
        wrong = project.rows(
            f"select * from (select _lsn, count(*) as n from ({logged}) group by all) l "
            "full join (select _lsn, sum(changes) as n from shop.changes group by all) t using (_lsn) "
            "where l.n is distinct from t.n"
        )
        assert not wrong, wrong
        report.write_text("whole", encoding="utf-8")

    guarded(work, report)
