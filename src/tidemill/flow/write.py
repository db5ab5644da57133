"""Writing a batch's rows into a table by its write mode (rule 7), on the attempt's branch.

append    the batch's own rows are replaced, others stay
replace   all rows are replaced
upsert    rows go to the input table; the newest row of each touched key goes to the table   (flow/merge.py)
history   the same, with every version of a key
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tidemill.flow.attempt import Attempt
from tidemill.flow.merge import write_merged
from tidemill.flow.stage import Stage, own_files
from tidemill.model.branch import ChangeKind
from tidemill.model.table import Schema, TableName, TableSpec, WriteMode


@dataclass(frozen=True, slots=True)
class Written:
    """What a task wrote: the pointers to move, and how many rows it was given."""

    moves: dict[TableName, str]
    rows: int


def write_rows(
    attempt: Attempt,
    spec: TableSpec,
    schema: Schema,
    batches: Iterable[Any],
    progress: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write rows, given as Arrow record batches of one schema, into a table; moves no pointer yet."""
    if spec.write in (WriteMode.UPSERT, WriteMode.HISTORY):
        moves, rows = write_merged(attempt, spec, schema, batches, progress)
        return Written(moves, rows)
    with Stage(attempt, spec) as stage:
        stage.shape(schema)
        for batch in batches:
            stage.write(batch, schema)
            progress(stage.rows)
        pointer = commit_rows(stage)
        return Written({spec.name: pointer}, stage.rows)


def commit_rows(stage: Stage) -> str:
    """End an append or a replace: put the new files in place of the ones that they replace."""
    if stage.spec.write is WriteMode.REPLACE:
        everything = stage.base_scan()
        return stage.commit(ChangeKind.REPLACE, [f.path for f in everything.files] if everything else [])
    own, mixed = own_files(stage)
    if mixed is None:
        return stage.commit(ChangeKind.BATCH, own)
    # Another tool has rewritten files across batches: keep the other batches' rows of those files.
    services = stage.attempt.services
    with Stage(stage.attempt, stage.spec, mixed=True) as others:
        query = 'select * from "t" where "_batch_id" is distinct from $batch'
        parameters = {"batch": stage.attempt.batch.id}
        with services.sql.query(query, {"t": mixed}, parameters=parameters) as reader:
            for batch in reader:
                others.write(batch, mixed.schema)
        kept = others.close_files()
    return stage.commit(ChangeKind.UPSERT, [*own, *(f.path for f in mixed.files)], add=kept)
