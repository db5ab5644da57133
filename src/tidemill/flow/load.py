"""Load: the archive's parts become rows of the source's bronze table, its children and its quarantine.

It reads only the archive (rule 9). What does not fit goes to `<table>__quarantine` with raw text, file, line and
error; the contract decides what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import BinaryIO

from tidemill.flow.attempt import Attempt
from tidemill.flow.merge import input_columns, input_stage, merge_input
from tidemill.flow.policies import LoadPolicies
from tidemill.flow.quarantine import Quarantine, too_many
from tidemill.flow.row_versions import LoadVersions
from tidemill.flow.stage import Stage, spec_from
from tidemill.flow.write import commit_rows
from tidemill.model.batch import Contents, Manifest, Part
from tidemill.model.connector import Connector
from tidemill.model.errors import DefinitionError
from tidemill.model.pipeline import SourceSpec
from tidemill.model.policy import of_child
from tidemill.model.table import (
    BATCH_ID,
    DELETED,
    LOADED_AT,
    ORDER,
    ROW,
    OnMisfit,
    Schema,
    TableName,
    TableSpec,
    WriteMode,
    check_name,
)
from tidemill.plan.singer import columns_of
from tidemill.ports.catalog import TableVersion
from tidemill.ports.decoder import DecodeOptions, Feed, Restart


@dataclass(slots=True)
class Loaded:
    """What a load put on the branch."""

    rows: int = 0
    rejected: int = 0
    moves: dict[TableName, str] = field(default_factory=dict)
    #: Rows of each part, rejected ones included, where the decoder tells.
    parts: dict[int | None, int] = field(default_factory=dict)
    schemas: dict[str, Schema] = field(default_factory=dict)


def load(
    attempt: Attempt, source: SourceSpec, manifest: Manifest, progress: Callable[[int], None] = lambda _: None
) -> Loaded:
    """Load one source's archived parts for this batch and commit them to the branch.

    Raises:
        ContractError: the contract refuses the batch, or more rows than allowed went to quarantine.
        DecodeError, LimitError: a part cannot be read.
    """
    tables = known_schemas(attempt, source.table.name)
    versions = LoadVersions.of(attempt, source, manifest)
    if keyed(source.table):
        tables = _input_schema(attempt, source.table)
    if versions is not None:
        tables = {child: versions.without(schema) for child, schema in tables.items()}
    source = _declared(attempt, source, manifest, tables.get(""))
    found = Schema()
    while True:
        try:
            loaded = _load_once(attempt, source, manifest, tables, found, versions, progress)
            break
        except Restart as restart:
            found = restart.found
    attempt.commit(loaded.moves)
    now = attempt.services.clock.now()
    refused = too_many(attempt, source.table, loaded.rows, loaded.rejected, source.place)
    described = None
    if refused is None and manifest.contents is None:
        described = attempt.services.archive.describe(
            attempt.batch, manifest, _contents(attempt, source, manifest, loaded, now)
        )
    with attempt.services.metadata.write() as tx:
        tx.runs.check(attempt.run.id, attempt.run.fence)
        tx.batches.update(attempt.batch.id, loaded_at=now)
        if described is not None:
            tx.archive.describe(described)
    if refused is not None:
        raise refused
    return loaded


def _contents(attempt: Attempt, source: SourceSpec, manifest: Manifest, loaded: Loaded, now: datetime) -> Contents:
    """What the load found in the parts."""
    told = None not in loaded.parts
    return Contents(
        rows=loaded.rows,
        rejected=loaded.rejected,
        columns={child: {c.name: str(c.type) for c in schema} for child, schema in sorted(loaded.schemas.items())},
        parts=tuple(loaded.parts.get(i, 0) if told else part.rows for i, part in enumerate(manifest.parts)),
        options={name: list(v) if isinstance(v, tuple) else v for name, v in source.decode.items()},
        loaded_at=now,
        code_version=attempt.services.code_version,
    )


def keyed(table: TableSpec) -> bool:
    """Whether rows enter the table by their key, through its input table."""
    return table.write in (WriteMode.UPSERT, WriteMode.HISTORY)


def child_name(table: TableName, child: str) -> TableName:
    """The table of a flattened child."""
    return replace(table, table=f"{table.table}__{child}") if child else table


def known_schemas(attempt: Attempt, table: TableName) -> dict[str, Schema]:
    """The user's columns of the table and of its children, as the fork has them, by child suffix."""
    return {
        name.table[len(table.table) + 2 :] if name != table else "": version.schema.without((BATCH_ID, LOADED_AT))
        for name, version in _family(attempt, table).items()
    }


def _input_schema(attempt: Attempt, table: TableSpec) -> dict[str, Schema]:
    """The columns that rows for a keyed table have had so far: the table itself may have others (history)."""
    pointer = attempt.fork.get(table.name.input)
    if pointer is None:
        return {}
    version = attempt.services.catalog.load(table.name.input, pointer)
    return {"": version.schema.without((BATCH_ID, LOADED_AT, ORDER, ROW, DELETED))}


def _declared(attempt: Attempt, source: SourceSpec, manifest: Manifest, table: Schema | None) -> SourceSpec:
    """The source with the columns that its archived input declares itself; those of its user count more, and a column
    that the table has is as the table has it.
    """
    pattern = source.origin.columns_in if isinstance(source.origin, Connector) else None
    contract = source.table.contract
    if pattern is None or (table is not None and contract.on_misfit is not OnMisfit.EVOLVE):
        return source
    lines: list[bytes] = []
    for part in manifest.parts:
        if fnmatchcase(part.name, pattern):
            with attempt.services.archive.open(part) as stream:
                lines += stream.read().splitlines()
    known = {column.name.lower() for column in (*contract.columns, *(table or ()))}
    told = [column for column in columns_of(lines) if column.name.lower() not in known]
    columns = Schema((*contract.columns, *told))
    return replace(source, table=replace(source.table, contract=replace(contract, columns=columns)))


