"""Whole messages: values by their codec, and the columns of keys by another."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from tidemill.model.codec import SINGLE
from tidemill.model.errors import DefinitionError
from tidemill.ports.codec import Codec, Decoded, Undecodable


class KeyCodec:
    """Keys of messages as columns.

    A key may be a value that is no record, as Avro has them: it is the key's only column.

    Args:
        codec: of the keys.
        key: the columns that they are made of.
        single: whether a declared schema says that keys are such values.
    """

    def __init__(self, codec: Codec, key: Sequence[str], *, single: bool = False) -> None:
        self._codec = codec
        self._key = tuple(key)
        self._single = single

    @classmethod
    def of_schema(cls, codec: Codec, key: Sequence[str], topic: str) -> KeyCodec:
        """By a codec whose declared schema says what keys are. Raises DefinitionError: a column is not in it."""
        known = list(codec.columns or ())
        single = len(key) == 1 and known == [SINGLE]
        if missing := [] if single else [name for name in key if name not in known]:
            raise DefinitionError(
                f'The schema of the keys of topic "{topic}" has no field "{missing[0]}".',
                hint=f"it has {', '.join(known)}",
            )
        return cls(codec, key, single=single)

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """A key for each row. A null, where that is all of the key, has none."""
        rows = rows.select(self._key)
        if len(self._key) > 1:
            return self._codec.encode(rows)
        known = rows.get_column(self._key[0]).is_not_null()
        left = rows.filter(known)
        made = iter(self._codec.encode(left.rename({self._key[0]: SINGLE}) if self._single else left))
        return [next(made) if there else None for there in known]

    def decode(self, keys: Sequence[bytes | None]) -> Decoded:
        """The columns, in order: a row for each message whose key can be read; without a key it has nulls."""
        found = self._codec.decode(keys)
        rows = self._of_key(found.rows)
        if not found.empty:
            return Decoded(rows, found.taken, found.bad)
        read = range(len(keys)) if found.taken is None else found.taken
        lines = {**dict.fromkeys(found.empty, rows.height), **{at: line for line, at in enumerate(read)}}
        places = sorted(lines)
        nothing = rows.clear(1)
        return Decoded(pl.concat([rows, nothing])[[lines[at] for at in places]], places, found.bad)

    def _of_key(self, rows: pl.DataFrame) -> pl.DataFrame:
        name = self._key[0]
        if self._single:
            return rows.select(pl.col(SINGLE).alias(name))
        if len(self._key) == 1 and SINGLE in rows.columns and name != SINGLE:
            return rows.select(pl.coalesce(name, SINGLE).alias(name))
        return rows.select(self._key)


class TopicMessages:
    """Reads messages into the columns of a topic.

    Args:
        values: the codec of values, for their columns.
        keys: what reads the columns of keys; None: no column is of the keys.
        names: the columns in order; None: as they come.
    """

    def __init__(self, values: Codec, keys: KeyCodec | None = None, names: Sequence[str] | None = None) -> None:
        self._values = values
        self._keys = keys
        self._names = names

    def read(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Decoded:
        """See the port `MessageReader`."""
        found = self._values.decode(values)
        if self._keys is None:
            return found
        taken = range(len(values)) if found.taken is None else found.taken
        of_keys = self._keys.decode([keys[at] for at in taken])
        rows = of_keys.rows
        if found.rows.width:
            of_values = found.rows if of_keys.taken is None else found.rows[list(of_keys.taken)]
            rows = of_values.drop(rows.columns, strict=False).hstack(rows)
        bad = [*found.bad, *(Undecodable(taken[one.index], f"its key: {one.error}") for one in of_keys.bad)]
        kept = range(len(taken)) if of_keys.taken is None else of_keys.taken
        places = None if len(kept) == len(values) else [taken[at] for at in kept]
        order = rows.columns if self._names is None else self._names
        return Decoded(rows.select(order), places, tuple(sorted(bad, key=lambda one: one.index)), found.empty)


class Leaving:
    """A codec of values whose schema has no place for some columns of the key: these are in the keys alone."""

    def __init__(self, codec: Codec, columns: Sequence[str]) -> None:
        self._codec = codec
        self._left = tuple(columns)

    @property
    def columns(self) -> pl.Schema | None:
        """As of the codec."""
        return self._codec.columns

    def only(self, names: Sequence[str]) -> Codec:
        """The codec for some columns."""
        return self._codec.only(names)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """By the codec."""
        return self._codec.decode(values)

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """By the codec, without the key's columns."""
        return self._codec.encode(rows.drop(self._left, strict=False))
