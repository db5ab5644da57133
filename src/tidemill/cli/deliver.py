"""`tidemill data deliver, deliveries`: bring destinations to what is published, and see how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command
from tidemill.cli.failure import explain, show
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, moment

if TYPE_CHECKING:
    from tidemill.flow.deliver import Report
    from tidemill.model.delivery import Delivery, DeliverySpec
    from tidemill.model.pipeline import PipelineSpec

_STYLES = {"pending": "warn", "failing": "bad", "delivered": "good"}
_PIPELINE = click.argument("pipeline", required=False)
_TO = click.option("--to", metavar="NAME", help="Only to this destination.")


@click.command(cls=Command)
@_PIPELINE
@_TO
@pass_invocation
def deliver(invocation: Invocation, pipeline: str | None, to: str | None) -> int:
    """Deliver now what is published and not delivered.

    PIPELINE is the name of one; without it, all that the project's files declare, and the catalog of [glue]. What is
    there already is not sent again.
    """
    from tidemill.wiring.delivering import declared, deliver_all, mirrors

    shown = mirrors(invocation.metadata, invocation.settings)
    specs = [spec for spec in shown if pipeline is None and to in (None, spec.to)]
    for made in _declaring(invocation, pipeline):
        declared(invocation.services, made.name, made.deliveries or ())
        specs += [spec for spec in made.deliveries or () if to in (None, spec.to)]
    if not specs:
        _none(pipeline, to)
    reports = deliver_all(invocation.services, invocation.settings, specs)
    failed = [report for report in reports if report.error is not None]
    if invocation.json:
        invocation.out.object({"ok": not failed, "deliveries": [report_object(one) for one in reports]})
    else:
        tell(invocation, reports)
    for report in failed:
        assert report.error is not None
        show(explain(report.error, invocation))
    return max((getattr(report.error, "exit_code", 1) for report in failed), default=0)


@click.command(cls=Command)
@_PIPELINE
@_TO
@pass_invocation
def deliveries(invocation: Invocation, pipeline: str | None, to: str | None) -> None:
    """List what goes where, and how far it is.

    A delivery is pending where main has moved since (published, not delivered), and failing where the last try failed:
    it is tried again while `tidemill up` runs, and by `tidemill data deliver`.
    """
    from tidemill.model.branch import MAIN
    from tidemill.wiring.delivering import mirrors

    mirrors(invocation.metadata, invocation.settings)
    with invocation.metadata.read() as tx:
        known = [one for one in tx.deliveries.all(pipeline) if to in (None, one.spec.to)]
        pointers = tx.refs.pointers(MAIN)
    listed = [_object(one, pointers) for one in known]
    out = invocation.out
    if invocation.json:
        out.object({"deliveries": listed})
        return
    if not listed:
        out.note('nothing was published that goes anywhere; in a pipeline: deliver("orders", to="warehouse")')
        return
    columns = [Column("pipeline"), Column("to"), Column("state"), Column("behind"), Column("delivered"),
               Column("tries", right=True), Column("next try"), Column("error")]  # fmt: skip
    out.grid(columns, [_row(one) for one in listed])
    behind = [one for one in listed if one["state"] != "delivered"]
    if behind:
        out.next(_command(behind[0]["pipeline"], behind[0]["to"]))


def after_run(invocation: Invocation, pipeline: PipelineSpec) -> list[Report]:
    """Deliver what a run has published. It stays published, however that ends."""
    from tidemill.wiring.delivering import deliver_all

    if not pipeline.deliveries:
        return []
    return deliver_all(invocation.services, invocation.settings, pipeline.deliveries)


def after_runs(invocation: Invocation) -> list[Report]:
    """Show what runs have published in the catalog of the settings."""
    from tidemill.wiring.delivering import deliver_all, mirrors

    if invocation.settings.glue is None:
        return []
    return deliver_all(invocation.services, invocation.settings, mirrors(invocation.metadata, invocation.settings))


def tell(invocation: Invocation, reports: Sequence[Report]) -> None:
    """How deliveries ended: what came there as results, what did not as a note beside them."""
    facts: list[tuple[str, str, str]] = []
    left: list[tuple[str, str, str]] = []
    for report in reports:
        spec = report.spec
        if spec.mirror is not None:
            said = _mirrored(report) if report.error is None else f"try {report.tries}"
            one = ("mirrored" if report.error is None else "published, not mirrored", f"main to {spec.to}", said)
            (facts if report.error is None else left).append(one)
        elif report.error is None:
            changed = f"{count(len(report.tables or ()), 'tables')}  {count(report.rows, 'rows')}"
            said = changed if report.tables else "nothing new"
            facts.append(("delivered", f"{spec.pipeline} to {spec.to}", said))
        else:
            left.append(("published, not delivered", f"{spec.pipeline} to {spec.to}", f"try {report.tries}"))
    invocation.out.facts(facts)
    invocation.out.facts(left, error=True)


def tell_left(invocation: Invocation, reports: Sequence[Report]) -> None:
    """Why some of them failed, in a line each; they are tried again."""
    for report in reports:
        if report.error is not None:
            failure = explain(report.error, invocation)
            invocation.out.facts([("why:", failure.what)], error=True)
            command = _command(report.spec.pipeline, report.spec.to)
            invocation.out.facts([("again:", command)], error=True)


def _mirrored(report: Report) -> str:
    """How many entries of a catalog were changed."""
    changed = list((report.tables or {}).values())
    removed = changed.count("removed")
    parts = [count(len(changed) - removed, "tables")] if len(changed) > removed else []
    return "  ".join([*parts, *([f"{removed} removed"] if removed else [])]) or "nothing new"


def _command(pipeline: str, to: str) -> str:
    """What delivers it."""
    return f"tidemill data deliver --to {to}" if pipeline == "*" else f"tidemill data deliver {pipeline} --to {to}"


def report_object(report: Report) -> dict[str, Any]:
    """A report for programs."""
    return {
        "pipeline": report.spec.pipeline,
        "to": report.spec.to,
        "state": "delivered" if report.error is None else "failing",
        "rows": report.rows,
        "tables": sorted(map(str, report.tables or ())),
        "tries": report.tries,
        "error": None if report.error is None else getattr(report.error, "what", str(report.error)),
    }


def _declaring(invocation: Invocation, pipeline: str | None) -> list[PipelineSpec]:
    """The pipelines that the user means."""
    from tidemill.wiring.project import find_pipeline, load_pipelines

    settings = invocation.known_settings()
    if pipeline is not None:
        return [find_pipeline(settings, pipeline).spec()]
    return [made.spec() for _, made in sorted(load_pipelines(settings).items())]


def _none(pipeline: str | None, to: str | None) -> None:
    from tidemill.model.errors import UserError

    who = f'Pipeline "{pipeline}" delivers nothing' if pipeline else "No pipeline of the project delivers anything"
    raise UserError(who + (f' to "{to}".' if to else "."), hint='in its file: deliver("orders", to="warehouse")')


def _object(one: Delivery, pointers: Any) -> dict[str, Any]:
    spec: DeliverySpec = one.spec
    return {
        "pipeline": spec.pipeline,
        "to": spec.to,
        "state": one.state(pointers).value,
        "tables": {str(asked.table): asked.into for asked in spec.tables},
        "behind": [str(name) for name in one.behind(pointers)],
        "delivered_at": one.delivered_at,
        "rows": one.rows,
        "tries": one.tries,
        "next_at": one.next_at,
        "error": one.error,
    }


def _row(one: dict[str, Any]) -> list[str]:
    of = f" of {len(one['tables'])}" if one["tables"] else ""
    behind = f"{count(len(one['behind']), 'tables')}{of}" if one["behind"] else "-"
    error = (one["error"] or "-").splitlines()[0]
    return [one["pipeline"], one["to"], Styled(one["state"], _STYLES[one["state"]]), behind,
            moment(one["delivered_at"]), str(one["tries"]), moment(one["next_at"]), error]  # fmt: skip
