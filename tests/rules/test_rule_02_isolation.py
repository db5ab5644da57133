"""Rule 2: a run reads `main` as of its fork plus its own branch; a moved input blocks nothing and marks it stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.project import Project
from tidemill.authoring.handles import whole
from tidemill.authoring.pipeline import Pipeline


def readers(project: Project, declare_feed: Callable[..., None], during: Callable[[], Any], **options: Any) -> Pipeline:
    """A pipeline whose table reads another pipeline's whole table; `during` happens while it runs."""
    p = project.pipeline("reports", **options)
    declare_feed(p, lambda interval: [{"day": "d" + interval.ds[-2:]}], name="days")

    @p.table
    def waited(days: Any) -> Any:
        during()
        return days

    @p.table(write="replace")
    def counted(waited: Any, orders: Any = whole("shop.orders")) -> Any:
        return orders

    return p


def shop(project: Project, declare_feed: Callable[..., None]) -> Pipeline:
    p = project.pipeline("shop")
    declare_feed(p, lambda interval: [{"id": "d" + interval.ds[-2:]}])
    return p


def test_a_run_sees_main_as_of_its_fork_and_its_outputs_are_marked_stale(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    feeding = shop(project, declare_feed)
    project.run(feeding, "2026-01-01")
    p = readers(project, declare_feed, once(lambda: project.run(feeding, "2026-01-02")))
    report = project.run(p, "2026-01-01")
    assert report.ok, "a moved input never blocks publishing"
    assert project.table("reports.counted") == [("d01",)]
    assert len(project.table("shop.orders")) == 2
    with project.services.metadata.read() as tx:
        (stale,) = tx.events.pending("stale")
    assert stale.payload["inputs"] == ["shop.orders"]
    assert "reports.counted" in stale.payload["tables"]


def test_serializable_runs_again_when_an_input_moved(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    feeding = shop(project, declare_feed)
    project.run(feeding, "2026-01-01")
    during = once(lambda: project.run(feeding, "2026-01-02"))
    report = project.run(readers(project, declare_feed, during, isolation="serializable"), "2026-01-01")
    assert report.ok
    assert report.run.attempt == 2
    assert project.table("reports.counted") == [("d01",), ("d02",)]


def test_every_read_is_recorded_with_its_scope(project: Project, declare_feed: Callable[..., None]) -> None:
    project.run(shop(project, declare_feed), "2026-01-01")
    report = project.run(readers(project, declare_feed, lambda: None), "2026-01-01")
    with project.services.metadata.read() as tx:
        reads = {(r.table, r.scope) for r in tx.runs.reads(report.run.id)}
    assert reads == {("reports.days", "batch"), ("reports.waited", "batch"), ("shop.orders", "whole")}
