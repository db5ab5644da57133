"""Schemas of destinations: what their tables lack of what is declared, and the revisions that bring it, up and down.

pipelines, `main` -> declared -> plan/migration: changes -> plan/revision_text -> a file of the project
files, versions noted there -> steps -> the destination, each with its note in one transaction
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tidemill.flow.query import Reading, reading
from tidemill.flow.services import Services
from tidemill.flow.stage import spec_from
from tidemill.model.delivery import DeliveredTable, DeliverySpec
from tidemill.model.errors import Refused, TidemillError, UserError
from tidemill.model.migration import Change, Declared, Existing, GoneColumn, Migration, Revision
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.policy import Policy
from tidemill.model.redshift import Layout
from tidemill.model.table import SYSTEM_COLUMNS, Schema, TableName, TableSpec, WriteMode
from tidemill.model.types import STRING
from tidemill.plan.delivery import Seen
from tidemill.plan.migration import asked_columns, asked_table, changes
from tidemill.plan.revision_text import REDSHIFT, written
from tidemill.plan.sql import quote
from tidemill.ports.schemas import Revisions, TableSchemas


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a destination is.

    Args:
        all: revisions that the project has, each after those that it follows.
        applied: those that the destination notes.
        missing: those that it lacks.
        unknown: ids that it notes, and of which the project has no file.
    """

    all: tuple[Revision, ...]
    applied: tuple[str, ...]
    missing: tuple[Revision, ...]
    unknown: tuple[str, ...]

    def done(self, revision: Revision) -> bool:
        """Whether the destination has a revision."""
        return revision not in self.missing


@dataclass(frozen=True, slots=True)
class Difference:
    """What a destination lacks of what is declared.

    Args:
        changes: what a revision would do.
        extra: columns that only the tables there have.
        existing: the tables, and the views that read them.
        notes: for people.
    """

    changes: tuple[Change, ...]
    extra: tuple[GoneColumn, ...]
    existing: Existing
    notes: tuple[str, ...]


def standing(revisions: Revisions, schemas: TableSchemas) -> Standing:
    """How far a destination is."""
    known = tuple(revisions.all())
    by_id = {one.id: one for one in known}
    applied = schemas.applied(revisions.versions)
    done: set[str] = set()
    todo = [id_ for id_ in applied if id_ in by_id]
    while todo:
        id_ = todo.pop()
        if id_ not in done:
            done.add(id_)
            todo += by_id[id_].follows
    missing = tuple(one for one in known if one.id not in done)
    return Standing(known, applied, missing, tuple(id_ for id_ in applied if id_ not in by_id))


def must_be_current(to: str, revisions: Revisions, schemas: TableSchemas) -> None:
    """Raise Refused unless a destination has the revisions of the project, and no others."""
    found = standing(revisions, schemas)
    _must_be_known(to, found, revisions)
    if found.missing:
        more = f", and {len(found.missing) - 1} after it" if len(found.missing) > 1 else ""
        raise Refused(
            f'The schema of "{to}" lacks revision {found.missing[0]}{more}.',
            where=found.missing[0].path,
            hint=f"tidemill schema upgrade {to}",
        )


def _must_be_known(to: str, found: Standing, revisions: Revisions) -> None:
    if found.unknown:
        raise Refused(
            f'The schema of "{to}" is at revision {", ".join(found.unknown)}, of which the project has no file.',
            where=revisions.place,
            hint="take the file from Git; or, where it still is, tidemill schema downgrade",
        )


def declared_tables(
    services: Services, pipelines: Iterable[PipelineSpec], to: str, *, redshift: bool = False
) -> list[Declared]:
    """What each table that goes to a destination is to be there.

    Args:
        services: the project.
        pipelines: all of it.
        to: the destination.
        redshift: it is one, so that texts are measured, and options say how a table lies.

    Raises:
        UserError: options of a delivery to Redshift say nothing that a table can have.
    """
    made = []
    with reading(services) as seen:
        for pipeline in pipelines:
            for spec in pipeline.deliveries or ():
                if spec.to != to:
                    continue
                for one in spec.tables:
                    declared = _declared(services, seen, pipeline, one.table, one.into, redshift)
                    made.append(replace(declared, layout=_layout(spec, one)) if redshift else declared)
    return made


def _layout(spec: DeliverySpec, asked: DeliveredTable) -> Layout:
    try:
        return Layout.of(asked.into, asked.options)
    except UserError as error:
        error.where = error.where or spec.place or None
        raise


def _declared(
    services: Services, seen: Reading, pipeline: PipelineSpec, name: TableName, into: str, lengths: bool
) -> Declared:
    spec = pipeline.table(name.table)
    if name in seen.pointers:
        version = services.catalog.load(name, seen.pointers[name])
        kept = spec_from(name, version.properties)
        table = Seen(version.uuid, version.snapshot_id, version.schema, kept.write, kept.key, ())
        columns, notes = asked_columns(_contract(spec), version.schema, _policies(spec))
        key = table.row_key if kept.write is not WriteMode.APPEND else ()
        measured = _measured(services, seen, name, version.schema) if lengths else {}
        return Declared(into, columns, key, measured, tuple(f"{into}: {note}" for note in notes))
    columns = None
    if spec is not None and spec.write is not WriteMode.HISTORY and not _flattened(pipeline, name.table):
        columns, _ = asked_columns(_contract(spec), None, _policies(spec))
    if columns is None:
        return Declared(into, None, notes=(f"{into}: its columns are known when it is first published",))
    assert spec is not None
    known = spec.write is not WriteMode.APPEND and all(name in columns for name in spec.key)
    return Declared(into, columns, spec.key if known else ())


