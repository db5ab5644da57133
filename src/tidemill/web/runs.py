"""Runs: the list, one with its tasks and tries; clear, mark, cancel. Their logs are in `logs.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow import control
from tidemill.flow.facts.runs import listed_run, run_facts, task_facts
from tidemill.flow.questions import open_questions
from tidemill.model.errors import TidemillError
from tidemill.model.run import RunKind, RunState, TaskState
from tidemill.web.models import RunItem, TaskItem
from tidemill.web.paging import cut, read_cursor
from tidemill.web.problems import status_of
from tidemill.web.questions import QuestionItem
from tidemill.web.table import LARGEST_ID, Asked, Body, Cursor, Limit, Query

_STATES = "|".join(RunState)
_KINDS = "|".join(RunKind)


class RunPage(Struct):
    """Runs, newest first."""

    runs: list[RunItem]
    next: str | None


class TryItem(Struct):
    """A try that did not end its task."""

    task: str
    map_index: int
    number: int
    started_at: datetime | None
    ended_at: datetime
    error: str | None
    worker: str | None


class Run(RunItem):
    """A run with its task instances, their tries, and what they ask people."""

    tasks: list[TaskItem]
    past_tries: list[TryItem]
    questions: list[QuestionItem]


class RunsQuery(Query, frozen=True):
    """Which runs."""

    limit: Limit = 50
    cursor: Cursor = None
    pipeline: Annotated[list[str], Meta(description="only of these")] = []
    state: Annotated[list[Annotated[str, Meta(pattern=f"^({_STATES})$")]], Meta(description=_STATES)] = []
    kind: Annotated[str, Meta(pattern=f"^({_KINDS})$", description=_KINDS)] | None = None
    since: Annotated[datetime, Meta(tz=True, description="of intervals that begin then or later")] | None = None
    until: Annotated[datetime, Meta(tz=True, description="of intervals that begin before")] | None = None


class Clear(Body, frozen=True):
    """What to run again: tasks by id, group or table; none: what failed, or could not run because of that."""

    tasks: list[str] = []
    downstream: Annotated[bool, Meta(description="also all that depends on them")] = True


class ClearMany(Clear, frozen=True, kw_only=True):
    """The same of several runs."""

    run_ids: Annotated[list[Annotated[int, Meta(ge=1, le=LARGEST_ID)]], Meta(min_length=1, max_length=500)]


class RunIds(Body, frozen=True):
    """Runs."""

    run_ids: Annotated[list[Annotated[int, Meta(ge=1, le=LARGEST_ID)]], Meta(min_length=1, max_length=500)]


class Mark(Body, frozen=True):
    """What a task shall count as."""

    task: str
    state: Annotated[str, Meta(pattern="^(success|failed|skipped)$")]
    index: Annotated[int, Meta(ge=0, le=LARGEST_ID)] | None = None


class Cleared(Struct):
    """Tasks that run again: in the run itself, or in the next attempt at its batch. `error`: why it was not done."""

    run_id: int
    tasks: list[str]
    same_attempt: bool
    why: str
    new_run_id: int | None
    attempt: int | None
    dry_run: bool
    error: str | None = None
    status: int = 200


class ClearedMany(Struct):
    """What became of each run."""

    runs: list[Cleared]
    dry_run: bool


class Marked(Struct):
    """A task that counts as ended, and what is judged anew."""

    run_id: int
    task: str
    state: str
    tasks: list[str]
    new_run_id: int | None
    dry_run: bool


class Refusal(Struct):
    """Why something was not done to one of many."""

    run_id: int
    status: int
    error: str


class Cancelled(Struct):
    """Runs that are asked to stop."""

    run_ids: list[int]
    refused: list[Refusal]
    dry_run: bool


def of_run(asked: Asked) -> list[str]:
    """The pipeline of the run that the path names."""
    with asked.backend.metadata.read() as tx:
        return [listed_run(tx, asked.path["run_id"]).pipeline]


def of_runs(asked: Asked) -> list[str]:
    """The pipelines of the runs that the body names."""
    with asked.backend.metadata.read() as tx:
        return [listed_run(tx, run_id).pipeline for run_id in dict.fromkeys(asked.body.run_ids)]


def list_runs(asked: Asked) -> dict[str, Any]:
    """Runs, newest first."""
    query: RunsQuery = asked.query
    pipelines = asked.visible(query.pipeline)
    before = read_cursor(query.cursor, int)
    with asked.backend.metadata.read() as tx:
        found = tx.runs.listed(
            pipelines=pipelines, states=[RunState(one) for one in query.state] or None,
            kind=RunKind(query.kind) if query.kind else None, since=query.since, until=query.until, before=before,
            limit=query.limit + 1,
        )  # fmt: skip
    page, further = cut(found, query.limit, lambda one: one.run.id)
    return {"runs": [run_facts(one) for one in page], "next": further}


def show_run(asked: Asked) -> dict[str, Any]:
    """One run."""
    run_id = asked.path["run_id"]
    with asked.backend.metadata.read() as tx:
        found = listed_run(tx, run_id)
        tasks, tries, asked_now = tx.runs.tasks(run_id), tx.runs.past_tries(run_id), open_questions(tx, run_id)
    return {**run_facts(found), **task_facts(tasks, tries), "questions": [one.facts() for one in asked_now]}


# -- actions


def clear(asked: Asked) -> dict[str, Any]:
    """Let tasks of a run, and what depends on them, run again."""
    return _clear(asked, asked.path["run_id"])


def clear_many(asked: Asked) -> dict[str, Any]:
    """The same for several runs: each is cleared, or says why not."""
    made = []
    for run_id in dict.fromkeys(asked.body.run_ids):
        try:
            made.append(_clear(asked, run_id))
        except TidemillError as error:
            made.append({
                "run_id": run_id, "tasks": [], "same_attempt": False, "why": "", "new_run_id": None, "attempt": None,
                "dry_run": asked.query.dry_run, "error": error.what, "status": status_of(error),
            })  # fmt: skip
    return {"runs": made, "dry_run": asked.query.dry_run}


def _clear(asked: Asked, run_id: int) -> dict[str, Any]:
    metadata, dry = asked.backend.metadata, asked.query.dry_run
    clearing = control.preview_clearing(metadata, run_id, asked.body.tasks, downstream=asked.body.downstream)
    answer = {
        "run_id": run_id, "tasks": list(clearing.tasks), "same_attempt": clearing.same_attempt, "why": clearing.why,
        "new_run_id": None, "attempt": None, "dry_run": dry,
    }  # fmt: skip
    if dry:
        return answer
    run = control.clear(metadata, clearing, asked.backend.clock.now())
    asked.backend.ring()
    return {**answer, "new_run_id": run.id, "attempt": run.attempt}


def mark(asked: Asked) -> dict[str, Any]:
    """Let a task count as ended, whatever became of it."""
    run_id, body, metadata = asked.path["run_id"], asked.body, asked.backend.metadata
    clearing = control.preview_clearing(metadata, run_id, [body.task])
    answer = {"run_id": run_id, "task": body.task, "state": body.state, "tasks": list(clearing.tasks)}
    if asked.query.dry_run:
        return {**answer, "new_run_id": None, "dry_run": True}
    key = control.whole(body.task, body.index)
    run = control.mark(metadata, run_id, key, TaskState(body.state), asked.backend.clock.now())
    asked.backend.ring()
    return {**answer, "new_run_id": run.id, "dry_run": False}


def cancel(asked: Asked) -> dict[str, Any]:
    """Stop a run; main never sees it, its branch stays."""
    return _cancel(asked, [asked.path["run_id"]], each=False)


def cancel_many(asked: Asked) -> dict[str, Any]:
    """Stop runs: each is stopped, or says why not."""
    return _cancel(asked, list(dict.fromkeys(asked.body.run_ids)))


def _cancel(asked: Asked, run_ids: list[int], *, each: bool = True) -> dict[str, Any]:
    done: list[int] = []
    refused: list[dict[str, Any]] = []
    now = asked.backend.clock.now()
    for run_id in run_ids:
        try:
            if asked.query.dry_run:
                control.preview_cancelling(asked.backend.metadata, run_id)
            else:
                control.cancel(asked.backend.metadata, run_id, now)
            done.append(run_id)
        except TidemillError as error:
            if not each:
                raise
            refused.append({"run_id": run_id, "status": status_of(error), "error": error.what})
    if done and not asked.query.dry_run:
        asked.backend.ring()
    return {"run_ids": done, "refused": refused, "dry_run": asked.query.dry_run}
