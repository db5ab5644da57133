"""Transform: a user's function or SQL over the tables that the attempt sees, written to its branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tidemill.authoring.context import RunContext
from tidemill.flow.attempt import Attempt
from tidemill.flow.write import Written, write_rows
from tidemill.model.errors import TidemillError, UserError
from tidemill.model.frame import Frame
from tidemill.model.pipeline import Materialized, Scope, TransformSpec
from tidemill.model.table import BATCH_ID, LOADED_AT, Scan, TableName
from tidemill.plan.sql import quote, tables_in
from tidemill.plan.template import render_model, variables_of

#: A function of ours that is told how many rows have been written.
Progress = Callable[[int], None]


def build(attempt: Attempt, transform: TransformSpec, progress: Progress = lambda _: None) -> int | None:
    """Make one table of this run and commit it to the branch; returns the rows written, None for a view."""
    if transform.materialized is Materialized.VIEW:
        attempt.commit({}, {transform.table.name: _rendered(attempt, transform, _view_resolver(attempt.pipeline.name))})
        return None
    written = _from_sql(attempt, transform, progress) if transform.sql else _from_function(attempt, transform, progress)
    attempt.commit(written.moves)
    return written.rows


def arguments_of(attempt: Attempt, transform: TransformSpec) -> dict[str, Any]:
    """What the user's function is called with: a frame for each input, and the reserved parameters it asks for."""
    reserved = {
        "interval": attempt.interval,
        "batch": attempt.batch,
        "context": RunContext.of(attempt.batch, attempt.pipeline.params),
    }
    frames = {i.parameter: Frame.of(i.parameter, i.scope.value) for i in transform.inputs}
    return {**frames, **{name: reserved[name] for name in transform.wants if name in reserved}}


def scans_of(attempt: Attempt, transform: TransformSpec) -> dict[str, Scan]:
    """The files behind each of the function's inputs."""
    return {i.parameter: _without_system(attempt.scan(i.table, i.scope)) for i in transform.inputs}


def _without_system(scan: Scan) -> Scan:
    """A scan without `_batch_id` and `_loaded_at`: every written row gets its own."""
    return replace(scan, schema=scan.schema.without((BATCH_ID, LOADED_AT)))


def _from_function(attempt: Attempt, transform: TransformSpec, progress: Progress) -> Written:
    services = attempt.services
    assert transform.function is not None
    inputs: Mapping[str, Scan] = scans_of(attempt, transform)
    arguments = arguments_of(attempt, transform)
    try:
        if transform.engine == "pandas":
            opened = services.frames.call_pandas(transform.function, arguments, inputs)
        else:
            made = transform.function(**arguments)
            if not isinstance(made, Frame):
                raise UserError(
                    f'Table "{transform.table.name}" is made by a function that returned '
                    f"{'nothing' if made is None else type(made).__name__}.",
                    where=transform.place,
                    hint="return the frame",
                )
            opened = services.frames.batches(made, inputs)
        with opened as result:
            schema = result.schema.without((BATCH_ID, LOADED_AT))
            return write_rows(attempt, transform.table, schema, result.batches, progress)
    except TidemillError as error:
        error.where = error.where or transform.place
        raise


def _from_sql(attempt: Attempt, transform: TransformSpec, progress: Progress) -> Written:
    inputs: dict[str, Scan] = {}

    def resolve(name: str, scope: str) -> str:
        table = TableName.parse(name, attempt.pipeline.name)
        relation = str(table) if scope == Scope.WHOLE else f"{table}@batch"
        if table not in attempt.written_views and table not in attempt.fork_views:
            inputs[relation] = attempt.scan(table, Scope(scope))
        return _relation(table) if scope == Scope.WHOLE else quote(relation)

    sql = _rendered(attempt, transform, resolve)
    own = attempt.fork.get(transform.table.name)
    if own is not None:
        inputs[str(transform.table.name)] = attempt.services.catalog.scan(transform.table.name, own)
    views = _views_for(attempt, sql, inputs)
    with attempt.services.sql.query(
        sql, inputs, functions=attempt.pipeline.functions, views=views, where=transform.place
    ) as result:
        schema = result.schema.without((BATCH_ID, LOADED_AT))
        return write_rows(attempt, transform.table, schema, result, progress)


def _rendered(attempt: Attempt, transform: TransformSpec, resolve: Callable[[str, str], str]) -> str:
    assert transform.sql is not None
    return render_model(
        transform.sql,
        variables_of(attempt.batch, attempt.pipeline.params),
        this=_relation(transform.table.name),
        incremental=transform.materialized is Materialized.INCREMENTAL and transform.table.name in attempt.fork,
        resolve=resolve,
        where=transform.place,
    )


def _relation(table: TableName) -> str:
    return f"{quote(table.namespace)}.{quote(table.table)}"


def _view_resolver(pipeline: str) -> Callable[[str, str], str]:
    """A view is resolved on its reader's ref, so it can only name whole tables (rule 10)."""

    def resolve(name: str, scope: str) -> str:
        if scope != Scope.WHOLE:
            raise UserError(
                f'A view cannot read batch("{name}"): it outlives the run.',
                hint='ref(...), or materialized="incremental"',
            )
        return _relation(TableName.parse(name, pipeline))

    return resolve


def _views_for(attempt: Attempt, sql: str, inputs: dict[str, Scan]) -> dict[str, str]:
    """The views that a statement reads, and the tables below them, which are added to `inputs`."""
    all_views = attempt.views()
    found: dict[str, str] = {}
    todo = [t for t in tables_in(sql) if "." in t]
    while todo:
        text = todo.pop()
        if text in found or text in inputs:
            continue
        name = TableName.parse(text)
        if name in all_views:
            found[text] = all_views[name]
            todo.extend(tables_in(all_views[name]))
        else:
            inputs[text] = attempt.scan(name, Scope.WHOLE)
    return found
