"""Keyed writes: `upsert` and `history` (rule 7). SQL of `plan/merge.py` and `plan/history.py`, run over files.

    rows -> input table (append, by batch) -> which keys are touched -> which files hold them -> rewrite those files

The newest batch applies to the table as it is; an older batch, a re-run or a revert computes its keys again from
the input table. Only files that hold touched keys are rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tidemill.flow.attempt import Attempt
from tidemill.flow.quarantine import Quarantine
from tidemill.flow.stage import Stage, own_files
from tidemill.model.branch import ChangeKind
from tidemill.model.cdc import OP, UNCHANGED
from tidemill.model.errors import DefinitionError, NeedsMemory
from tidemill.model.singer import MARK, VERSION
from tidemill.model.table import (
    BATCH_ID,
    DELETED,
    LOADED_AT,
    ORDER,
    ROW,
    SYSTEM_COLUMNS,
    Column,
    Scan,
    Schema,
    TableName,
    TableSpec,
    WriteMode,
)
from tidemill.model.types import BOOLEAN, LONG, TIMESTAMPTZ, Type
from tidemill.plan.history import History, history_schema
from tidemill.plan.merge import ERROR, FILE, INCOMING, INPUT, OTHERS, REWRITTEN, TARGET, KeyedWrite, Query, Upsert
from tidemill.plan.row_versions import Ended, Marks
from tidemill.ports.decoder import Rejected
from tidemill.ports.engine import WithFiles

#: Relation: the batch's rows as an earlier version of it wrote them.
_WAS = "was"
#: Bytes that a statement here holds for each processor; the rest waits on the disk. So memory does not grow with the
#: batch, and 1M rows take no more time than with any memory; with half of it, a hash table finds no room.
_MEMORY = 50 << 20


def write_merged(
    attempt: Attempt,
    spec: TableSpec,
    schema: Schema,
    batches: Iterable[Any],
    progress: Callable[[int], None] = lambda _: None,
    *,
    ended: Ended | None = None,
    marks: Marks | None = None,
    every_key: bool = False,
) -> tuple[dict[TableName, str], int]:
    """Write a batch's rows into an upsert or history table; returns the pointers to move and the rows given.

    `ended`, `marks` and `every_key` are those of `merge_input`.

    Raises:
        DefinitionError: a key, order or delete column is not among the rows' columns.
    """
    with input_stage(attempt, spec) as given, Quarantine(attempt, spec) as quarantine:
        inputs = input_columns(spec, schema)
        given.shape(inputs)
        for batch in batches:
            given.write(batch, inputs)
            progress(given.rows)
        moves = merge_input(attempt, spec, schema, given, quarantine, ended=ended, marks=marks, every_key=every_key)
        rejected = quarantine.commit()
        if rejected:
            moves[spec.name.quarantine] = rejected
        return moves, given.rows


def input_stage(attempt: Attempt, spec: TableSpec) -> Stage:
    """The next version of the input table of `spec`, to which a batch's rows are written."""
    copies = {ORDER: spec.order} if spec.order else {}
    if spec.delete_flag:
        copies[DELETED] = spec.delete_flag
    fill: dict[str, Any] = {DELETED: False} if not spec.delete_flag else {}
    if not spec.order:
        fill[ORDER] = attempt.batch.order
    input_spec = TableSpec(spec.name.input, WriteMode.APPEND, publish=spec.publish, doc=f"every input of {spec.name}")
    return Stage(attempt, input_spec, fill=fill, copies=copies, number=ROW)


def input_columns(spec: TableSpec, schema: Schema) -> Schema:
    """The columns of the input table where the rows have those of `schema`.

    Raises:
        DefinitionError: a key, order or delete column is not among them.
    """
    _check_columns(spec, schema)
    return schema.with_columns((Column(ORDER, _order_type(spec, schema)), Column(ROW, LONG), Column(DELETED, BOOLEAN)))


def _order_type(spec: TableSpec, schema: Schema) -> Type:
    return schema[spec.order].type if spec.order else TIMESTAMPTZ


def merge_input(
    attempt: Attempt,
    spec: TableSpec,
    schema: Schema,
    given: Stage,
    quarantine: Quarantine,
    *,
    ended: Ended | None = None,
    marks: Marks | None = None,
    every_key: bool = False,
) -> dict[TableName, str]:
    """Commit the input table, and apply the batch's rows to the table; returns the pointers of both.

    Args:
        attempt: who writes.
        spec: the table.
        schema: the rows' columns.
        given: the input table's stage, with all rows written.
        quarantine: gets the rows that have no key or order.
        ended: ends rows of other versions; None: none are ended.
        marks: what rows of other versions get in place of their end; None: they end.
        every_key: the batch is about keys that its rows do not have, too: it activates a version, or did.
    """
    own, mixed = own_files(given)
    if mixed is not None:
        raise DefinitionError(
            f'The files of "{spec.name.input}" mix batches: another tool has rewritten them.',
            hint="input tables are Tidemill's own; restore the table from a tag",
        )
    before = given.base_scan()
    pointer = given.commit(ChangeKind.BATCH, own)
    whole = attempt.services.catalog.scan(spec.name.input, pointer)
    earlier = before.files if before is not None else ()
    relations = {
        INPUT: whole,
        INCOMING: replace(whole, files=tuple(f for f in whole.files if f.batch_id == attempt.batch.id)),
        _WAS: replace(whole, files=tuple(f for f in earlier if f.batch_id == attempt.batch.id)),
        OTHERS: replace(whole, files=tuple(f for f in earlier if f.batch_id != attempt.batch.id)),
    }
    target = _merge(attempt, spec, schema, relations, quarantine, ended, marks, every_key=every_key)
    return {spec.name.input: pointer, spec.name: target}


