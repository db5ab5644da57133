"""Data-first pipelines driven as a scheduler drives them, a job for each task: what the runner in one process promises
holds here, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tidemill as tm
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow import control
from tidemill.flow.inline import drive
from tidemill.model.batch import Interval
from tidemill.model.run import Run, RunKind, RunState, TaskState
from tidemill.ports.executor import JobEnded
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.performing import Performer
from tidemill.wiring.runner import close
from tidemill.wiring.services import holder, open_metadata, system_clock
from tidemill.wiring.settings import load_settings

START = datetime(2026, 1, 1, tzinfo=UTC)
SALES = """
import tidemill as tm

sales = tm.Pipeline("sales", schedule="@daily", start="2026-01-01", max_active_runs=9)
orders = sales.files("feeds/{{ ds }}.csv")

@sales.table(key="id", write="upsert", PUBLISH)
def latest(orders):
    return orders.select("id", "price")

@sales.table
def dear(latest):
    return latest.filter(tm.col("price") > LEAST)

latest.expect(tm.between("price", 0, MOST))
"""


class Mill:
    """A project, and runs of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pipelines").mkdir()
        (folder / "feeds").mkdir()
        (folder / "tidemill.toml").write_text('[project]\nname = "mill"\n')
        self.write()
        self.settings = load_settings(folder)
        found = open_metadata(self.settings, system_clock())
        assert isinstance(found, SqlMetadata)
        self.metadata = found
        self.store = SqlRunStore(found, system_clock())
        self.performer = Performer(self.settings)

    def write(self, *, most: int = 99, least: int = 1, publish: str = "run") -> None:
        text = SALES.replace("MOST", str(most)).replace("LEAST", str(least))
        (self.folder / "pipelines" / "sales.py").write_text(text.replace("PUBLISH", f'publish="{publish}"'))

    def feed(self, day: int, *rows: tuple[int, int]) -> None:
        text = "id,price\n" + "".join(f"{id_},{price}\n" for id_, price in rows)
        (self.folder / "feeds" / f"2026-01-0{day}.csv").write_text(text)

    def ask(self, day: int) -> Run:
        parse_once(self.settings)
        start = START + timedelta(days=day - 1)
        interval = Interval(start, start + timedelta(days=1))
        return control.trigger(self.metadata, "sales", system_clock().now(), interval=interval)

    def drive(self, run: Run, ended: Callable[[JobEnded], None] = lambda _: None) -> Run:
        return drive(
            self.metadata, self.store, system_clock(), self.store.definition, f"{holder()}-{run.id}", run,
            self.performer, ended,
        )  # fmt: skip

    def states(self, run: Run) -> dict[str, TaskState]:
        with self.metadata.read() as tx:
            return {task.task: task.state for task in tx.runs.tasks(run.id)}

    def last(self, run: Run) -> Run:
        with self.metadata.read() as tx:
            found = tx.runs.last(run.batch_id)
            assert found is not None
            return found

    def rows(self, table: str) -> list[tuple[int, int]]:
        found = tm.query(f"select id, price from sales.{table} order by id", project=self.folder).to_arrow()
        close(self.folder.resolve())
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    before = Path.cwd()
    made = Mill(tmp_path)
    yield made
    made.metadata.close()
    os.chdir(before)


def test_all_is_published_by_the_last_job(mill: Mill) -> None:
    mill.feed(1, (1, 5), (2, 1))
    jobs: list[str] = []
    run = mill.drive(mill.ask(1), lambda end: jobs.append(end.key[0]))
    assert run.state is RunState.SUCCESS, run.error
    assert jobs == ["extract.orders", "load.orders", "build.latest", "check.latest", "build.dear", ""]
    assert mill.rows("latest") == [(1, 5), (2, 1)]
    assert mill.rows("dear") == [(1, 5)]
    with mill.metadata.read() as tx:
        assert tx.runs.reads(run.id)
        batch = tx.batches.get(run.batch_id)
        assert batch is not None
        assert batch.published_at is not None
        assert tx.leases.live(system_clock().now()) == []


