"""`tidemill schema upgrade` is killed in the middle: each revision is there whole or not at all, and the next upgrade
brings what is missing.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from harness.deaths import some_of
from harness.forking import ran
from harness.revising import Revising
from harness.schema_deaths import WANTED, landing_at, places, standing, upgrade_killed

#: Each death is a process; with `TIDEMILL_DEATHS=all` an upgrade dies at every statement.
MOST = 4


@pytest.mark.parametrize("kind", ["duckdb", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_wherever_an_upgrade_is_killed_the_next_one_completes_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    report, duckdb = tmp_path / "report", kind == "duckdb"
    address = str(tmp_path / "there.db") if duckdb else request.getfixturevalue("postgres").new_database()
    there = Revising(tmp_path, landing_at(kind, address))
    seen = [standing(there)]
    for tables in WANTED:
        there.write(tables)
        there.go()
        seen.append(standing(there))
    there.go("base", down=True)
    seen[0] = standing(there)
    all_places = places(there.revisions.steps(()))
    assert len(all_places) > 10, all_places
    first = some_of(len(all_places), max(1, len(all_places) // MOST))
    for place in [all_places[at] for at in first]:
        assert ran(upgrade_killed, tmp_path, kind, address, place, report) == -signal.SIGKILL, report.read_text()
        assert standing(there) == seen[place[0]], f"killed at {place}: revisions before it are whole, it is not there"
        there.go()
        assert standing(there) == seen[-1], f"killed at {place}"
        assert there.lacks(WANTED[-1]) == []
        there.go("base", down=True)
