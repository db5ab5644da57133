"""Staging: rows into data files of one table's next version, nothing visible yet.

    base (the fork's version) -> evolve as columns appear -> data files -> commit -> a new pointer

The pointer is moved afterwards, by `Attempt.commit`, together with those of other tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tidemill.flow.attempt import Attempt
from tidemill.model.branch import ChangeKind, StagedFile, TableChange
from tidemill.model.policy import Policy
from tidemill.model.table import BATCH_ID, LOADED_AT, SYSTEM_COLUMNS, Scan, Schema, TableName, TableSpec, WriteMode
from tidemill.ports.catalog import FileWriter

#: Prefix of the table properties that are Tidemill's own.
PROPERTY = "tidemill."


def properties_of(spec: TableSpec) -> dict[str, str]:
    """What a table's own metadata says about how it is written, so that any reader of the lake can know."""
    found = {
        "write": spec.write.value,
        "key": json.dumps(spec.key) if spec.key else "",
        "order": spec.order or "",
        "surrogate_key": spec.surrogate_key or "",
        "delete_flag": spec.delete_flag or "",
        "changes": "true" if spec.changes else "",
        "marks": "true" if spec.marks else "",
        "parent": str(spec.parent) if spec.parent else "",
        "doc": spec.doc,
        "policy": json.dumps({name: str(p) for name, p in spec.policies.items()}) if spec.policies else "",
    }
    return {PROPERTY + name: value for name, value in found.items() if value}


def spec_from(name: TableName, properties: Mapping[str, str]) -> TableSpec:
    """How a table is written, from its own properties; a table of another tool's counts as appended to."""

    def say(option: str) -> str:
        return properties.get(PROPERTY + option, "")

    return TableSpec(
        name,
        WriteMode(say("write") or WriteMode.APPEND),
        key=tuple(json.loads(say("key") or "[]")),
        order=say("order") or None,
        surrogate_key=say("surrogate_key") or None,
        delete_flag=say("delete_flag") or None,
        changes=bool(say("changes")),
        marks=bool(say("marks")),
        parent=TableName.parse(say("parent")) if say("parent") else None,
        doc=say("doc"),
        policies={column: Policy.parse(text) for column, text in json.loads(say("policy") or "{}").items()},
    )


class Stage:
    """The next version of one table, being written by one task.

    Use as a context: leaving it without `commit` leaves only garbage files behind.

    Args:
        attempt: who writes.
        spec: the table.
        fill: values of columns that the rows do not bring; `_batch_id` and `_loaded_at` are always filled.
        copies: column to fill -> column of the rows that it repeats.
        number: name of a column that is numbered from 0 in the order of the rows, if any.
        mixed: True where rows of several batches are written, each with its own `_batch_id`.
    """

    def __init__(
        self,
        attempt: Attempt,
        spec: TableSpec,
        *,
        fill: Mapping[str, Any] | None = None,
        copies: Mapping[str, str] | None = None,
        number: str | None = None,
        mixed: bool = False,
    ) -> None:
        self.attempt = attempt
        self.spec = spec
        self.rows = 0
        self._fill: dict[str, Any] = dict(fill or {})
        if not mixed:
            self._fill |= {BATCH_ID: attempt.batch.id, LOADED_AT: attempt.services.clock.now()}
        self._copies = dict(copies or {})
        self._number = number
        self._batch_id = None if mixed else attempt.batch.id
        self.base = attempt.fork.get(spec.name)
        self.pointer = self.base
        self._known: Schema | None = None
        self._files: list[StagedFile] = []
        self._writer: FileWriter | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exit_: object) -> None:
        self._stack.close()

    @property
    def name(self) -> TableName:
        """The table's name."""
        return self.spec.name

    def shape(self, schema: Schema) -> str:
        """Make sure that the table has the columns of `schema`; returns the staged pointer."""
        if self.pointer is not None and self._known == schema:
            return self.pointer
        catalog = self.attempt.services.catalog
        if self.pointer is None:
            full = schema.with_columns(SYSTEM_COLUMNS)
            shaped = catalog.create(self.spec, full, properties=properties_of(self.spec))
        else:
            shaped = catalog.evolve(self.name, self.pointer, schema, properties=properties_of(self.spec))
        if shaped != self.pointer:
            self._close_writer()
            self.pointer = shaped
        self._known = schema
        return shaped

    def fill(self, values: Mapping[str, Any]) -> None:
        """Values of columns that the rows from here on do not bring."""
        if any(name not in self._fill or self._fill[name] != value for name, value in values.items()):
            self._close_writer()
            self._fill |= values

    def write(self, batch: Any, schema: Schema) -> None:
        """Add an Arrow record batch whose columns are those of `schema`."""
        self._open(schema).write(batch)
        self.rows += batch.num_rows

    def write_rows(self, rows: list[dict[str, object]], schema: Schema) -> None:
        """Add a few rows given as mappings."""
        self._open(schema).write_rows(rows)
        self.rows += len(rows)

    def _open(self, schema: Schema) -> FileWriter:
        pointer = self.shape(schema)
        if self._writer is None:
            self._writer = self._stack.enter_context(
                self.attempt.services.catalog.writer(
                    self.name,
                    pointer,
                    batch_id=self._batch_id,
                    fill=self._fill,
                    copies=self._copies,
                    number=self._number,
                    first=self.rows,
                )
            )
        return self._writer

    def close_files(self) -> tuple[StagedFile, ...]:
        """Finish the data files written so far."""
        self._close_writer()
        return tuple(self._files)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._files.extend(self._writer.finish())
            self._writer = None
            self._stack.close()

    def base_scan(self, batch_id: int | None = None) -> Scan | None:
        """The files of the fork's version, or those that can hold rows of one batch."""
        if self.base is None:
            return None
        return self.attempt.services.catalog.scan(self.name, self.base, batch_id=batch_id)

    def commit(self, kind: ChangeKind, remove: Iterable[str] = (), add: Iterable[StagedFile] = ()) -> str:
        """Write the version with the new files, those of `add`, and without `remove`; returns its pointer.

        Moves nothing. The table must have been shaped. A commit that changes nothing gives the staged pointer.
        """
        files = (*self.close_files(), *add)
        removed = tuple(remove)
        assert self.pointer is not None, "a table is shaped before it is committed"
        if files or removed:
            change = TableChange(
                kind=kind,
                add=files,
                remove=removed,
                batch_id=self.attempt.batch.id,
                attempt=self.attempt.run.attempt,
            )
            self.pointer = self.attempt.services.catalog.commit(self.name, self.pointer, change)
        return self.pointer


def own_files(stage: Stage) -> tuple[list[str], Scan | None]:
    """Files of the base that hold only this batch's rows, and a scan of those that mix them with others'."""
    scan = stage.base_scan(stage.attempt.batch.id)
    if scan is None:
        return [], None
    own = [f.path for f in scan.files if f.batch_id == stage.attempt.batch.id]
    mixed = tuple(f for f in scan.files if f.batch_id is None)
    return own, replace(scan, files=mixed, batch_id=None) if mixed else None
