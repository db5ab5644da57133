"""Rule 6: bookmark batches form a chain; the bookmark moves with the publish, by compare-and-set, and only then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.forking import ran
from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.facts.batches import batch_facts
from tidemill.model.batch import BatchKey, BatchState
from tidemill.model.errors import Fenced, Refused
from tidemill.model.run import RunState
from tidemill.wiring.runner import run_pipeline


class Log:
    """A source that grows: rows numbered from 1. Notes from where to where it was asked."""

    def __init__(self) -> None:
        self.length = 0
        self.asked: list[tuple[Any, Any]] = []
        #: What happens when it is asked.
        self.fault: BaseException | None = None
        #: What happens elsewhere meanwhile.
        self.meanwhile: Callable[[], Any] = lambda: None

    def declare(self, project: Project, **options: Any) -> Pipeline:
        p = project.pipeline("crm", schedule=None)
        self.on(p, **options)
        return p

    def on(self, p: Pipeline, **options: Any) -> None:
        @p.source(**options)
        def changes(bookmark: Any) -> Iterator[dict[str, Any]]:
            self.asked.append((bookmark.value, bookmark.until))
            if self.fault is not None:
                raise self.fault
            self.meanwhile()
            until = self.length if bookmark.until is None else bookmark.until
            for n in range((bookmark.value or 0) + 1, until + 1):
                yield {"n": n}
                bookmark.advance(n)


def bookmark(project: Project) -> Any:
    with project.services.metadata.read() as tx:
        return tx.bookmarks.get("crm", "changes").value


def numbers(project: Project) -> list[int]:
    return sorted(r["n"] for r in project.rows("select n from crm.changes"))


def test_each_batch_goes_on_where_the_published_one_ended(project: Project) -> None:
    log = Log()
    p = log.declare(project)
    for log.length in (3, 5):
        assert project.run(p).ok
    assert numbers(project) == [1, 2, 3, 4, 5]
    assert bookmark(project) == 5
    assert [a[0] for a in log.asked] == [None, 3]


def test_a_failed_batch_does_not_move_the_bookmark_and_the_next_one_waits(project: Project) -> None:
    log = Log()
    p = log.declare(project)
    log.length = 3
    fail = [True]

    @p.table
    def broken(changes: Any) -> Any:
        if fail:
            raise RuntimeError("not today")
        return changes

    assert not project.run(p, "first").ok
    assert bookmark(project) is None
    with pytest.raises(Refused, match="is not published: its bookmark is not known yet") as waits:
        project.run(p, "second")
    assert str(waits.value.hint).startswith(f"tidemill run {p.name} first, or declare ")
    fail.clear()
    log.length = 5
    assert project.run(p, "first").ok, "the archived range is loaded; the source is not asked again"
    assert bookmark(project) == 3
    assert project.run(p, "second").ok
    assert numbers(project) == [1, 2, 3, 4, 5]
    assert len(log.asked) == 2


def test_absorb_takes_over_the_range_and_the_old_batch_can_never_publish(project: Project) -> None:
    log = Log()
    p = log.declare(project, on_failure="absorb")
    log.length = 3
    fail = [True]

    @p.table
    def broken(changes: Any) -> Any:
        if fail:
            raise RuntimeError("not today")
        return changes

    assert not project.run(p, "first").ok
    fail.clear()
    log.length = 5
    assert project.run(p, "second").ok
    assert numbers(project) == [1, 2, 3, 4, 5]
    with pytest.raises(Refused, match="was absorbed"):
        project.run(p, "first")
    with project.services.metadata.read() as tx:
        assert [b.state for b in tx.batches.recent()] == [BatchState.PUBLISHED, BatchState.ABSORBED]
    assert bookmark(project) == 5


@pytest.mark.parametrize("fault", [RuntimeError("wrong password"), KeyboardInterrupt()])
def test_a_batch_that_took_nothing_steps_aside(project: Project, fault: BaseException) -> None:
    log = Log()
    p = log.declare(project)
    log.length, log.fault = 3, fault
    with pytest.raises(KeyboardInterrupt) if isinstance(fault, KeyboardInterrupt) else nullcontext():
        assert not project.run(p, "first").ok
    log.fault = None
    assert project.run(p, "second").ok
    assert numbers(project) == [1, 2, 3]
    log.length = 5
    assert project.run(p, "first").ok, "its key is free: it means a new batch, which goes on behind the second one"
    assert numbers(project) == [1, 2, 3, 4, 5]
    assert log.asked == [(None, None), (None, None), (3, None)]
    with project.services.metadata.read() as tx:
        assert [(b.key.run_key, b.state) for b in tx.batches.recent()] == [
            ("first", BatchState.PUBLISHED), ("second", BatchState.PUBLISHED),
            ("first (batch 1)", BatchState.ABSORBED),
        ]  # fmt: skip
        ended = tx.runs.recent()[-1]
        assert ended.state in (RunState.FAILED, RunState.CANCELLED), "it stays as it ended"
        assert batch_facts(tx, tx.batches.recent()[-1])["state"] == f"{ended.state}, stepped aside"


def killed_in(step: str, root: Path) -> None:
    """A process that is killed while it runs the pipeline, by its source or by its table."""
    project, log = Project(root), Log()
    p = log.declare(project)
    log.length = 3

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if step == "source":
        log.meanwhile = die

    @p.table
    def broken(changes: Any) -> Any:
        die()

    project.run(p, "first")


def test_a_killed_run_steps_aside_where_it_took_nothing(project: Project) -> None:
    log = Log()
    assert ran(killed_in, "source", project.root) == -signal.SIGKILL
    log.length = 3
    assert project.run(log.declare(project), "second").ok
    assert numbers(project) == [1, 2, 3]
    with project.services.metadata.read() as tx:
        killed = tx.runs.recent()[-1]
    assert killed.state is RunState.FAILED
    assert "is gone" in str(killed.error)


def test_a_killed_run_is_waited_for_where_it_took_something(project: Project) -> None:
    assert ran(killed_in, "table", project.root) == -signal.SIGKILL
    with pytest.raises(Refused, match="is not published"):
        project.run(Log().declare(project), "second")


def test_a_run_that_was_given_up_and_comes_back_can_take_nothing(project: Project) -> None:
    """Its process was believed gone while its source was slow: another batch has its range by now."""
    log = Log()
    p = log.declare(project)
    log.length = 3
    elsewhere = replace(project.services, holder="there:1:0", alive=lambda _: False)

    def second() -> None:
        if len(log.asked) == 1:
            assert run_pipeline(elsewhere, p.spec(), [BatchKey("crm", run_key="second")])[-1].ok

    log.meanwhile = second
    with pytest.raises(Fenced, match="has ended: failed"):
        project.run(p, "first")
    assert numbers(project) == [1, 2, 3]
    assert bookmark(project) == 3


def test_what_has_archived_anything_is_waited_for_whoever_died_then(project: Project) -> None:
    """A manifest that was sealed when the process died, before it was noted: its range is taken."""
    log = Log()
    p = log.declare(project)
    log.length = 3
    sealing = project.services.archive.seal
    with pytest.MonkeyPatch.context() as patch:

        def sealed_then_dead(batch: Any, manifest: Any) -> None:
            sealing(batch, manifest)
            raise OSError("the process is gone")

        patch.setattr(project.services.archive, "seal", sealed_then_dead)
        assert not project.run(p, "first").ok
    log.length = 5
    with pytest.raises(Refused, match="is not published"):
        project.run(p, "second")
    assert project.run(p, "first").ok
    assert numbers(project) == [1, 2, 3], "by the archive: the source was asked once"
    assert len(log.asked) == 1


def test_an_interval_is_owed_where_a_source_is_asked_for_it(project: Project) -> None:
    """Beside a source that has intervals, a batch that took nothing is waited for: no later one would bring its own."""
    log = Log()
    p = project.pipeline("crm", start="2026-01-01")
    log.fault = RuntimeError("wrong password")
    log.on(p)

    @p.source
    def daily(interval: Any) -> Iterator[dict[str, Any]]:
        if log.fault is not None:
            raise log.fault
        yield {"day": interval.ds}

    assert not project.run(p, "2026-01-01").ok
    log.fault = None
    with pytest.raises(Refused, match="is not published"):
        project.run(p, "2026-01-02")


def test_repairing_an_old_batch_uses_its_own_range_and_leaves_the_bookmark(project: Project) -> None:
    log = Log()
    p = log.declare(project)
    for log.length in (3, 5):
        project.run(p, f"up-to-{log.length}")
    assert project.run(p, "up-to-3", refetch=True).ok
    assert log.asked[-1] == (None, 3)
    assert bookmark(project) == 5
    assert numbers(project) == [1, 2, 3, 4, 5]