def test_a_failed_check_keeps_main_and_the_next_attempt_extracts_nothing_again(mill: Mill) -> None:
    mill.feed(1, (1, 5))
    mill.write(most=3)
    run = mill.drive(mill.ask(1))
    assert run.state is RunState.FAILED
    assert mill.states(run)["check.latest"] is TaskState.FAILED
    assert mill.states(run)["build.dear"] is TaskState.UPSTREAM_FAILED
    assert run.branch == "batch-1"
    (mill.folder / "feeds" / "2026-01-01.csv").unlink()  # what is archived is enough
    mill.write(most=99)
    parse_once(mill.settings)
    shown = control.preview_clearing(mill.metadata, run.id, [])
    assert shown.tasks == ("load.orders", "build.latest", "check.latest", "build.dear")
    assert "failed branch" in shown.why
    again = mill.drive(control.clear(mill.metadata, shown, system_clock().now()))
    assert (again.attempt, again.state) == (2, RunState.SUCCESS)
    assert mill.rows("latest") == [(1, 5)]


def test_a_corrected_file_is_fetched_where_that_is_asked_for(mill: Mill) -> None:
    """A batch that is run again has what is archived, with the parameters of its last run; or its source's new file."""
    mill.feed(1, (1, 5))
    first = mill.drive(mill.ask(1))
    mill.feed(1, (1, 6))
    for kind, rows in ((RunKind.MANUAL, [(1, 5)]), (RunKind.REFETCH, [(1, 6)])):
        again = mill.drive(control.replay(mill.metadata, first.batch_id, system_clock().now(), kind))
        assert (again.state, mill.rows("latest")) == (RunState.SUCCESS, rows), again.error


def test_a_conflict_begins_the_run_anew_on_a_fresh_fork(mill: Mill) -> None:
    """Rule 4: the run that lost is computed again; nothing of it is lost or doubled."""
    mill.feed(1, (1, 1), (2, 1))
    mill.feed(2, (2, 2), (3, 2))
    first, second = mill.ask(1), mill.ask(2)
    between: list[RunState] = []

    def meanwhile(end: JobEnded) -> None:
        if end.key[0] == "build.dear" and not between:
            between.append(RunState.RUNNING)
            other = Mill.__new__(Mill)
            other.__dict__ |= {**mill.__dict__, "performer": Performer(mill.settings)}
            between[0] = other.drive(second).state

    lost = mill.drive(first, meanwhile)
    assert between == [RunState.SUCCESS]
    assert lost.state is RunState.FAILED
    assert "conflicts" in (lost.error or "")
    again = mill.last(first)
    assert again.attempt == 2
    assert mill.states(again) == {"extract.orders": TaskState.SUCCESS}, "what was archived is not asked for again"
    assert mill.drive(again).state is RunState.SUCCESS
    assert mill.rows("latest") == [(1, 1), (2, 2), (3, 2)]
    with mill.metadata.read() as tx:
        published = [event.payload["batch_id"] for event in tx.events.pending("published")]
        assert sorted(published) == [first.batch_id, second.batch_id]
        assert tx.events.pending("ended") == [], "that it was begun anew is nobody's bad news"


def test_an_older_drivers_job_is_refused(mill: Mill) -> None:
    """Rule 5: a job under a fence that is not the run's any more changes nothing."""
    from dataclasses import replace

    from tidemill.model.instance import Failed
    from tidemill.ports.executor import Job

    mill.feed(1, (1, 1))
    run = mill.ask(1)
    [mine] = mill.store.claim("one", timedelta(seconds=15), 1, only=run.id)
    job = Job(run.id, mine.fence, ("extract.orders", -1), 1, "default", system_clock().now(), run=mine.info)
    outcome, _ = mill.performer(replace(job, fence=run.fence))
    assert isinstance(outcome, Failed)
    assert "held under another fence" in outcome.error
    with mill.metadata.read() as tx:
        assert tx.archive.get(run.batch_id, "orders") is None


def test_tables_that_go_one_by_one_are_on_main_before_the_run_ends(mill: Mill) -> None:
    """Rule 12, with a job for each task."""
    mill.feed(1, (1, 5))
    mill.write(publish="table")
    seen: dict[str, list[str]] = {}

    def look(end: JobEnded) -> None:
        with mill.metadata.read() as tx:
            seen[end.key[0]] = sorted(name.table for name in tx.refs.pointers("main") if "_input" not in name.table)

    run = mill.drive(mill.ask(1), look)
    assert run.state is RunState.SUCCESS
    assert "latest" not in seen["build.latest"]
    assert "latest" in seen["check.latest"]
    assert "dear" not in seen["build.dear"]
    assert "dear" in seen[""]