def _family(attempt: Attempt, table: TableName) -> dict[TableName, TableVersion]:
    """The table and its children on the fork; a table that only has a child's name is somebody else's."""
    prefix = f"{table.table}__"
    named = (
        name
        for name in attempt.fork
        if name == table or (name.namespace == table.namespace and name.table.startswith(prefix))
    )
    versions = {name: attempt.services.catalog.load(name, attempt.fork[name]) for name in named}
    return {
        name: version
        for name, version in versions.items()
        if name == table or spec_from(name, version.properties).parent == table
    }


def _load_once(
    attempt: Attempt,
    source: SourceSpec,
    manifest: Manifest,
    tables: Mapping[str, Schema],
    found: Schema,
    versions: LoadVersions | None,
    progress: Callable[[int], None],
) -> Loaded:
    """One pass over the parts; raises Restart where types turn out too narrow for a new table."""
    table = source.table.name
    loaded = Loaded()
    by_key = keyed(source.table)
    stages: dict[TableName, Stage] = {}
    with ExitStack() as stack:
        quarantine = stack.enter_context(Quarantine(attempt, source.table))

        def stage(name: TableName) -> Stage:
            if name not in stages:
                if name == table and by_key:
                    made = input_stage(attempt, source.table)
                else:
                    made = Stage(attempt, source.table if name == table else _child(attempt, source, name))
                stages[name] = stack.enter_context(made)
            return stages[name]

        def columns(schema: Schema, child: str) -> Schema:
            schema = versions.schema(schema) if versions else schema
            return input_columns(source.table, schema) if by_key and not child else schema

        declared = source.table.contract.columns
        if "" not in tables and len(declared):
            own = of_child(source.table.policies, "")
            shaped = attempt.services.policies.schema(declared, own) if own else declared
            stage(table).shape(columns(shaped, ""))
            loaded.schemas[""] = shaped
        policies = LoadPolicies.of(attempt.services, source)
        chunks = attempt.services.decoder.decode(
            [_feed(attempt, p) for p in manifest.parts],
            tables=policies.tables(tables) if policies else tables,
            found=policies.found(tables, found) if policies else found,
            contract=policies.contract(tables) if policies else source.table.contract,
            options=DecodeOptions(**source.decode),
        )
        if policies:
            chunks = policies.chunks(chunks)
        for chunk in chunks:
            if chunk.batch is None and chunk.child:
                stage(child_name(table, chunk.child)).shape(chunk.schema)
            is_ended = versions is not None and chunk.part in versions.ended
            if chunk.batch is not None and chunk.batch.num_rows and not is_ended:
                staged = stage(child_name(table, chunk.child))
                staged.fill(versions.fill(chunk.part, attempt.batch.id) if versions else {})
                staged.write(chunk.batch, columns(chunk.schema, chunk.child))
            loaded.schemas[chunk.child] = chunk.schema
            quarantine.add(chunk.rejected)
            # A flattened child's rows are within its parent's; other children have parts of their own.
            if not chunk.child or (chunk.part is not None and "children" in source.decode):
                found_here = len(chunk.rejected) + (chunk.batch.num_rows if chunk.batch is not None else 0)
                loaded.parts[chunk.part] = loaded.parts.get(chunk.part, 0) + found_here
                loaded.rows = stages[table].rows if table in stages else 0
                progress(loaded.rows)
        if policies:
            policies.check()
        # What an earlier version of this batch wrote and this one does not is taken away. A table that is replaced
        # stays as it is where the batch has brought nothing at all: the source may be younger than the batch.
        if manifest.parts or source.table.write is not WriteMode.REPLACE:
            for name in _family(attempt, table):
                stage(name)
        if by_key and table in stages:
            schema = loaded.schemas.get("", tables.get("", Schema()))
            stages[table].shape(columns(schema, ""))
            schema = versions.schema(schema) if versions else schema
            ends = versions.ends(attempt) if versions else {}
            merged = merge_input(attempt, source.table, schema, stages.pop(table), quarantine, **ends)
            loaded.moves.update(merged)
        commit = versions.commit if versions else commit_rows
        loaded.moves.update({name: commit(staged) for name, staged in stages.items()})
        loaded.rejected = quarantine.rows
        rejected = quarantine.commit()
        if rejected is not None:
            loaded.moves[table.quarantine] = rejected
    return loaded


def _child(attempt: Attempt, source: SourceSpec, name: TableName) -> TableSpec:
    """The spec of a child table: appended to, in the parent's publish mode.

    Raises:
        DefinitionError: the name is another table's.
    """
    parent = source.table
    declared = {*attempt.pipeline.sources, *attempt.pipeline.transforms}
    if name.table in declared or (name in attempt.fork and name not in _family(attempt, parent.name)):
        raise DefinitionError(
            f'Flattening "{parent.name}" would make a table "{name}", and there is another of that name.',
            where=source.place,
            hint="rename the other table, or map the columns by jsonpaths",
        )
    check_name(name.table, "table")
    return TableSpec(
        name,
        WriteMode.APPEND,
        publish=parent.publish,
        parent=parent.name,
        marks=parent.marks,
        doc=f"lists within {parent.name}",
    )


def _feed(attempt: Attempt, part: Part) -> Feed:
    def open_part() -> BinaryIO:
        return attempt.services.archive.open(part)

    return Feed(part.name, open_part, part.bytes, part.format, part.compression)
