"""A delivery dies at any moment, in a process of its own; the next one brings what it did not, and nothing twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from harness.crashing import DAYS, write_feeds
from harness.delivery_deaths import TABLES, declare, deliver_dying, opener
from harness.forking import ran
from harness.landing import Landing, duckdb_landing, files_landing, postgres_landing
from harness.postgres import Postgres
from harness.project import Project
from tidemill.flow.deliver import deliver
from tidemill.flow.query import query, reading
from tidemill.testing.faults import DIED, FaultPoints

#: Each death is a process; with `TIDEMILL_DELIVERY_DEATHS=all` a delivery dies at every effect.
MOST = 3
#: Makes the destination as it was, and gives its address and how to ask it.
Restore = Callable[[], tuple[str, Landing]]


@pytest.fixture(params=["duckdb", "files", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def restorer(kind: str, folder: Path, request: pytest.FixtureRequest) -> tuple[str, Restore]:
    """The address of a destination that is filled once, and what gives copies of it."""
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        first = server.new_database()

        def restored() -> tuple[str, Landing]:
            url = f"{first}_again"
            with psycopg.connect(server.url(), autocommit=True) as connection:
                name = url.rpartition("/")[2]
                connection.execute(f"DROP DATABASE IF EXISTS {name} (FORCE)".encode())
                connection.execute(f"CREATE DATABASE {name} TEMPLATE {first.rpartition('/')[2]}".encode())
            return url, postgres_landing(url)

        return first, restored
    source, copy = folder / "there", folder / "again"
    if kind == "files":
        source.mkdir()

    def copied() -> tuple[str, Landing]:
        if kind == "duckdb":
            copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)  # of the one that died
            shutil.copy(source, copy)
            return str(copy), duckdb_landing(copy)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        return str(copy), files_landing(copy)

    return str(source), copied


def check(project: Project, landing: Landing) -> None:
    for name in TABLES:
        with reading(project.services) as seen:
            with query(project.services, f"SELECT * EXCLUDE (_loaded_at) FROM shop.{name}", seen) as reader:
                lake = reader.read_all()
        listed = ", ".join(f'"{column}"' for column in lake.column_names)
        found = landing.ask(f"SELECT {listed} FROM shop.{name}")
        assert sorted(found, key=repr) == sorted((tuple(r.values()) for r in lake.to_pylist()), key=repr), name


def test_wherever_it_dies_each_row_is_there_once_in_the_end(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_feeds(tmp_path / "project", DAYS[:2])
    project = Project(tmp_path / "project")
    p = declare(project)
    (spec,) = p.spec().deliveries or ()
    report = tmp_path / "report"
    address, restore = restorer(kind, tmp_path, request)
    assert project.run(p, DAYS[0]).ok
    assert deliver(project.services, spec, lambda _: opener(kind, address)(FaultPoints())).error is None
    assert project.run(p, DAYS[1]).ok
    (project.root / "feeds" / f"{DAYS[0]}.csv").write_text("id,place,amount\n1,p9,9\n")
    assert project.run(p, DAYS[0], refetch=True).ok
    again, _ = restore()
    assert ran(deliver_dying, project.root, kind, again, report, None) == 0, report.read_text()
    passed = report.read_text().splitlines()
    assert "before load" in passed
    step = 1 if os.environ.get("TIDEMILL_DELIVERY_DEATHS") == "all" else max(1, len(passed) // MOST)
    for at in range(1, len(passed), step):
        again, landing = restore()
        code = ran(deliver_dying, project.root, kind, again, report, at)
        assert code == DIED, report.read_text()
        made = deliver(project.services, spec, lambda _, there=again: opener(kind, there)(FaultPoints()))
        assert made.error is None, f"after a death at {passed[at]}"
        check(project, landing)
        assert deliver(project.services, spec, lambda _, there=again: opener(kind, there)(FaultPoints())).rows == 0
    project.close()
