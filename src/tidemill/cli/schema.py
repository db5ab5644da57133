"""`tidemill schema`: what destinations lack of what is declared, and the revisions that bring it, kept in Git."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from tidemill.flow.schemas import Standing
    from tidemill.model.migration import Migration
    from tidemill.model.pipeline import PipelineSpec

_TO = click.argument("destination", required=False)
_SQL = click.option("--sql", is_flag=True, help="Show the statements, and run none.")


@click.group(cls=Group)
def schema() -> None:
    """Change destinations' tables by revisions, kept in Git.

    A destination that has a folder `migrations/DESTINATION` is altered by its revisions only. DESTINATION may be left
    out where the project delivers to one only.
    """


@schema.command(cls=Command)
@_TO
@click.option("--check", is_flag=True, help="Exit with 1 where there is a difference, or a revision to apply.")
@pass_invocation
def diff(invocation: Invocation, destination: str | None, check: bool) -> int:
    """Show what the tables there lack of what is declared.

    Declared is what a table's contract says, and what it has in the lake. `+` is missing, `~` changes its type, `-` is
    there only, and stays.
    """
    from tidemill.flow.schemas import difference, standing
    from tidemill.wiring.schemas import kept_revisions, opened_schemas

    pipelines, to = _chosen(invocation, destination)
    settings, out = invocation.settings, invocation.out
    kept = kept_revisions(settings, to)
    with opened_schemas(settings, to) as schemas:
        found = difference(invocation.services, pipelines, to, schemas)
        missing = standing(kept, schemas).missing if kept is not None else ()
    code = int(check and bool(found.changes or missing))
    if invocation.json:
        out.object({
            "destination": to,
            "kept": None if kept is None else kept.place,
            "changes": [line.strip() for one in found.changes for line in str(one).splitlines()],
            "extra": [str(one) for one in found.extra],
            "missing_revisions": [one.id for one in missing],
            "notes": list(found.notes),
        })  # fmt: skip
        return code
    for change in (*found.changes, *found.extra):
        for line in str(change).splitlines():
            out.line(out.styled(line, {"+": "added", "-": "removed", "~": "changed"}.get(line[0], "dim")))
    for note in found.notes:
        out.note(note)
    if found.changes or found.extra:
        out.line()
    out.facts([("to apply", one.id, one.message) for one in missing])
    if missing:
        out.next(f"tidemill schema upgrade {to}")
    elif found.changes:
        out.next(f'tidemill schema revision {to} -m "what it does"')
    else:
        out.facts([("nothing to change", to)])
    return code


@schema.command(cls=Command)
@_TO
@click.option("-m", "--message", required=True, help="What it does, in a few words.")
@click.option("--drop", is_flag=True, help="Drop columns that only the tables there have.")
@click.option("--empty", is_flag=True, help="Write one that does nothing, to be filled by hand.")
@pass_invocation
def revision(invocation: Invocation, destination: str | None, message: str, drop: bool, empty: bool) -> None:
    """Write what is lacking as a revision: a file to be reviewed.

    It can be edited, and belongs into Git. The first one begins the folder, and holds all tables, so that an empty
    database can be made from it. From then on deliveries alter nothing by themselves.
    """
    from tidemill.flow.schemas import write_revision
    from tidemill.wiring.schemas import opened_schemas, revisions_of

    pipelines, to = _chosen(invocation, destination)
    settings, out = invocation.settings, invocation.out
    revisions = revisions_of(settings, to)
    with opened_schemas(settings, to) as schemas:
        made = write_revision(invocation.services, pipelines, to, revisions, schemas, message, empty=empty, drop=drop)
    if invocation.json:
        told = None if made is None else {"id": made[0].id, "path": made[0].path, "changes": list(map(str, made[1]))}
        out.object({"destination": to, "revision": told})
        return
    if made is None:
        out.facts([("nothing to change", to)])
        return
    out.facts([("written", made[0].id, made[0].path)])
    out.next(f"tidemill schema upgrade {to}")


@schema.command(cls=Command)
@_TO
@click.argument("target", required=False, metavar="[REVISION]")
@_SQL
@pass_invocation
def upgrade(invocation: Invocation, destination: str | None, target: str | None, sql: bool) -> None:
    """Apply the revisions that are missing, or those up to REVISION.

    Each is one transaction with its note, so that it is applied once, or not at all.
    """
    _go(invocation, destination, target, sql=sql, down=False)


@schema.command(cls=Command)
@_TO
@click.argument("target", required=False, metavar="[REVISION]")
@_SQL
@pass_invocation
def downgrade(invocation: Invocation, destination: str | None, target: str | None, sql: bool) -> None:
    """Take back the last revision, or all after REVISION.

    `base` takes back all of them. What a revision has made goes with it, tables and columns with their rows.
    """
    _go(invocation, destination, target or "-1", sql=sql, down=True)


@schema.command(cls=Command)
@_TO
@pass_invocation
def history(invocation: Invocation, destination: str | None) -> None:
    """List the revisions, and which of them are applied."""
    from tidemill.flow.schemas import standing
    from tidemill.wiring.schemas import opened_schemas, revisions_of

    _, to = _chosen(invocation, destination)
    out = invocation.out
    with opened_schemas(invocation.settings, to) as schemas:
        found = standing(revisions_of(invocation.settings, to), schemas)
    if invocation.json:
        listed = [{"id": one.id, "message": one.message, "applied": found.done(one), "path": one.path,
                   "follows": list(one.follows)} for one in found.all]  # fmt: skip
        out.object({"destination": to, "revisions": listed, "unknown": list(found.unknown)})
        return
    if not found.all:
        out.note(f'there are no revisions for {to}; the first: tidemill schema revision {to} -m "first"')
        return
    columns = [Column("revision"), Column("state"), Column("message"), Column("file", yields=1)]
    out.grid(columns, [_row(found, at) for at in range(len(found.all))])
    for id_ in found.unknown:
        out.note(f"{to} is at revision {id_}, of which the project has no file")
    if found.missing:
        out.next(f"tidemill schema upgrade {to}")


def _row(found: Standing, at: int) -> list[str]:
    one = found.all[at]
    state = Styled("applied", "good") if found.done(one) else Styled("to apply", "warn")
    return [one.id, state, one.message, one.path]


def _go(invocation: Invocation, destination: str | None, target: str | None, *, sql: bool, down: bool) -> None:
    from tidemill.flow.schemas import apply, steps_to
    from tidemill.wiring.schemas import opened_schemas, revisions_of

    _, to = _chosen(invocation, destination)
    out = invocation.out
    with opened_schemas(invocation.settings, to) as schemas:
        steps = steps_to(to, revisions_of(invocation.settings, to), schemas, target, down=down)
        done = [] if sql else apply(to, schemas, steps)
    if invocation.json:
        told = [{"revision": one.revision, "statements": _statements(one)} for one in steps]
        out.object({"destination": to, "steps": told, "done": done})
    elif sql:
        for step in steps:
            out.line(f"-- {step.revision}")
            for statement in _statements(step):
                out.line(f"{statement};")
    elif done:
        out.facts([("taken back" if down else "applied", one, to) for one in done])
        out.next("tidemill schema history " + to if down else "tidemill data deliver --to " + to)
    else:
        out.facts([("nothing to take back" if down else "nothing to apply", to)])


def _statements(step: Migration) -> list[str]:
    """What is run, with the bounds of its transactions."""
    made = []
    for part in step.parts:
        made += ["BEGIN", *part.statements, "COMMIT"] if part.atomic else list(part.statements)
    return made


def _chosen(invocation: Invocation, destination: str | None) -> tuple[list[PipelineSpec], str]:
    """The project's pipelines, and the destination that the user means."""
    from tidemill.model.errors import UnknownName, UserError
    from tidemill.wiring.project import load_pipelines
    from tidemill.wiring.schemas import FOLDER

    settings = invocation.known_settings()
    pipelines = [made.spec() for _, made in sorted(load_pipelines(settings).items())]
    known = _destinations(pipelines)
    if destination is None:
        if len(known) != 1:
            raise UserError(
                "The project delivers to several destinations." if known else "The project delivers nothing.",
                hint=f"name one: {', '.join(known)}" if known else 'in a pipeline: deliver("orders", to="warehouse")',
            )
        return pipelines, known[0]
    if destination not in known and not (settings.root / FOLDER / destination).is_dir():
        raise UnknownName.of("destination", destination, known)
    return pipelines, destination


def _destinations(pipelines: Iterable[PipelineSpec]) -> list[str]:
    return sorted({spec.to for made in pipelines for spec in made.deliveries or ()})
