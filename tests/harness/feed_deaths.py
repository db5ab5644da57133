"""Feeds with a state of their own, in runs that die at a moment: a resource of dlt, a tap whose table has versions.

One process imports what is needed, and forks one for each run: dlt alone takes a second to import.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.crashing import guarded
from harness.deaths import some_of
from harness.delivery_deaths import opener
from harness.project import Project
from harness.taps import WrittenTap, activate, record
from tidemill import sources
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.deliver import deliver
from tidemill.testing.faults import DIED, FaultPoints

EVE, DAY, AFTER = "2026-01-01", "2026-01-02", "2026-01-03"


class DltFeed:
    """A resource that goes on from the greatest number; its rows are appended, so none may come twice."""

    #: What is run after a death.
    then = (DAY, AFTER)

    def prepare(self, root: Path) -> None:
        root.mkdir()
        os.chdir(root.parent)  # where dlt looks for settings
        self.before(root, EVE)
        assert (
            len(list(self._orders(root / "count"))) == 3
        )  # what it imports at first use, it imports for all processes

    def declare(self, project: Project) -> Pipeline:
        p = project.pipeline()
        for each in sources.dlt(self._orders(project.root / "count")):
            p.source(each)
        return p

    def _orders(self, count: Path) -> Any:
        import dlt

        @dlt.resource(primary_key="id", write_disposition="append")
        def orders(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Any:  # noqa: B008 - dlt's way
            yield [{"id": n} for n in range(max(at.last_value, 1), int(count.read_text()) + 1)]

        return orders

    def before(self, root: Path, day: str) -> None:
        (root / "count").write_text({EVE: "3", DAY: "5", AFTER: "7"}[day])

    def check(self, project: Project, days: int) -> None:
        """Rows and state are those of the same moment."""
        with project.services.metadata.read() as tx:
            told = json.dumps(tx.bookmarks.get("shop", "orders").value)
        found = re.search(r'"last_value": (\d+)', told)
        assert found is not None, told
        last = int(found[1])
        assert last in {1: (3,), 2: (5,), 3: (7,)}[days], told
        assert project.rows("select list(id order by id) as ids from shop.orders") == [{"ids": [*range(1, last + 1)]}]


class VersionedFeed:
    """A tap that sends its whole table in versions; it is appended to, and what is no longer sent ends."""

    then = (DAY,)

    def prepare(self, root: Path) -> None:
        root.mkdir()
        tap = WrittenTap(root, ["orders"])
        # The last is the second, asked for once more where it was not archived.
        for version, ids in enumerate(([1, 2, 3], [2, 4], [2, 4]), 1):
            tap.will(*(record("orders", version, id=id_) for id_ in ids), activate("orders", version))

    def declare(self, project: Project) -> Pipeline:
        os.chdir(project.root)
        p = project.pipeline()
        for each in sources.singer("taps/tap_shop.py", select=["orders"], write="append"):
            p.source(each)
        p.deliver("orders", to="there")
        return p

    def before(self, root: Path, day: str) -> None:
        """The tap counts its runs by itself."""

    def check(self, project: Project, days: int) -> None:
        """Rows are of one version; where all is well, the mirror has them, too."""
        rows = project.rows("select list(id order by id) as ids from shop.orders")
        assert rows == [{"ids": {1: [1, 2, 3], 2: [2, 4]}[days]}]
        (spec,) = self.declare(project).spec().deliveries or ()
        there = str(project.root / "there.db")
        assert deliver(project.services, spec, lambda _: opener("duckdb", there)(FaultPoints())).error is None
        import duckdb

        with duckdb.connect(there) as connection:
            mirrored = connection.execute("SELECT id FROM shop.orders ORDER BY id").fetchall()
        assert [id_ for (id_,) in mirrored] == rows[0]["ids"]


FEEDS: dict[str, Callable[[], DltFeed | VersionedFeed]] = {"dlt": DltFeed, "versions": VersionedFeed}


def rehearse(kind: str, base: Path, deaths: int, report: Path) -> None:
    """Run the second day, dying at some of its effects; each time the next process finds one state or the other whole,
    runs it again, and goes on. The report tells how many deaths there were, or what went wrong.
    """

    def work() -> None:
        feed, root, copy = FEEDS[kind](), base / "project", base / "copy"
        feed.prepare(root)
        assert _forked(_run, feed, root, EVE, report) == 0, report.read_text()
        shutil.copytree(root, copy)
        assert _forked(_run, feed, root, DAY, report) == 0, report.read_text()
        passed = report.read_text().splitlines()
        places = some_of(len(passed), max(1, len(passed) // deaths))
        for at in places:
            shutil.rmtree(root)
            shutil.copytree(copy, root)
            assert _forked(_run, feed, root, DAY, report, at) == DIED, report.read_text()
            told = f"died at effect {at} of {len(passed)}, {passed[at]}"
            assert _forked(_recover, feed, root, report) == 0, f"{told}\n{report.read_text()}"
        report.write_text(str(len(places)), encoding="utf-8")

    guarded(work, report)


def _run(feed: DltFeed | VersionedFeed, root: Path, day: str, report: Path, at: int | None = None) -> None:
    def work() -> None:
        points = FaultPoints(at)
        project = Project(root, wrap_files=points.files, wrap_metadata=points.metadata)
        feed.before(root, day)
        assert project.run(feed.declare(project), day).ok
        report.write_text("\n".join(points.passed), encoding="utf-8")
        if day == EVE:
            feed.check(project, 1)

    guarded(work, report)


def _recover(feed: DltFeed | VersionedFeed, root: Path, report: Path) -> None:
    def work() -> None:
        project = Project(root)
        p = feed.declare(project)
        with project.services.metadata.read() as tx:
            published = sum(batch.published_at is not None for batch in tx.batches.recent("shop"))
        feed.check(project, published)
        feed.before(root, AFTER)
        for day in feed.then:
            assert project.run(p, day).ok
        feed.check(project, 1 + len(feed.then))

    guarded(work, report)


def _forked(work: Callable[..., None], *args: Any) -> int:
    """A run in a process of its own, whose code is given; this one has run nothing that a fork would miss."""
    pid = os.fork()
    if pid == 0:
        work(*args)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
