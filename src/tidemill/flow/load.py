"""Load: the archive's parts become rows of the source's bronze table, its children and its quarantine.

It reads only the archive (rule 9). What does not fit goes to `<table>__quarantine` with raw text, file, line and
error; the contract decides what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import BinaryIO

from tidemill.flow.attempt import Attempt
from tidemill.flow.quarantine import Quarantine, too_many
from tidemill.flow.stage import Stage
from tidemill.flow.write import commit_rows
from tidemill.model.batch import Contents, Manifest, Part
from tidemill.model.pipeline import SourceSpec
from tidemill.model.table import (
    BATCH_ID,
    INPUT_SUFFIX,
    LOADED_AT,
    QUARANTINE_SUFFIX,
    Schema,
    TableName,
    TableSpec,
    WriteMode,
)
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
    found = Schema()
    while True:
        try:
            loaded = _load_once(attempt, source, manifest, tables, found, progress)
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


def child_name(table: TableName, child: str) -> TableName:
    """The table of a flattened child."""
    return replace(table, table=f"{table.table}__{child}") if child else table


def known_schemas(attempt: Attempt, table: TableName) -> dict[str, Schema]:
    """The user's columns of the table and of its children, as the fork has them, by child suffix."""
    found: dict[str, Schema] = {}
    for name in _family(attempt, table):
        version = attempt.services.catalog.load(name, attempt.fork[name])
        child = name.table[len(table.table) + 2 :] if name != table else ""
        found[child] = version.schema.without((BATCH_ID, LOADED_AT))
    return found


def _family(attempt: Attempt, table: TableName) -> list[TableName]:
    """The table and its children on the fork: not quarantine and input tables, nor a table of the pipeline's that
    happens to be called like a child.
    """
    prefix = f"{table.table}__"
    return [
        name
        for name in attempt.fork
        if name.namespace == table.namespace
        and (name.table == table.table or name.table.startswith(prefix))
        and not name.table.endswith((QUARANTINE_SUFFIX, INPUT_SUFFIX))
        and (name == table or attempt.pipeline.table(name.table) is None)
    ]


def _load_once(
    attempt: Attempt,
    source: SourceSpec,
    manifest: Manifest,
    tables: Mapping[str, Schema],
    found: Schema,
    progress: Callable[[int], None],
) -> Loaded:
    """One pass over the parts; raises Restart where types turn out too narrow for a new table."""
    table = source.table.name
    loaded = Loaded()
    stages: dict[TableName, Stage] = {}
    with ExitStack() as stack:
        quarantine = stack.enter_context(Quarantine(attempt, source.table))

        def stage(name: TableName) -> Stage:
            if name not in stages:
                spec = source.table if name == table else _related(source.table, name)
                stages[name] = stack.enter_context(Stage(attempt, spec))
            return stages[name]

        declared = source.table.contract.columns
        if "" not in tables and len(declared):
            stage(table).shape(declared)
        chunks = attempt.services.decoder.decode(
            [_feed(attempt, p) for p in manifest.parts],
            tables=tables,
            found=found,
            contract=source.table.contract,
            options=DecodeOptions(**source.decode),
        )
        for chunk in chunks:
            if chunk.batch is not None and chunk.batch.num_rows:
                stage(child_name(table, chunk.child)).write(chunk.batch, chunk.schema)
            loaded.schemas[chunk.child] = chunk.schema
            quarantine.add(chunk.rejected)
            if not chunk.child:
                found_here = len(chunk.rejected) + (chunk.batch.num_rows if chunk.batch is not None else 0)
                loaded.parts[chunk.part] = loaded.parts.get(chunk.part, 0) + found_here
                loaded.rows = stages[table].rows if table in stages else 0
                progress(loaded.rows)
        # What an earlier version of this batch wrote and this one does not is taken away.
        for name in _family(attempt, table):
            stage(name)
        loaded.moves.update({name: commit_rows(staged) for name, staged in stages.items()})
        loaded.rejected = quarantine.rows
        rejected = quarantine.commit()
        if rejected is not None:
            loaded.moves[table.quarantine] = rejected
    return loaded


def _related(table: TableSpec, name: TableName) -> TableSpec:
    """The spec of a child table: appended to, in the parent's publish mode."""
    return TableSpec(name, WriteMode.APPEND, publish=table.publish, doc=f"belongs to {table.name}")


def _feed(attempt: Attempt, part: Part) -> Feed:
    def open_part() -> BinaryIO:
        return attempt.services.archive.open(part)

    return Feed(part.name, open_part, part.bytes, part.format, part.compression)
