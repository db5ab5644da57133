"""`tidemill backfill`: runs for a range of intervals, shown first, a few at a time, paused and gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group, limit_option
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidemill.model.batch import Interval

_STYLES = {"success": "good", "failed": "bad", "paused": "warn", "cancelled": "warn"}
#: Intervals of a preview that a person is shown; JSON has all.
_SHOWN = 12


@click.group(cls=Group)
def backfill() -> None:
    """Run a pipeline for a range of intervals.

    The scheduler runs them, a few at a time; `tidemill up` starts one.
    """


_ID = click.argument("backfill_id", type=click.IntRange(min=1), metavar="BACKFILL")


@backfill.command(cls=Command, asks=True)
@click.argument("pipeline")
@click.argument("when", metavar="RANGE")
@click.option("--policy", type=click.Choice(["missing", "failed", "all"]), default="missing", show_default=True,
              help="Which of them: never run; also those that failed; all again.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="So many at a time.")
@click.option("--newest-first", is_flag=True, help="From the end of the range to its beginning.")
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task and what depends on it.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Override a parameter of the pipeline.")
@click.option("--dry-run", is_flag=True, help="Show the intervals, and do nothing.")
@pass_invocation
def run(
    invocation: Invocation,
    pipeline: str,
    when: str,
    policy: str,
    concurrency: int,
    newest_first: bool,
    tasks: tuple[str, ...],
    params: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Begin a backfill.

    RANGE is a date (2013-01-15) or two with both ends included (2013-01-15..2013-01-20).
    """
    from tidemill.model.backfill import Policy
    from tidemill.plan.params import read_params
    from tidemill.ports.installation import ToFill

    asked = ToFill(pipeline, when, Policy(policy), newest_first, concurrency, tasks)
    backfills = invocation.installation.backfills
    if dry_run:
        _preview(invocation, pipeline, backfills.preview(asked))
        return
    definition = invocation.installation.pipelines.declared(pipeline).definition
    conf = read_params(definition.params, params, strict=not definition.any_params, where=definition.place)
    made, intervals = backfills.begin(asked, conf)
    if invocation.json:
        invocation.out.object({"backfill_id": made, "intervals": len(intervals)})
        return
    told = [("began", f"backfill {made}", count(len(intervals), "intervals"), f"{intervals[0]} first")]
    invocation.out.facts(told)
    invocation.out.next(f"tidemill backfill show {made}")


def _preview(invocation: Invocation, pipeline: str, intervals: Sequence[Interval]) -> None:
    out = invocation.out
    if invocation.json:
        listed = [[interval.start, interval.end] for interval in intervals]
        out.object({"pipeline": pipeline, "intervals": listed, "dry_run": True})
        return
    shown = list(intervals)
    cut = len(shown) > _SHOWN
    head = shown[: _SHOWN // 2] if cut else shown
    out.facts([("would run", f"{pipeline} {interval}") for interval in head])
    if cut:
        out.line(f"... {count(len(shown) - _SHOWN, 'more')} ...")
        out.facts([("would run", f"{pipeline} {interval}") for interval in shown[-_SHOWN // 2 :]])
    out.note(count(len(shown), "intervals"))


@backfill.command("ls", cls=Command, asks=True)
@limit_option(20, "How many, newest first; 0: all.")
@pass_invocation
def list_backfills(invocation: Invocation, limit: int) -> None:
    """List backfills, newest first."""
    listed = invocation.installation.backfills.listed(limit or None)
    out = invocation.out
    if invocation.json:
        out.object({"backfills": listed})
        return
    if not listed:
        out.note("no backfill yet; try: tidemill backfill run PIPELINE 2013-01-01..2013-01-31")
        return
    columns = [Column("backfill", right=True), Column("pipeline"), Column("range"), Column("state"),
               Column("done", right=True), Column("failed", right=True), Column("running", right=True),
               Column("waiting", right=True), Column("began")]  # fmt: skip
    out.grid(columns, [_row(one) for one in listed])
    out.next(f"tidemill backfill show {listed[0]['backfill_id']}")


def _row(one: dict[str, Any]) -> list[str]:
    state = Styled(one["state"], _STYLES[one["state"]]) if one["state"] in _STYLES else one["state"]
    done = one["progress"]
    return [
        str(one["backfill_id"]), one["pipeline"], one["range"], state, f"{done['success']}/{done['total']}",
        str(done["failed"]), str(done["running"]), str(done["waiting"]), moment(one["created_at"]),
    ]  # fmt: skip


@backfill.command(cls=Command, asks=True)
@_ID
@pass_invocation
def show(invocation: Invocation, backfill_id: int) -> None:
    """How far a backfill has come: its intervals and their runs."""
    about = invocation.installation.backfills.one(backfill_id)
    out = invocation.out
    if invocation.json:
        out.object(about)
        return
    done = about["progress"]
    out.facts(
        [
            ("backfill", str(backfill_id)),
            ("pipeline", f"{about['pipeline']} {about['range']}"),
            ("state", about["state"]),
            ("policy", about["policy"]),
            ("progress", f"{done['success']} of {done['total']} published, {done['failed']} failed, "
                         f"{done['running']} running, {done['waiting']} waiting"),
        ]
    )  # fmt: skip
    out.line()
    columns = [Column("interval"), Column("run", right=True), Column("state")]
    rows = [[one["interval"], str(one["run_id"] or "-"), one["state"]] for one in about["intervals"]]
    out.grid(columns, rows)
    failed = next((one for one in about["intervals"] if one["state"] == "failed"), None)
    out.next(f"tidemill runs show {failed['run_id']}" if failed else "tidemill runs ls")


def _move(invocation: Invocation, backfill_id: int, state: str, verb: str) -> None:
    from tidemill.model.backfill import BackfillState

    invocation.installation.backfills.move(backfill_id, BackfillState(state))
    if invocation.json:
        invocation.out.object({"backfill_id": backfill_id, "state": state})
        return
    invocation.out.facts([(verb, f"backfill {backfill_id}")])
    invocation.out.next(f"tidemill backfill show {backfill_id}")


@backfill.command(cls=Command, asks=True)
@_ID
@pass_invocation
def pause(invocation: Invocation, backfill_id: int) -> None:
    """Begin no more of its runs; those that are under way go on."""
    _move(invocation, backfill_id, "paused", "paused")


@backfill.command(cls=Command, asks=True)
@_ID
@pass_invocation
def resume(invocation: Invocation, backfill_id: int) -> None:
    """Go on with a backfill that was paused."""
    _move(invocation, backfill_id, "running", "resumed")


@backfill.command(cls=Command, asks=True)
@_ID
@pass_invocation
def cancel(invocation: Invocation, backfill_id: int) -> None:
    """End a backfill, and stop its runs that are under way."""
    _move(invocation, backfill_id, "cancelled", "cancelled")
