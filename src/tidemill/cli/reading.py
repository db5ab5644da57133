"""Which ref a command reads, said whenever that could be misunderstood: after a failed run, or off `main`."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.cli.invocation import Invocation
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.run import RunState
from tidemill.ports.metadata import Tx

#: Failed branches looked at, newest first: a hundred that wait for repair say no more than fifty.
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """A batch whose newest attempt failed; `branch` is None where it failed before it wrote a table."""

    batch_id: int
    branch: str | None


def failed_batches(tx: Tx) -> list[FailedBatch]:
    """Batches that wait for a repair, newest failure first."""
    found: dict[int, FailedBatch] = {}
    newest = next(iter(tx.runs.recent(limit=1)), None)
    if newest is not None and newest.state is RunState.FAILED:
        found[newest.batch_id] = FailedBatch(newest.batch_id, newest.branch)
    failed = tx.refs.all(kinds=[RefKind.RUN], states=[RefState.FAILED])
    for ref in reversed(failed[-_LOOKED_AT:]):
        run = tx.runs.get(ref.run_id) if ref.run_id is not None else None
        last = tx.runs.last(run.batch_id) if run is not None else None
        # The branch of an attempt that lost a race and was followed by another one is no failure any more.
        if run is not None and last is not None and last.id == run.id and run.state is RunState.FAILED:
            found.setdefault(run.batch_id, FailedBatch(run.batch_id, ref.name))
    return list(found.values())


def tell_ref(invocation: Invocation) -> str:
    """The ref to read; says on standard error which one it is where that matters."""
    ref = invocation.branch or MAIN
    if invocation.out.quiet:
        return ref
    with invocation.metadata.read() as tx:
        failed = failed_batches(tx)
    text = told(ref, failed)
    if text:
        invocation.out.note(text)
    return ref


def told(ref: str, failed: list[FailedBatch]) -> str | None:
    """The sentence about the ref; None where `main` is read and nothing failed."""
    if ref != MAIN:
        mine = next((f for f in failed if f.branch == ref), None)
        return f"reading {ref}" + (f"; batch {mine.batch_id} failed and is not on {MAIN}" if mine else "")
    if not failed:
        return None
    first = failed[0]
    where = f"is on branch {first.branch}" if first.branch else "wrote no table"
    more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
    return f"reading {MAIN}; batch {first.batch_id} failed and {where}{more}"
