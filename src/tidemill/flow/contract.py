"""Contracts of tables that a function or SQL makes: their results are held against the table before they are written.

Feeds are judged row by row as they are decoded (`ports/decoder`); a result has one type a column, so that here it is
columns that fit or do not. What may happen to a table that evolves is the catalog's to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tidemill.flow.attempt import Attempt
from tidemill.model.errors import ContractError
from tidemill.model.table import (
    BATCH_ID,
    DELETED,
    LOADED_AT,
    ORDER,
    ROW,
    Contract,
    OnMisfit,
    Schema,
    TableSpec,
    WriteMode,
)
from tidemill.plan.evolve import AddColumn, difference


def fitted(
    attempt: Attempt, spec: TableSpec, schema: Schema, batches: Iterable[Any], where: str
) -> tuple[Schema, Iterable[Any]]:
    """The columns and rows of a result as the table's contract lets them pass.

    Raises:
        ContractError: the result differs from a frozen table, or from the declared columns.
    """
    contract = spec.contract
    known = _known(attempt, spec)
    if known is None or (contract.on_misfit is OnMisfit.EVOLVE and not len(contract.columns)):
        return schema, batches
    found = difference(known, schema, Contract())
    dropped: set[str] = set()
    if contract.on_misfit is OnMisfit.DISCARD_COLUMNS:
        dropped = {step.path[0] for step in found.steps if isinstance(step, AddColumn) and len(step.path) == 1}
    evolves = contract.on_misfit is OnMisfit.EVOLVE
    refused = [
        line
        for line in (*found.steps, *found.misfits)
        if line.path[0] not in dropped and (not evolves or line.path[0] in contract.columns)
    ]
    if refused:
        lines = "\n  ".join(map(str, refused))
        against = f'the columns declared for "{spec.name}"' if evolves else f'"{spec.name}", whose contract is '
        raise ContractError(
            f"The result differs from {against}{'' if evolves else contract.on_misfit}:\n  {lines}",
            where=where,
            hint="cast or drop it in the table's own code, or change what is declared",
        )
    kept = schema.without(tuple(dropped))
    typed = Schema.of({c.name: contract.columns[c.name].type if c.name in contract.columns else c.type for c in kept})
    return typed, _without(batches, dropped) if dropped else batches


def _known(attempt: Attempt, spec: TableSpec) -> Schema | None:
    """The columns that a result is held against: the declared ones, and those of the table as the fork has it."""
    keyed = spec.write in (WriteMode.UPSERT, WriteMode.HISTORY)
    name = spec.name.input if keyed else spec.name
    declared = spec.contract.columns
    if name not in attempt.fork:
        return declared if len(declared) else None
    table = attempt.services.catalog.load(name, attempt.fork[name]).schema
    own = table.without((BATCH_ID, LOADED_AT, *((ORDER, ROW, DELETED) if keyed else ())))
    return Schema.of({**{c.name: c.type for c in own}, **{c.name: c.type for c in declared}})


def _without(batches: Iterable[Any], dropped: set[str]) -> Iterator[Any]:
    for batch in batches:
        yield batch.drop_columns(sorted(dropped))