def _check_columns(spec: TableSpec, schema: Schema) -> None:
    """Every column that the write needs must be among the rows' columns."""
    needed = {"key": spec.key, "order": (spec.order,), "delete_flag": (spec.delete_flag,)}
    for option, names in needed.items():
        for name in names:
            if name is not None and name not in schema:
                raise DefinitionError(
                    f'Table "{spec.name}" has {option}="{name}", and its rows have no such column.',
                    hint="columns: " + ", ".join(schema.names[:20]),
                )


def _keyed(spec: TableSpec, columns: tuple[str, ...]) -> KeyedWrite:
    if spec.write is WriteMode.HISTORY:
        return History.of(spec, columns)
    return Upsert(spec.key, columns, spec.changes)


def _merge(
    attempt: Attempt,
    spec: TableSpec,
    schema: Schema,
    relations: dict[str, Scan],
    quarantine: Quarantine,
    ended: Ended | None,
    marks: Marks | None,
    *,
    every_key: bool,
) -> str:
    """Rewrite the files of the table that hold touched keys; returns the table's pointer."""
    services = attempt.services
    business = schema.without((spec.delete_flag,) if spec.delete_flag else ())
    business = business.without((OP, UNCHANGED) if spec.changes else ())
    if spec.write is WriteMode.HISTORY:
        business = history_schema(business, _order_type(spec, schema), spec.surrogate_key)
    business = business.without((BATCH_ID, LOADED_AT))
    if marks is not None:
        business = business.with_columns((Column(MARK, TIMESTAMPTZ),))
    with Stage(attempt, spec, mixed=True) as stage:
        shaped = stage.shape(business)
        target = services.catalog.scan(spec.name, shaped)
        columns = tuple(n for n in target.schema.names if n not in (BATCH_ID, LOADED_AT))
        write = _keyed(spec, (*columns, *(c.name for c in SYSTEM_COLUMNS)))
        tables: dict[str, Scan | WithFiles] = {**relations, TARGET: WithFiles(target, FILE)}
        write = replace(write, ended=ended if VERSION in schema else None, marks=marks)
        touched: tuple[str, ...] = (INPUT, INCOMING, _WAS) if every_key else (INCOMING, _WAS)
        plain = True
        if spec.changes:
            told = _rows(attempt, write.special(touched), tables)[0]
            # A truncate is about every key that there has been.
            touched = (INPUT, *touched) if told["truncated"] else touched
            plain = not (told["truncated"] or told["unsent"])
        if plain and not relations[_WAS].files and _one(attempt, write.is_newest(), tables):
            files, content = write.newest_files(), write.newest()
        else:
            if spec.changes:
                missing = {row["name"] for row in _rows(attempt, write.missing(), tables)}
                write = replace(write, unsent=tuple(c for c in columns if c in missing))
            files, content = write.recompute_files(touched), write.recompute(touched)
        paths = {row[FILE] for row in _rows(attempt, files, tables)}
        tables[REWRITTEN] = replace(target, files=tuple(f for f in target.files if f.path in paths))
        try:
            for batch in _batches(attempt, content, tables, _MEMORY):
                stage.write(batch, business)
            pointer = stage.commit(ChangeKind.UPSERT, sorted(paths))
        except NeedsMemory:
            with Stage(attempt, spec, mixed=True) as again:
                again.shape(business)
                for batch in _batches(attempt, content, tables, None):
                    again.write(batch, business)
                pointer = again.commit(ChangeKind.UPSERT, sorted(paths))
    for batch in _batches(attempt, write.invalid(), tables, None):
        quarantine.add(
            Rejected(spec.name.table, row[ROW] + 1, json.dumps(_plain(row), default=str), row[ERROR])
            for row in batch.to_pylist()
        )
    return pointer


def _batches(
    attempt: Attempt, query: Query, tables: Mapping[str, Scan | WithFiles], memory: int | None
) -> Iterator[Any]:
    """The record batches that a query answers."""
    given = {name: tables[name] for name in query.reads}
    with attempt.services.sql.query(query.sql, given, memory=memory) as result:
        yield from result


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's own columns, without those that Tidemill adds."""
    return {k: v for k, v in row.items() if not k.startswith("_")}


def _rows(attempt: Attempt, query: Query, tables: Mapping[str, Scan | WithFiles]) -> list[dict[str, Any]]:
    """The rows that a query answers: few."""
    try:
        return [row for batch in _batches(attempt, query, tables, _MEMORY) for row in batch.to_pylist()]
    except NeedsMemory:
        return [row for batch in _batches(attempt, query, tables, None) for row in batch.to_pylist()]


def _one(attempt: Attempt, query: Query, tables: Mapping[str, Scan | WithFiles]) -> bool:
    """The single boolean that a query answers."""
    return bool(next(iter(_rows(attempt, query, tables)[0].values())))
