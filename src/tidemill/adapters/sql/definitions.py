"""Store `definitions`: the pipelines of a project as they were last read, and files that could not be read.

Many files are recorded in a handful of statements: 5,000 of them are read when a project is first seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import delete, exists, not_, select, update

from tidemill.adapters.sql.columns import interval_columns, interval_from
from tidemill.adapters.sql.schedule_schema import definitions, import_errors, pipelines
from tidemill.adapters.sql.schema import runs
from tidemill.adapters.sql.session import AnyRow, Session, in_parts
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition, Schedule
from tidemill.model.errors import Refused, UnknownName
from tidemill.model.run import RUN_ENDS, RunState
from tidemill.ports.definitions import Kept, PipelineRecord, Unreadable

T = TypeVar("T", int, str)

#: Names in one statement: databases take some thousands of parameters, and plan long lists slowly.
#: Definitions that a process keeps.
_KEPT = 1000


class SqlDefinitions:
    """The port's `Definitions` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._project = session.project

    def keep(self, definitions: Iterable[Definition], code: str, file: str, now: datetime) -> list[str]:
        """Record what a file makes: all of it. Raises Refused."""
        kept = self.keep_all({file: tuple(definitions)}, code, now)
        for error in kept.refused.values():
            raise error
        return list(kept.changed)

    def keep_all(self, files: Mapping[str, Sequence[Definition]], code: str, now: datetime) -> Kept:
        """The same for many files, in a few statements for all of them."""
        known = self._known(files)
        made, refused = _told_apart(files, known)
        rows = {name: _row(definition) for name, (_, definition) in made.items()}
        same = [name for name in made if (old := known.get(name)) and old.active and old.hash == rows[name]["hash"]
                and old.file == made[name][0]]  # fmt: skip
        changed = sorted(made.keys() - set(same))
        ids = self._ids([rows[name] for name in changed], now)
        self._write([self._pipeline(*made[name], ids[name], code, now) for name in changed])
        for names in _parts(same):
            mine = (self._own(), pipelines.c.name.in_(names))
            self._session.change(update(pipelines).where(*mine).values(code_version=code, seen_at=now))
        read = files.keys() - refused.keys()
        self._rest(old.name for old in known.values() if old.active and old.file in read and old.name not in made)
        self._forgive(read)
        return Kept(tuple(changed), refused)

    def recode(self, code: str, unread: Iterable[str] = ()) -> None:
        """The project's code has a new version."""
        c, e = pipelines.c, import_errors.c
        failed = exists().where(e.project == self._project, e.file == c.file)
        without = [c.file.not_in(files)] if (files := sorted(unread)) else []
        mine = (self._own(), c.active, c.code_version != code, not_(failed), *without)
        self._session.change(update(pipelines).where(*mine).values(code_version=code))

    def code_in_use(self) -> frozenset[str]:
        """Versions that something still needs."""
        unended = [state for state in RunState if state not in RUN_ENDS]
        theirs = select(runs.c.code_version).where(runs.c.project == self._project, runs.c.state.in_(unended))
        mine = select(pipelines.c.code_version).where(self._own(), pipelines.c.active)
        found = [*self._session.all(theirs.distinct()), *self._session.all(mine.distinct())]
        return frozenset(code for (code,) in found if code is not None)

    def files(self) -> frozenset[str]:
        """Files that something is known of."""
        errors = select(import_errors.c.file).where(import_errors.c.project == self._project)
        mine = select(pipelines.c.file).where(self._own(), pipelines.c.active).distinct()
        return frozenset(file for (file,) in [*self._session.all(mine), *self._session.all(errors)])

    def fail(self, error: Unreadable) -> None:
        """Record that a file could not be read."""
        values = {"kind": error.kind, "what": error.what, "place": error.place, "hint": error.hint, "at": error.at}
        insert = self._session.insert(import_errors).values(project=self._project, file=error.file, **values)
        insert = insert.on_conflict_do_update(index_elements=["project", "file"], set_=values)
        self._session.add(insert.returning(import_errors.c.file))

    def forget(self, file: str) -> list[str]:
        """A file is gone."""
        query = select(pipelines.c.name).where(self._own(), pipelines.c.file == file, pipelines.c.active)
        names = sorted(name for (name,) in self._session.all(query))
        self._rest(names)
        self._forgive([file])
        return names

    def get(self, definition_id: int) -> Definition | None:
        """A definition by its id."""
        return self.get_all([definition_id]).get(definition_id)

    def get_all(self, ids: Iterable[int]) -> dict[int, Definition]:
        """Definitions by their ids."""
        wanted = set(ids)
        # None is ever changed. A write transaction keeps none: undone, an id that it gave out is given out again.
        kept = self._session.definitions if self._session.definitions is not None else {}
        found = {id_: made for id_ in wanted if (made := kept.get(id_)) is not None}
        for some in _parts(wanted - found.keys()):
            query = select(definitions.c.id, definitions.c.body)
            query = query.where(definitions.c.id.in_(some), definitions.c.project == self._project)
            for row in self._session.all(query):
                found[row.id] = kept[row.id] = Definition.from_json(row.body)
        if len(kept) > _KEPT:
            kept.clear()
        return found

    def pipeline(self, name: str) -> PipelineRecord | None:
        """One pipeline."""
        row = self._session.first(select(pipelines).where(self._own(), pipelines.c.name == name))
        return _record(row) if row else None

    def pipelines(self, *, active: bool | None = True) -> list[PipelineRecord]:
        """Pipelines by name."""
        query = select(pipelines).where(self._own()).order_by(pipelines.c.name)
        if active is not None:
            query = query.where(pipelines.c.active == active)
        return [_record(row) for row in self._session.all(query)]

    def due(self, now: datetime) -> list[PipelineRecord]:
        """Pipelines whose schedule is to be looked at."""
        query = select(pipelines).where(*self._live(), pipelines.c.next_at <= now)
        return [_record(row) for row in self._session.all(query.order_by(pipelines.c.next_at, pipelines.c.name))]

    def next_due(self) -> datetime | None:
        """When the next schedule is to be looked at."""
        query = select(pipelines.c.next_at).where(*self._live(), pipelines.c.next_at.is_not(None))
        row = self._session.first(query.order_by(pipelines.c.next_at).limit(1))
        return row.next_at if row else None

    def advance(self, name: str, newest: Interval | None, next_at: datetime | None) -> None:
        """Note how far a schedule is."""
        values: dict[str, Any] = {"next_at": next_at, **(interval_columns(newest) if newest is not None else {})}
        self._session.change(update(pipelines).where(self._own(), pipelines.c.name == name).values(**values))

    def pause(self, name: str, paused: bool, now: datetime) -> None:
        """Pause or resume a schedule."""
        query = select(pipelines).where(self._own(), pipelines.c.name == name, pipelines.c.active)
        row = self._session.first(query, lock=True)
        if row is None:
            known = select(pipelines.c.name).where(self._own(), pipelines.c.active)
            raise UnknownName.of("pipeline", name, (other for (other,) in self._session.all(known)))
        if row.paused == paused:
            return
        values: dict[str, Any] = {"paused": paused}
        definition = self.get(row.definition_id)
        if not paused and definition is not None and _by_time(definition.schedule):
            values["next_at"] = now
        self._session.change(update(pipelines).where(self._own(), pipelines.c.name == name).values(**values))

    def errors(self) -> list[Unreadable]:
        """Files that could not be read."""
        c = import_errors.c
        rows = self._session.all(select(import_errors).where(c.project == self._project).order_by(c.file))
        return [Unreadable(row.file, row.kind, row.what, row.place, row.hint, row.at) for row in rows]

    # -- parts of `keep_all`

    def _known(self, files: Mapping[str, Sequence[Definition]]) -> dict[str, AnyRow]:
        """What is recorded of the files' pipelines, and of those that have a name which the files make."""
        c = pipelines.c
        query = select(c.name, c.file, c.active, definitions.c.hash)
        query = query.join(definitions, definitions.c.id == c.definition_id).where(self._own())
        found: dict[str, AnyRow] = {}
        for some in _parts(files):
            found.update((row.name, row) for row in self._session.all(query.where(c.file.in_(some))))
        names = {definition.name for made in files.values() for definition in made}
        for some in _parts(names - found.keys()):
            found.update((row.name, row) for row in self._session.all(query.where(c.name.in_(some))))
        return found

    def _ids(self, rows: list[dict[str, Any]], now: datetime) -> dict[str, int]:
        """Record definitions; ids by pipeline, those of older rows where nothing is new."""
        keys = ["project", "pipeline", "hash"]
        insert = self._session.insert(definitions)
        # An update that changes nothing: what was there already is returned like what is new.
        insert = insert.on_conflict_do_update(index_elements=keys, set_={"hash": insert.excluded.hash})
        values = [{**row, "project": self._project, "created_at": now} for row in rows]
        found = self._session.add_each(insert.returning(definitions.c.id, definitions.c.pipeline), values)
        return {row.pipeline: row.id for row in found}

    def _pipeline(self, file: str, definition: Definition, id_: int, code: str, now: datetime) -> dict[str, Any]:
        return {
            "project": self._project,
            "name": definition.name,
            "definition_id": id_,
            "code_version": code,
            "file": file,
            "paused": definition.paused,
            "active": True,
            "next_at": now if _by_time(definition.schedule) else None,
            "seen_at": now,
        }

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Insert or change pipelines; what people and schedules have set (`paused`, the interval) stays."""
        insert = self._session.insert(pipelines)
        new = {name: insert.excluded[name] for name in
               ("definition_id", "code_version", "file", "active", "next_at", "seen_at")}  # fmt: skip
        self._session.add_all(insert.on_conflict_do_update(index_elements=["project", "name"], set_=new), rows)

    def _rest(self, names: Iterable[str]) -> None:
        """Pipelines that no file makes any longer."""
        for some in _parts(names):
            mine = (self._own(), pipelines.c.name.in_(some))
            self._session.change(update(pipelines).where(*mine).values(active=False, next_at=None))

    def _forgive(self, files: Iterable[str]) -> None:
        c = import_errors.c
        for some in _parts(files):
            self._session.change(delete(import_errors).where(c.project == self._project, c.file.in_(some)))

    def _own(self) -> Any:
        return pipelines.c.project == self._project

    def _live(self) -> tuple[Any, ...]:
        return self._own(), pipelines.c.active, not_(pipelines.c.paused)


def _parts(things: Iterable[T]) -> Iterator[Sequence[T]]:
    """Some at a time, in order: two writers then meet their rows in the same one and cannot wait for each other."""
    return in_parts(sorted(things))


def _told_apart(
    files: Mapping[str, Sequence[Definition]], known: Mapping[str, AnyRow]
) -> tuple[dict[str, tuple[str, Definition]], dict[str, Refused]]:
    """What to record, by pipeline, with its file; and the files of which nothing is recorded.

    A name belongs to the active pipeline that has it, unless its file is among those read and makes it no longer; else
    to the first file that makes it.
    """
    owners = {name: row.file for name, row in known.items() if row.active}
    for name, file in list(owners.items()):
        if file in files and all(definition.name != name for definition in files[file]):
            del owners[name]
    made: dict[str, tuple[str, Definition]] = {}
    refused: dict[str, Refused] = {}
    for file, definitions_ in files.items():
        other = next(((d, owner) for d in definitions_ if (owner := owners.get(d.name, file)) != file), None)
        if other is not None:
            refused[file] = Refused(
                f'Pipeline "{other[0].name}" is made by another file too: {other[1]}.',
                where=other[0].place or file,
                hint="rename one of them",
            )
            continue
        for definition in definitions_:
            owners[definition.name] = file
            made[definition.name] = (file, definition)
    return made, refused


def _row(definition: Definition) -> dict[str, Any]:
    body = definition.as_json()
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {"pipeline": definition.name, "hash": hashlib.sha256(text.encode()).hexdigest(), "body": body}


def _by_time(schedule: Schedule) -> bool:
    """Whether it is to be looked at when time has passed; files are looked for again and again."""
    return bool(schedule.timetable or schedule.intervals or schedule.files or schedule.continuous)


def _record(row: AnyRow) -> PipelineRecord:
    return PipelineRecord(
        row.name,
        row.definition_id,
        row.code_version,
        row.file,
        row.paused,
        row.active,
        interval_from(row),
        row.next_at,
        row.seen_at,
    )
