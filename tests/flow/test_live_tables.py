"""Tables and the archive as sources: what a version brings, when rows are due, what is kept for whoever is away."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness import services
from harness.livefeeds import Rig, added, drain, shop
from harness.project import Project
from harness.topics import Place, sql_place
from tidemill import live
from tidemill.flow.live.feeding import BACK_OFF
from tidemill.flow.maintain import vacuum
from tidemill.model.errors import Refused, UnknownName
from tidemill.testing.clock import ManualClock


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[Place]:
    services.note_used(request, "SQLite", sqlite3.sqlite_version)
    with sql_place(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'topics.db')}") as made:
        yield made


def feed_file(project: Project, day: int, text: str) -> None:
    (project.root / "feeds" / f"2026-01-{day:02d}.csv").write_text("id,name,at\n" + text)


def test_a_table_that_is_not_there_yet_is_waited_for(place: Place, tmp_path: Path) -> None:
    project, _, days = shop(tmp_path, 1)
    rig = Rig.of(place, tmp_path, live.table_changes("shop.orders"), project.services)
    feeding = rig.feeding()
    drain(feeding)
    assert (rig.rows(), rig.told) == ([], [])
    days[0]()
    drain(feeding)
    assert rig.rows() == added(1)
    feeding.close()
    project.close()


def test_a_batch_that_is_run_again_gives_the_rows_that_it_did_not_have(place: Place, tmp_path: Path) -> None:
    project, p, days = shop(tmp_path, 2)
    days[0]()
    rig = Rig.of(place, tmp_path, live.table_changes("shop.orders"), project.services)
    feeding = rig.feeding()
    drain(feeding)
    feed_file(project, 1, "1,new 1,2026-01-01T09:00:00\n5,more,2026-01-01T09:30:00\n")
    assert project.run(p, "2026-01-01", refetch=True).ok
    drain(feeding)
    assert rig.rows() == [*added(1), {"id": 5, "name": "more"}]
    assert project.run(p, "2026-01-01").ok
    drain(feeding)
    assert len(rig.rows()) == 3, "the same rows once more bring nothing"
    feeding.close()
    project.close()


def test_the_rows_of_a_version_come_in_the_order_of_the_topics_time(place: Place, tmp_path: Path) -> None:
    """Else rows that come together would be late for one another."""
    project, p, _ = shop(tmp_path, 1)
    columns = {"id": "long", "at": "timestamp"}
    source = replace(live.table_changes("shop.latest"), time="at")
    rig = Rig.of(place, tmp_path, source, project.services, columns=columns, time="at")
    feeding = rig.feeding()
    for day in (1, 2):
        hours = (9, 7, 8) if day == 1 else (6, 4, 5)
        text = "".join(f"{n},x,2026-01-{day:02d}T{hour:02d}:00:00\n" for n, hour in enumerate(hours))
        feed_file(project, day, text)
        assert project.run(p, f"2026-01-{day:02d}").ok
        drain(feeding)
    found = [row["at"] for row in rig.rows()]
    assert found == sorted(found)
    assert len(found) == 6
    feeding.close()
    project.close()


def test_a_new_column_makes_no_old_row_new(place: Place, tmp_path: Path) -> None:
    project, p, days = shop(tmp_path, 1)
    days[0]()
    columns = {"id": "long", "name": "string", "pieces": "long"}
    rig = Rig.of(place, tmp_path, live.table_changes("shop.latest"), project.services, columns=columns)
    feeding = rig.feeding()
    drain(feeding)
    (project.root / "feeds" / "2026-01-02.csv").write_text(
        "id,name,at,pieces\n1,new 1,2026-01-01T09:00:00,\n7,seven,2026-01-02T09:00:00,3\n"
    )
    assert project.run(p, "2026-01-02").ok
    drain(feeding)
    assert rig.rows()[2:] == [{"id": 7, "name": "seven", "pieces": 3}]
    feeding.close()
    project.close()


def vacuumed(project: Project, clock: ManualClock, days: int) -> None:
    """Let time pass, and the collector come by until what is garbage is gone."""
    for _ in range(3):
        clock.advance(timedelta(days=days / 3))
        vacuum(replace(project.services, clock=clock))


def again(project: Project, rig: Rig) -> Project:
    """The project as a process of today sees it: without the metadata files that an earlier one has in memory."""
    project.close()
    made = Project(project.root)
    rig.services = replace(made.services, clock=rig.place.clock)
    return made


def test_a_version_is_kept_for_a_source_that_is_away_and_then_no_more(place: Place, tmp_path: Path) -> None:
    project, _, days = shop(tmp_path, 3)
    clock = place.clock
    assert isinstance(clock, ManualClock)
    clock.advance(datetime.now(UTC) - clock.now())
    days[0]()
    rig = Rig.of(place, tmp_path, live.table_changes("shop.latest"), project.services)
    feeding = rig.feeding()
    drain(feeding)
    feeding.close()
    days[1]()
    vacuumed(project, clock, 9)
    project = again(project, rig)
    feeding = rig.feeding()
    drain(feeding)
    assert (len(rig.rows()), rig.told) == (4, []), "after nine days it goes on from the version that it had"
    feeding.close()
    days[2]()
    vacuumed(project, clock, 60)
    project = again(project, rig)
    feeding = rig.feeding()
    drain(feeding)
    assert isinstance(rig.told[0], Refused)
    assert "tidemill stream refeed" in str(rig.told[0])
    assert len(rig.rows()) == 4
    feeding.close()
    project.close()


def test_only_the_versions_that_are_needed_are_kept(place: Place, tmp_path: Path) -> None:
    project, _, days = shop(tmp_path, 3)
    rig = Rig.of(place, tmp_path, live.table_changes("shop.orders"), project.services)
    for day in days:
        day()
        feeding = rig.feeding()
        drain(feeding)
        feeding.close()
    with project.services.metadata.read() as tx:
        found = [one for one in tx.leases.live(place.clock.now()) if one.holder.startswith("source of")]
    assert [[str(name) for name, _ in one.pointers] for one in found] == [["shop.orders"]]
    project.close()


def test_rows_are_due_when_their_times_say_at_the_speed_and_a_break_is_no_leap(place: Place, tmp_path: Path) -> None:
    project, p, _ = shop(tmp_path, 1)
    minutes = (0, 10, 10, 30, 60)
    feed_file(
        project,
        1,
        "".join(f"{n},x,2026-01-01T08:{m:02d}:00\n" for n, m in enumerate(minutes[:4])) + "4,x,2026-01-01T09:00:00\n",
    )
    assert project.run(p, "2026-01-01").ok
    source = live.table("shop.orders", time="at", speed=60.0)
    rig = Rig.of(place, tmp_path, source, project.services)
    came: dict[int, float] = {}

    def play(feeding: Any, many: int) -> None:
        while len(came) < many:
            feeding.turn()
            for row in rig.rows()[len(came) :]:
                came[row["id"]] = place.clock.monotonic()

    feeding = rig.feeding()
    play(feeding, 3)
    begin = came[0]
    assert [round(came[n] - begin) for n in range(3)] == [0, 10, 10]
    feeding.close()
    place.clock.sleep(1_000.0)
    feeding = rig.feeding()
    play(feeding, 5)
    assert round(came[4] - came[3]) == 30
    assert came[3] > begin + 1_000, "it begins again with the row that was next"
    progress = rig.progress()
    drain(feeding)
    assert rig.progress().position["done"]
    assert progress.messages == 5
    feeding.close()
    again = rig.feeding()
    drain(again)
    again.close()
    assert len(rig.rows()) == 5
    project.close()


def test_times_are_the_messages_own_where_the_topic_has_no_column_for_them(place: Place, tmp_path: Path) -> None:
    project, _, days = shop(tmp_path, 1)
    days[0]()
    rig = Rig.of(place, tmp_path, live.table("shop.orders", time="at"), project.services)
    feeding = rig.feeding()
    drain(feeding)
    from tidemill.ports.topic import Partition

    found = place.reader({Partition(rig.topic.name, 0): 0}).read(10, 1.0)[0]
    assert [datetime.fromtimestamp(stamp / 1000, UTC).hour for stamp in found.timestamps] == [8, 9]
    feeding.close()
    project.close()


def test_the_archive_gives_what_came_also_what_was_no_row_and_the_newest_version_of_a_batch(
    place: Place, tmp_path: Path
) -> None:
    project, p, days = shop(tmp_path, 3)
    feed_file(project, 1, "1,one,2026-01-01T08:00:00\n2,two,2026-01-01T09:00:00\n")
    assert project.run(p, "2026-01-01").ok
    feed_file(project, 2, "3,three,2026-01-02T08:00:00\nx,no number,2026-01-02T08:30:00\n4,four,2026-01-02T09:00:00\n")
    assert project.run(p, "2026-01-02").ok
    feed_file(project, 1, "1,uno,2026-01-01T08:00:00\n")
    assert project.run(p, "2026-01-01", refetch=True).ok
    rig = Rig.of(place, tmp_path, live.archive("shop.orders"), project.services)
    feeding = rig.feeding()
    drain(feeding)
    days[2]()
    drain(feeding)
    values = [value for value in rig.messages() if value is not None]
    assert b"x,no number,2026-01-02T08:30:00" in values
    assert sorted(row for row in values if row.startswith(b"{")) == [
        b'{"id":1,"name":"uno"}', b'{"id":3,"name":"three"}', b'{"id":4,"name":"four"}',
    ]  # fmt: skip
    feeding.close()
    project.close()


def test_an_archive_that_is_not_there_is_told_until_it_is(place: Place, tmp_path: Path) -> None:
    project, _, days = shop(tmp_path, 1)
    rig = Rig.of(place, tmp_path, live.archive("shop.orders"), project.services)
    feeding = rig.feeding()
    feeding.turn()
    feeding.turn()
    assert isinstance(rig.told[0], UnknownName)
    days[0]()
    place.clock.sleep(BACK_OFF[-1])
    drain(feeding)
    assert rig.rows() == added(1)
    feeding.close()
    project.close()
