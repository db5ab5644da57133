"""Load: the archive's parts become rows of the source's bronze table, its children and its quarantine.

It reads only the archive (rule 9). What does not fit goes to `<table>__quarantine` with raw text, file, line and
error; the contract decides what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from tidemill.flow.attempt import Attempt
from tidemill.flow.quarantine import Quarantine
from tidemill.flow.stage import Stage, spec_from
from tidemill.flow.write import commit_rows
from tidemill.model.batch import Manifest, Part
from tidemill.model.errors import ContractError, DefinitionError
from tidemill.model.pipeline import SourceSpec
from tidemill.model.table import (
    BATCH_ID,
    LOADED_AT,
    Schema,
    TableName,
    TableSpec,
    WriteMode,
    check_name,
)
from tidemill.ports.catalog import TableVersion
from tidemill.ports.decoder import DecodeOptions, Feed, Restart


@dataclass(slots=True)
class Loaded:
    """What a load put on the branch."""

    rows: int = 0
    rejected: int = 0
    moves: dict[TableName, str] = field(default_factory=dict)
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
    with attempt.services.metadata.write() as tx:
        tx.runs.check(attempt.run.id, attempt.run.fence)
        tx.batches.update(attempt.batch.id, loaded_at=now)
    _check_rejected(source, loaded, attempt)
    return loaded


def child_name(table: TableName, child: str) -> TableName:
    """The table of a flattened child."""
    return replace(table, table=f"{table.table}__{child}") if child else table


def known_schemas(attempt: Attempt, table: TableName) -> dict[str, Schema]:
    """The user's columns of the table and of its children, as the fork has them, by child suffix."""
    return {
        name.table[len(table.table) + 2 :] if name != table else "": version.schema.without((BATCH_ID, LOADED_AT))
        for name, version in _family(attempt, table).items()
    }


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
                spec = source.table if name == table else _child(attempt, source, name)
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
        name, WriteMode.APPEND, publish=parent.publish, parent=parent.name, doc=f"lists within {parent.name}"
    )


def _feed(attempt: Attempt, part: Part) -> Feed:
    def open_part() -> BinaryIO:
        return attempt.services.archive.open(part)

    return Feed(part.name, open_part, part.bytes, part.format, part.compression)


def _check_rejected(source: SourceSpec, loaded: Loaded, attempt: Attempt) -> None:
    limit = source.table.contract.max_rejected
    if limit is None or not loaded.rejected:
        return
    total = loaded.rows + loaded.rejected
    allowed = limit * total if isinstance(limit, float) and limit < 1 else limit
    if loaded.rejected > allowed:
        share = f"{loaded.rejected / total:.2%}"
        raise ContractError(
            f'{loaded.rejected} of {total} rows ({share}) for "{source.table.name}" do not fit its contract; '
            f"max_rejected is {limit}.",
            where=source.place,
            hint=f"tidemill data show {source.table.name.quarantine} --branch {attempt.branch}",
        )
