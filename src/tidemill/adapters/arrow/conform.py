"""Typed rows against what is known of their table: the contract, for data that brings its types with it.

The counterpart of `jsonl` and `csvtypes`, which learn types from text. Avro and Parquet feeds come here from their
readers; tables that were made by taking records apart come here too.
"""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.decoded import BlockError, Decoded, batch_of, check_system_names, raw_text
from tidemill.adapters.arrow.fit import any_of, fit, to_json
from tidemill.adapters.arrow.shape import colliding
from tidemill.adapters.arrow.types import from_arrow_type, to_arrow_type
from tidemill.model.table import OnMisfit
from tidemill.model.types import UNKNOWN, Type
from tidemill.plan.evolve import settled
from tidemill.plan.known import Known
from tidemill.ports.decoder import Rejected

#: Values shown in messages are cut at so many characters.
_SHOWN = 60


class Conformed:
    """Rows, judged by what is known of their table. `known` is what is known with them.

    Args:
        rows: typed rows, in types that `normal_type` gives.
        known: what is known before them.

    Attributes:
        rows: how many.
        columns: those of `known.schema`, a value for each row.
        bad: the rows that do not fit, as an Arrow mask; None where all do.

    Raises:
        BlockError: a column that only Tidemill writes, or one whose name differs from another's in case only.
        Differs: under `freeze`.
    """

    def __init__(self, rows: pa.RecordBatch, known: Known) -> None:
        self.rows = rows.num_rows
        self._given = dict(zip(rows.schema.names, rows.columns, strict=True))
        check_system_names(self._given)
        self._drop = known.closed and known.on_misfit == OnMisfit.DISCARD_COLUMNS
        self.known = self._learned(known)
        self._check_case(self.known)
        masks: list[pa.Array | None] = []
        self.columns: list[pa.Array] = []
        for column in self.known.columns:
            kind = settled(column.type)
            if kind is None:
                continue
            given = self._given.get(column.name)
            if given is None:
                self.columns.append(pa.nulls(rows.num_rows, to_arrow_type(kind)))
            else:
                fitted = fit(given, kind, drop=self._drop)
                self.columns.append(fitted.array)
                masks.append(fitted.bad)
            if not column.nullable:
                masks.append(self.columns[-1].is_null())
        if not self._drop:
            masks += [values.is_valid() for name, values in self._given.items() if name not in self.known.by_name]
        bad = any_of(masks)
        self.bad: pa.Array | None = bad if bad is not None and bad.true_count else None

    def _learned(self, known: Known) -> Known:
        """What is known with the types of these rows. A type that a table has gives way only where a value must."""
        offers: list[tuple[str, Type]] = []
        for name, values in self._given.items():
            column = known.by_name.get(name)
            if column is None:
                says_nothing = known.closed and values.null_count == len(values)
                offers.append((name, UNKNOWN if says_nothing else from_arrow_type(values.type)))
            elif column.base is None or fit(values, column.base, drop=self._drop).bad is not None:
                offers.append((name, from_arrow_type(values.type)))
        return known.offer(offers)[0]

    def _check_case(self, known: Known) -> None:
        seen: dict[str, str] = {}
        for column in known.columns:
            other = seen.setdefault(column.name.lower(), column.name)
            if other != column.name:
                raise _case(column.name, other)
            pair = colliding(column.type, f"{column.name}.")
            if pair is not None:
                raise _case(pair[0] + pair[1], pair[0] + pair[2])

    def complaint(self, row: int) -> str:
        """Why a row does not fit: the first column that says so."""
        for name, values in self._given.items():
            column = self.known.by_name.get(name)
            if column is None:
                if values[row].is_valid and not self._drop:
                    return f'unknown column "{name}"'
                continue
            kind = settled(column.type)
            if kind is not None and fit(values.slice(row, 1), kind, drop=self._drop).bad is not None:
                text = to_json(values[row].as_py())
                shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
                return f"{name}: {shown} does not fit {kind}"
        missing = (c.name for c in self.known.columns if not c.nullable and not self._has(c.name, row))
        return f"{next(missing)}: null, but the column is declared not null"

    def _has(self, name: str, row: int) -> bool:
        values = self._given.get(name)
        return values is not None and bool(values[row].is_valid)


def _case(name: str, other: str) -> BlockError:
    return BlockError(
        f'The column "{name}" differs from "{other}" only in case, which SQL ignores.',
        "rename one of them in the source",
    )


def decode_typed(rows: pa.RecordBatch, known: Known, name: str) -> Decoded:
    """Rows of a feed that has types, as a block of the decoder's. `name` is the feed's.

    Raises:
        BlockError, Differs: as `Conformed`.
    """
    made = Conformed(rows, known)
    batch = batch_of(made.known.schema, made.columns, rows.num_rows)
    raw = partial(_raw, rows)
    if made.bad is None:
        return Decoded(batch, made.known, (), rows.num_rows, range(rows.num_rows), raw)
    refused = pc.indices_nonzero(made.bad).to_pylist()
    rejected = tuple(Rejected(name, row + 1, raw(row), made.complaint(row)) for row in refused)
    good = pc.invert(made.bad)
    return Decoded(batch.filter(good), made.known, rejected, rows.num_rows, pc.indices_nonzero(good).to_pylist(), raw)


def _raw(rows: pa.RecordBatch, row: int) -> str:
    """A row as the quarantine keeps it: JSON, since the bytes of a typed format are no text."""
    return raw_text(to_json(rows.slice(row, 1).to_pylist()[0]).encode("utf-8", "backslashreplace"))