def _contract(spec: TableSpec | None) -> Schema:
    return Schema() if spec is None else spec.contract.columns.without(c.name for c in SYSTEM_COLUMNS)


def _policies(spec: TableSpec | None) -> Mapping[str, Policy]:
    return {} if spec is None else spec.policies


def _flattened(pipeline: PipelineSpec, name: str) -> bool:
    """Whether what is nested in a table's input becomes columns, or tables, of names that only data tells."""
    return name in pipeline.sources and bool(pipeline.sources[name].decode.get("flatten"))


def _measured(services: Services, seen: Reading, name: TableName, columns: Schema) -> dict[str, int]:
    """Bytes of the longest text of each column."""
    texts = [column.name for column in columns if column.type == STRING]
    if not texts:
        return {}
    listed = ", ".join(f"coalesce(max(strlen({quote(text)})), 0)" for text in texts)
    scan = services.catalog.scan(name, seen.pointers[name])
    with services.sql.query(f"SELECT {listed} FROM t", {"t": scan}) as reader:
        found = reader.read_all()
    return {text: int(found.column(at)[0].as_py()) for at, text in enumerate(texts)}


def difference(
    services: Services, pipelines: Iterable[PipelineSpec], to: str, schemas: TableSchemas, *, first: bool = False
) -> Difference:
    """What a destination lacks of what is declared.

    Args:
        services: the project.
        pipelines: all of it.
        to: the destination.
        schemas: its tables.
        first: there is no revision yet, so one would have the tables that are there, too.
    """
    redshift = schemas.dialect == REDSHIFT
    declared = declared_tables(services, pipelines, to, redshift=redshift)
    asked = [asked_table(one, schemas.type_name, required_keys=redshift) for one in declared if one.columns is not None]
    existing = schemas.existing([one.into for one in declared])
    found = changes(asked, existing, schemas.type_name, copies=redshift, first=first)
    return Difference(
        tuple(one for one in found if not isinstance(one, GoneColumn)),
        tuple(one for one in found if isinstance(one, GoneColumn)),
        existing,
        tuple(note for one in declared for note in one.notes),
    )


def write_revision(
    services: Services,
    pipelines: Iterable[PipelineSpec],
    to: str,
    revisions: Revisions,
    schemas: TableSchemas,
    message: str,
    *,
    empty: bool = False,
    drop: bool = False,
) -> tuple[Revision, tuple[Change, ...]] | None:
    """Write what a destination lacks as a revision; None: it lacks nothing.

    Args:
        services: the project.
        pipelines: all of it.
        to: the destination.
        revisions: its files.
        schemas: its tables.
        message: what the revision does.
        empty: write one that does nothing yet, to be filled by hand.
        drop: drop columns that only the tables there have.

    Raises:
        Refused: the destination lacks revisions, so that the difference would be these.
    """
    first = not revisions.all()
    if first and (noted := schemas.applied(revisions.versions)):
        raise Refused(
            f'"{to}" is at revision {", ".join(noted)}, and the project has no revisions.',
            where=revisions.place,
            hint="take the files from Git",
        )
    if not first and not empty:
        must_be_current(to, revisions, schemas)
    found: tuple[Change, ...] = ()
    existing = Existing()
    if not empty:
        told = difference(services, pipelines, to, schemas, first=first)
        found, existing = (*told.changes, *(told.extra if drop else ())), told.existing
        if not found:
            return None
    return revisions.write(message, written(found, existing.views, schemas.dialect)), found


def steps_to(
    to: str, revisions: Revisions, schemas: TableSchemas, target: str | None = None, *, down: bool = False
) -> list[Migration]:
    """What an upgrade, or a downgrade, would do.

    Raises:
        UserError: there are no revisions. Refused: the destination notes revisions of which there is no file.
    """
    found = standing(revisions, schemas)
    if not found.all:
        raise UserError(f'There are no revisions for "{to}".', hint=f'tidemill schema revision {to} -m "first"')
    _must_be_known(to, found, revisions)
    if (down and not found.applied) or not (down or found.missing or target):
        return []
    return revisions.steps(found.applied, target, down=down)


def apply(to: str, schemas: TableSchemas, steps: Sequence[Migration]) -> list[str]:
    """Do steps, each with its note in one transaction; gives the revisions that were applied, or taken back."""
    done = []
    for step in steps:
        try:
            schemas.apply(step)
        except TidemillError as error:
            error.where = error.where or f"revision {step.revision}, {to}"
            raise
        done.append(step.revision)
    return done
