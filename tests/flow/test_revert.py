"""`branch revert` beside others: a vacuum at any moment, runs that publish first, another revert of the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.project import Project
from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import revert_batch
from tidemill.flow.maintain import vacuum
from tidemill.model.batch import BatchState
from tidemill.model.branch import MAIN, RefState
from tidemill.model.errors import Refused
from tidemill.model.run import RunState
from tidemill.testing.faults import FaultPoints

NOW = timedelta(0)


def opened(root: Path, **wraps: Any) -> Project:
    """A project whose tables list one snapshot: what a version replaced is needed by nobody, as after many commits."""
    project = Project(root, **wraps)
    services = project.services
    project.services = replace(services, catalog=IcebergCatalog(services.lake, services.clock, snapshots_kept=1))
    return project


def declare(project: Project) -> Pipeline:
    p = project.pipeline()

    @p.source
    def days(interval: Any) -> Iterator[dict[str, Any]]:
        yield {"day": "d" + interval.ds[-2:]}

    @p.table(write="replace")
    def last(days: Any) -> Any:
        return days

    return p


def two_days(root: Path) -> None:
    """A project whose table `last` is replaced by a second day."""
    project = opened(root)
    p = declare(project)
    for day in ("2026-01-01", "2026-01-02"):
        assert project.run(p, day).ok
    project.close()


def clean(project: Project) -> None:
    """A vacuum that spares nothing which it may take."""
    vacuum(project.services, grace=NOW, keep=NOW)


def states(project: Project) -> tuple[list[RunState], list[RefState]]:
    """How the runs and their branches stand, oldest first."""
    with project.services.metadata.read() as tx:
        refs = [r.state for r in tx.refs.all() if r.name != MAIN]
        return [r.state for r in reversed(tx.runs.recent())], refs


def moments(root: Path) -> int:
    """How many moments there are in a revert, between its external effects."""
    points = FaultPoints()
    two_days(root)
    project = opened(root, wrap_files=points.files, wrap_metadata=points.metadata)
    points.passed.clear()
    revert_batch(project.services, 2)
    project.close()
    return len(points.passed)


def test_a_vacuum_at_any_moment_of_a_revert_leaves_the_files_that_come_back(tmp_path: Path) -> None:
    number = moments(tmp_path / "rehearsal")
    assert number > 8
    for at in range(number):
        root = tmp_path / str(at)
        two_days(root)
        other = opened(root)
        happened: list[str] = []

        def collect(name: str, other: Project = other, happened: list[str] = happened) -> None:
            if name != "before commit":  # within the transaction, SQLite has one writer
                happened.append(name)
                clean(other)

        points = FaultPoints(fault=collect)
        project = opened(root, wrap_files=points.files, wrap_metadata=points.metadata)
        points.passed.clear()
        points.at = at
        with suppress(Refused):
            revert_batch(project.services, 2)
        clean(other)
        reverted = project.table("shop.days") == [("d01",)]
        assert project.table("shop.last") == [("d01" if reverted else "d02",)], f"a vacuum at {at}: {happened}"
        project.close()
        other.close()


def test_what_was_collected_before_cannot_come_back_and_is_told(tmp_path: Path) -> None:
    two_days(tmp_path)
    project = opened(tmp_path)
    clean(project)
    before = project.pointers()
    with pytest.raises(Refused) as caught:
        revert_batch(project.services, 2)
    assert caught.value.what == (
        'Batch 2 replaced "shop.last", and what stood there before has been collected by a vacuum.'
    )
    assert caught.value.hint == "tidemill replay 1 writes it again"
    assert project.pointers() == before
    assert states(project)[0][-1] is RunState.FAILED
    assert set(states(project)[1]) <= {RefState.MERGED, RefState.DROPPED}, "it leaves no branch to look at"
    project.close()


def test_a_revert_that_is_overtaken_is_done_again(tmp_path: Path) -> None:
    """Another run publishes the replaced table while the revert is at work."""
    points = FaultPoints()
    two_days(tmp_path / "a")
    rehearsal = opened(tmp_path / "a", wrap_files=points.files)
    points.passed.clear()
    revert_batch(rehearsal.services, 2)
    rehearsal.close()
    last = len(points.passed) - 1

    two_days(tmp_path / "b")
    other = opened(tmp_path / "b")
    p = declare(other)

    def overtake(_: str) -> None:
        assert other.run(p, "2026-01-03").ok

    points = FaultPoints(fault=overtake)
    project = opened(tmp_path / "b", wrap_files=points.files)
    points.passed.clear()
    points.at = last
    revert_batch(project.services, 2)
    assert project.table("shop.last") == [("d03",)], "a later batch stands there now"
    assert project.table("shop.days") == [("d01",), ("d03",)]
    with project.services.metadata.read() as tx:
        batch = tx.batches.get(2)
    assert batch is not None
    assert batch.state is BatchState.REVERTED
    assert RunState.PUBLISHING not in states(project)[0]
    assert set(states(project)[1]) <= {RefState.MERGED, RefState.DROPPED}
    project.close()
    other.close()


def test_reverting_twice_is_refused_and_can_be_undone_by_a_replay(tmp_path: Path) -> None:
    two_days(tmp_path)
    project = opened(tmp_path)
    p = declare(project)
    revert_batch(project.services, 2)
    with pytest.raises(Refused, match="it is reverted"):
        revert_batch(project.services, 2)
    assert project.run(p, "2026-01-02").ok
    assert project.table("shop.last") == [("d02",)]
    project.close()
