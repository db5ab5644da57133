"""Tasks of one data-first run in several worker processes: each joins the attempt that a scheduler drives.

The first task that touches the lake makes the run's branch, and with it the fork that all of them see (rule 2). What a
task may write is decided by the fence of its job: when another scheduler has taken the run over, its commits are
refused (rule 5).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tidemill.flow.attempt import LEASE, RENEW_EVERY, Attempt, create_branch
from tidemill.flow.observe import Silent
from tidemill.flow.publish import PublishConflict
from tidemill.flow.run import MAX_ATTEMPTS
from tidemill.flow.services import Services
from tidemill.flow.work import Work
from tidemill.model.branch import MAIN
from tidemill.model.errors import Conflict, Fenced, TidemillError, UserError
from tidemill.model.instance import Failed, Outcome, Report, Succeeded
from tidemill.model.pipeline import PipelineSpec, Task, TaskKind, tasks_of
from tidemill.model.place import told
from tidemill.model.run import RunKind, RunState, TaskState
from tidemill.ports.executor import NOTHING, Job

_log = logging.getLogger("tidemill")


def perform_task(services: Services, pipeline: PipelineSpec, job: Job) -> tuple[Outcome, Report]:
    """Do one task of a run: the job's.

    Errors of a user's making are not tried again: the same code and data give the same error.
    """
    assert job.run is not None
    task = next((task for task in tasks_of(pipeline) if task.id == job.key[0]), None)
    if task is None:
        return Failed(f'The pipeline has no task "{job.key[0]}" any more.', again=False), NOTHING
    pipeline = pipeline.with_params(job.run.conf) if job.run.conf else pipeline
    try:
        with joined_attempt(services, pipeline, job, touches=task.kind is not TaskKind.EXTRACT) as attempt:
            report = Work(attempt, Silent(), refetch=job.run.kind is RunKind.REFETCH).execute(task)
            _after(services, attempt, task, job)
    except Fenced as fenced:
        return Failed(told(fenced), again=False), NOTHING
    except Exception as error:
        _log.error("%s", told(error))
        return Failed(told(error), again=not isinstance(error, UserError)), NOTHING
    _log.info("%s: %s rows", task.id, "no" if report.rows is None else f"{report.rows:,}")
    return Succeeded(), Report(rows=report.rows, bytes=report.bytes)


def _after(services: Services, attempt: Attempt, task: Task, job: Job) -> None:
    """Note what the task read; publish its table, where tables go one by one."""
    with services.metadata.write() as tx:
        tx.runs.add_reads(attempt.run.id, attempt.reads)
    if attempt.run.branch is not None:
        with services.metadata.read() as tx:
            well = {one.task for one in tx.runs.tasks(job.run_id) if one.state is TaskState.SUCCESS}
        Work(attempt, Silent()).publish_table(task, well.__contains__)


def perform_publish(services: Services, pipeline: PipelineSpec, job: Job) -> tuple[Outcome, Report]:
    """Publish a run whose tasks have all ended well, and end it: published, failed, or begun anew after a conflict.

    Returns:
        Succeeded where the run has ended, whichever way; else the end is the driver's to record.
    """
    assert job.run is not None
    pipeline = pipeline.with_params(job.run.conf) if job.run.conf else pipeline
    try:
        with joined_attempt(services, pipeline, job, touches=False) as attempt:
            work = Work(attempt, Silent())
            with services.metadata.read() as tx:
                done = {one.task for one in tx.runs.tasks(job.run_id) if one.state is TaskState.SUCCESS}
                attempt.reads.update(tx.runs.reads(job.run_id))
            for name in pipeline.sources:
                if f"{TaskKind.LOAD}.{name}" in done or f"{TaskKind.EXTRACT}.{name}" in done:
                    work.manifest(name)
            try:
                plan = work.publish()
            except PublishConflict as conflict:
                _begin_anew(services, pipeline, attempt, conflict)
            except Fenced:
                raise
            except TidemillError as error:
                _log.error("%s", told(error))
                _fail(services, attempt, error)
            else:
                _log.info("published %s", ", ".join(map(str, sorted(plan.moves))) or "nothing: no table was written")
    except Fenced as fenced:
        _log.error("%s", told(fenced))
        return Succeeded(), NOTHING
    except Exception as error:
        _log.error("%s", told(error))
        return Failed(told(error)), NOTHING
    return Succeeded(), NOTHING


def _fail(services: Services, attempt: Attempt, error: BaseException) -> None:
    about = {"pipeline": attempt.pipeline.name, "batch_id": attempt.batch.id, "run_id": attempt.run.id}
    with services.metadata.write() as tx:
        attempt.end_in(tx, RunState.FAILED, error)
        tx.events.add("ended", {**about, "state": "failed", "error": told(error)}, services.clock.now())


def _begin_anew(services: Services, pipeline: PipelineSpec, attempt: Attempt, conflict: PublishConflict) -> None:
    """Rule 4: the tables are computed again on a fresh fork, by the next attempt, which begins when it can have the
    tickets of all tables that were lost (rule 3); what was archived is not asked for again. After `MAX_ATTEMPTS` in a
    row the run fails.
    """
    with services.metadata.read() as tx:
        order = tx.runs.order(attempt.run.id)
    if order is None or order.conflicts + 1 >= MAX_ATTEMPTS:
        _fail(services, attempt, conflict)
        return
    _log.warning("%s Its tables are computed again.", told(conflict))
    lost_on = {*order.lost_on, *(str(one.table) for one in conflict.conflicts)}
    again = replace(order, conflicts=order.conflicts + 1, lost_on=tuple(sorted(lost_on)))
    keep = [task.id for task in tasks_of(pipeline) if task.kind is TaskKind.EXTRACT]
    with services.metadata.write() as tx:
        # In the order of a publish: whoever publishes gives up tickets, and says then that its pipeline has room.
        tx.runs.check(attempt.run.id, attempt.run.fence)
        tx.refs.lock(MAIN)
        attempt.end_in(tx, RunState.FAILED, conflict, keep=False)
        tx.runs.queue(attempt.batch.id, again, services.clock.now(), keep=keep)


@contextmanager
def joined_attempt(services: Services, pipeline: PipelineSpec, job: Job, *, touches: bool) -> Iterator[Attempt]:
    """The attempt that a job belongs to, as far as it has come; its files are leased as long as the task runs.

    Args:
        services: of this process.
        pipeline: what is run.
        job: whose fence is checked.
        touches: the task reads or writes tables, so that the run needs its branch.

    Raises:
        Fenced: another driver has taken over.
    """
    attempt, lease = _join(services, pipeline, job, touches)
    stop = threading.Event()
    beat = threading.Thread(target=_keep, args=(services, lease, stop), daemon=True, name=f"lease-{job.run_id}")
    beat.start()
    try:
        yield attempt
    finally:
        stop.set()
        beat.join()
        with services.metadata.write() as tx:
            tx.leases.release(lease)


def _join(services: Services, pipeline: PipelineSpec, job: Job, touches: bool) -> tuple[Attempt, int]:
    now = services.clock.now()
    with services.metadata.write() as tx:
        tx.runs.check(job.run_id, job.fence)
        run = tx.runs.get(job.run_id)
        assert run is not None
        batch = tx.batches.get(run.batch_id)
        assert batch is not None
        at = run.branch or MAIN
        ref = tx.refs.get(at)
        assert ref is not None
        pointers, views = tx.refs.pointers(at), tx.refs.views(at)
        bases = tx.refs.bases(at) if run.branch is not None else pointers
        head = ref.parent_head if run.branch is not None else ref.head
        lease = tx.leases.acquire(services.holder, {**bases, **pointers}.items(), now + LEASE)
        attempt = Attempt(services, pipeline, batch, run, bases, views, head or 0)
        attempt.written = {name: pointer for name, pointer in pointers.items() if bases.get(name) != pointer}
        if touches and run.branch is None:
            create_branch(attempt, tx)
    if touches:
        attempt.run = replace(run, branch=attempt.branch)
    return attempt, lease


def _keep(services: Services, lease: int, stop: threading.Event) -> None:
    """Prolong the lease on files; the run's own lease is its driver's."""
    while not stop.wait(RENEW_EVERY):
        try:
            with services.metadata.write() as tx:
                tx.leases.renew(lease, services.clock.now() + LEASE)
        except Conflict:
            continue  # the database was locked for long; the lease still has two more tries
