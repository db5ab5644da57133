"""The chain of a pipeline's bookmark batches: whether an earlier one holds up the next (rule 6).

An unpublished batch is waited for, because what it has archived is its own range: the next one begins where that ends.
A batch that failed before anything was archived has no range. The next one begins at the same bookmark and takes what
it would have taken, so it steps aside by itself; other failed batches do where a source says so. A run whose process
died has failed, too, but could not say so: whoever waits for it ends it first. If it comes back, it is fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from tidemill.model.batch import Batch, BatchState
from tidemill.model.branch import RefState
from tidemill.model.errors import Refused
from tidemill.model.run import RUN_ENDS, Run
from tidemill.ports.metadata import Tx
from tidemill.ports.runs import always


def unpublished(tx: Tx, pipeline: str) -> Iterator[tuple[Batch, Run]]:
    """The batches that were begun and are not published, newest first, each with its newest run."""
    for batch in tx.batches.recent(pipeline, state=BatchState.OPEN):
        last = tx.runs.last(batch.id)
        if last is not None:
            yield batch, last


def settled(tx: Tx, batch: Batch, last: Run, now: datetime, alive: Callable[[str], bool] = always) -> tuple[Batch, Run]:
    """A batch and its newest run as they are after an abandoned run has been ended.

    The batch is read once more then: up to its end the run may have taken something.
    """
    if last.state in RUN_ENDS:
        return batch, last
    ended, after = tx.runs.end_abandoned(batch.id, now, alive), tx.batches.get(batch.id)
    assert ended is not None
    assert after is not None
    if ended.state in RUN_ENDS:
        close_branch(tx, ended)
    return after, ended


def close_branch(tx: Tx, abandoned: Run) -> None:
    """The branch of an attempt whose process died: nobody writes it any more, it stays for inspection (rule 11)."""
    ref = tx.refs.get(abandoned.branch) if abandoned.branch is not None else None
    if ref is not None and ref.state is RefState.OPEN:
        tx.refs.update(ref.name, state=RefState.FAILED)


def may_step_aside(batch: Batch, last: Run, *, absorb: bool, bookmarks_only: bool) -> bool:
    """Whether a later batch need not wait for this one.

    Args:
        batch: it, not published.
        last: its newest run, as `settled` gave it.
        absorb: a source says on_failure="absorb".
        bookmarks_only: no source of the pipeline is asked for an interval: one that is owes the batch's own interval,
            which no later batch would bring.
    """
    owes_nothing = batch.took_nothing and (bookmarks_only or batch.key.interval is None)
    return last.state in RUN_ENDS and (absorb or owes_nothing)


def step_aside(tx: Tx, batch: Batch, last: Run) -> None:
    """Let later batches pass: this one can never publish, and its run stays as it ended."""
    tx.batches.update(batch.id, state=BatchState.ABSORBED)
    if last.branch is not None:
        tx.refs.update(last.branch, state=RefState.ABSORBED)


def absorbed(batch: Batch) -> Refused:
    """Why a batch that later ones have passed is not run any more."""
    if batch.took_nothing:
        return Refused(
            f"Batch {batch.id} ({batch.key}) took nothing, and a later one has gone on in its place.",
            hint="there is nothing to run: what it would have brought is in the later batch",
        )
    return Refused(
        f"Batch {batch.id} ({batch.key}) was absorbed: a later batch took over its range.",
        hint="its rows are in the batch that absorbed it",
    )
