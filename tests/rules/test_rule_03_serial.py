"""Rule 3: publishes on one ref are serial; a run that lost once holds the table's ticket and cannot lose again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from harness.project import Project
from tidemill.model.branch import MAIN, RefKind, RefState


def test_runs_that_publish_at_the_same_time_all_arrive_in_one_order(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"day": "d" + interval.ds[-2:]}])
    days = [f"2026-01-{d:02d}" for d in range(1, 9)]
    project.run(p, "2026-01-01")
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda day: project.run(p, day), days))
    assert all(r.ok for r in reports)
    assert project.table("shop.orders") == [("d" + day[-2:],) for day in days]
    with project.services.metadata.read() as tx:
        log = tx.refs.commits(MAIN)
        head = tx.refs.get(MAIN)
    assert head is not None
    assert [c.seq for c in log] == list(range(head.head, 0, -1))
    assert all(newer.at > older.at for newer, older in pairwise(log))
    chain = [c.changes for c in reversed(log)]
    for earlier, later in pairwise(chain):
        for name in later.keys() & earlier.keys():
            assert later[name][0] == earlier[name][1], "each publish starts where the one before ended"


def test_a_run_that_lost_takes_the_ticket_and_then_wins(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    """Two runs replace one table: the one that is overtaken computes again, and the other cannot overtake twice."""
    p = project.pipeline("a")
    declare_feed(p, lambda interval: [{"day": "d" + interval.ds[-2:]}], name="days")
    happened: list[str] = []

    @p.table(write="replace")
    def last(days: Any) -> Any:
        during()
        return days

    def overtake() -> None:
        happened.append("overtaken")
        assert project.run(p, "2026-01-02").ok

    during = once(overtake)
    project.run(p, "2026-01-03")
    happened.clear()
    during = once(overtake)
    report = project.run(p, "2026-01-01")
    assert happened == ["overtaken"]
    assert report.ok
    assert report.run.attempt == 2
    assert project.table("a.last") == [("d01",)]
    with project.services.metadata.read() as tx:
        assert all(tx.refs.ticket_holder(name, project.services.clock.now()) is None for name in tx.refs.pointers(MAIN))
        assert {r.state for r in tx.refs.all(kinds=[RefKind.RUN])} <= {RefState.MERGED, RefState.DROPPED}, (
            "the try that lost leaves no branch: nothing failed that anybody could look at"
        )
