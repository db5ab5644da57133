"""What the codecs of typed formats share: the frame of a message that names its schema, and columns of older schemas.

A message in the registry's wire format is a zero byte, the schema's number in four bytes, and the data. Messages of
several schemas may come in one batch; each is read by its own, into the same columns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.conform import Conformed
from tidemill.adapters.arrow.decoded import batch_of
from tidemill.adapters.arrow.fit import fit
from tidemill.adapters.arrow.frames import frame_of
from tidemill.adapters.arrow.normal import normal
from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.codec import Part, SubjectName, subject_of
from tidemill.model.errors import DataError, DefinitionError, SettingsError, UnknownName
from tidemill.model.table import Contract, OnMisfit, Schema
from tidemill.plan.known import Known
from tidemill.ports.codec import Decoded, Undecodable
from tidemill.ports.registry import Registry, RegistrySchema

_HEAD = struct.Struct(">bI")
_SHOWN = 60


class Bad(Exception):
    """A message, or all of a schema, that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a codec's schemas are kept: the registry, and what the subject's name is made of."""

    registry: Registry | None
    topic: str
    part: Part

    @property
    def known(self) -> Registry:
        """The registry.

        Raises:
            SettingsError: there is none.
        """
        if self.registry is None:
            raise SettingsError(
                f'The messages of "{self.topic}" name schemas of a registry, and none is set.',
                hint='[streams] registry = "https://host:8081" in tidemill.toml says where it is; or framing="bare"',
            )
        return self.registry

    def newest(self, strategy: SubjectName) -> RegistrySchema:
        """The newest schema of the topic's subject.

        Raises:
            DefinitionError: the subject's name cannot be known without a schema.
            UnknownName: there is no such subject.
        """
        if strategy != "topic":
            raise DefinitionError(
                f'With subject="{strategy}" the topic "{self.topic}" may have many schemas.',
                hint="declare the columns to read: columns={...}, or a schema",
            )
        subject = subject_of(strategy, self.topic, self.part, "")
        found = self.known.version(subject)
        if found is None:
            raise UnknownName(
                f'The registry has no subject "{subject}".',
                hint="declare a schema or columns, or write a message first",
            )
        return found

    def number(self, strategy: SubjectName, record: str, schema: RegistrySchema, *, register: bool) -> int:
        """The number under which messages of a schema are written.

        Raises:
            ContractError: the registry refuses the schema as incompatible.
            UnknownName: it is not registered and shall not be.
        """
        subject = subject_of(strategy, self.topic, self.part, record)
        if register:
            return self.known.register(subject, schema)
        number = self.known.id_of(subject, schema)
        if number is None:
            raise UnknownName(f'The schema is not registered under "{subject}".', hint="register=True registers it")
        return number


def head(number: int) -> bytes:
    """What stands before the data of a message whose schema has this number."""
    return _HEAD.pack(0, number)


def number_in(value: bytes) -> int:
    """The number of a message's schema.

    Raises:
        Bad: the message is not in the wire format.
    """
    if len(value) < _HEAD.size:
        raise Bad(f"not in the registry's wire format: {len(value)} bytes, at least 5 name the schema")
    magic, number = _HEAD.unpack_from(value)
    if magic:
        raise Bad(f"not in the registry's wire format: it begins with 0x{value[0]:02x}, not with 0x00")
    return int(number)


#: Reads messages of one schema (None: that of the codec): rows, and by their place among them what cannot be read.
Read = Callable[[Any, Sequence[bytes]], "tuple[pa.RecordBatch, Mapping[int, str]]"]
#: Which schema a message has.
Key = Callable[[bytes], Any]


def decode_by_schema(values: Sequence[bytes | None], columns: Schema, key: Key, read: Read) -> Decoded:
    """Read messages, each by its schema, into the same columns, in their order.

    Args:
        values: the messages; None: a tombstone.
        columns: the columns to have.
        key: may raise `Bad`.
        read: gives the rows without those that are bad; may raise `Bad` for all.
    """
    empty: list[int] = []
    bad: dict[int, str] = {}
    groups: dict[Any, list[int]] = {}
    for i, value in enumerate(values):
        if value is None:
            empty.append(i)
            continue
        try:
            groups.setdefault(key(value), []).append(i)
        except Bad as error:
            bad[i] = str(error)
    batches: list[pa.RecordBatch] = []
    taken: list[int] = []
    for which, indices in groups.items():
        try:
            rows, refused = read(which, [value for i in indices if (value := values[i]) is not None])
        except Bad as error:
            bad |= dict.fromkeys(indices, str(error))
            continue
        bad |= {indices[at]: why for at, why in refused.items()}
        left = [index for at, index in enumerate(indices) if at not in refused]
        batch, unfit = conformed(rows, columns)
        bad |= {left[row]: why for row, why in unfit.items()}
        batches.append(batch)
        taken += [index for row, index in enumerate(left) if row not in unfit]
    whole = pa.concat_batches(batches) if batches else batch_of(columns, [_none(kind) for kind in _types(columns)], 0)
    if len(batches) > 1 and taken != sorted(taken):
        order = sorted(range(len(taken)), key=taken.__getitem__)
        whole, taken = whole.take(pa.array(order, pa.int64())), sorted(taken)
    complete = not bad and not empty
    return Decoded(
        frame_of(whole, len(taken)),
        None if complete else taken,
        tuple(Undecodable(i, bad[i]) for i in sorted(bad)),
        empty,
    )


def _types(columns: Schema) -> list[pa.DataType]:
    return list(to_arrow(columns).types)


def _none(kind: pa.DataType) -> pa.Array:
    return pa.nulls(0, kind)


def conformed(rows: pa.RecordBatch, columns: Schema) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Rows in the columns to have, without those that do not fit; these by number, with the reason.

    What a column lacks is null; its type may be wider than that of the rows.
    """
    if not len(columns):
        return batch_of(columns, [], rows.num_rows), {}
    known = Known.start(None, Schema(), Contract(OnMisfit.DISCARD_COLUMNS, columns))
    made = Conformed(rows.select([name for name in rows.schema.names if name in columns]), known)
    batch = batch_of(columns, made.columns, rows.num_rows)
    if made.bad is None:
        return batch, {}
    refused = {row: made.complaint(row) for row in pc.indices_nonzero(made.bad).to_pylist()}
    return batch.filter(pc.invert(made.bad)), refused


def fitted(rows: pl.DataFrame, columns: Schema, format: str) -> dict[str, list[Any]]:
    """The values of rows as Python's, in the types of a format's schema; a column that the rows lack is null.

    Raises:
        DataError: a column that the schema has not, or a value that does not fit; names column and row.
    """
    for name in rows.columns:
        if name not in columns:
            raise DataError(
                f'The {format} schema has no field for the column "{name}".', hint=f"fields: {columns.names}"
            )
    made: dict[str, list[Any]] = {}
    for column in columns:
        if column.name not in rows.columns:
            made[column.name] = [None] * rows.height
            continue
        given = normal(rows[column.name].to_arrow())
        fit_ = fit(given, column.type)
        if fit_.bad is not None:
            row = pc.indices_nonzero(fit_.bad).to_pylist()[0]
            shown = str(given[row].as_py())
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            raise DataError(
                f'Column "{column.name}", row {row}: {shown} does not fit {column.type} of the {format} schema.'
            )
        made[column.name] = fit_.array.to_pylist()
    return made
