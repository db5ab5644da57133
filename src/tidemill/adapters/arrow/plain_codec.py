"""The codecs of messages that are one value: text, and bytes as they are. Keys are mostly such."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from tidemill.model.codec import Raw, Text
from tidemill.model.errors import DataError, UnknownName
from tidemill.ports.codec import Decoded, Undecodable


class PlainCodec:
    """One column: of strings for `Text`, of bytes for `Raw`. A null is written as a message without a value."""

    def __init__(self, spec: Text | Raw, names: Sequence[str] | None = None) -> None:
        self._spec = spec
        self._dtype = pl.String() if isinstance(spec, Text) else pl.Binary()
        self._names = (spec.column,) if names is None else tuple(names)
        if unknown := [name for name in self._names if name != spec.column]:
            raise UnknownName.of("column", unknown[0], [spec.column])

    @property
    def columns(self) -> pl.Schema:
        """The column."""
        return pl.Schema(dict.fromkeys(self._names, self._dtype))

    def only(self, names: Sequence[str]) -> PlainCodec:
        """The codec for its column, or for none."""
        return PlainCodec(self._spec, names)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See the port. Text that is no UTF-8 cannot be read."""
        read = pl.Series(self._spec.column, values, dtype=pl.Binary)
        empty: list[int] = read.is_null().arg_true().to_list() if read.null_count() else []
        bad: tuple[Undecodable, ...] = ()
        if isinstance(self._spec, Text):
            try:
                read = read.cast(pl.String)
            except pl.exceptions.ComputeError:
                bad = tuple(each for i, value in enumerate(values) if (each := _no_text(i, value)) is not None)
                refused = {each.index for each in bad}
                left = [None if i in refused else value for i, value in enumerate(values)]
                read = pl.Series(self._spec.column, left, dtype=pl.Binary).cast(pl.String)
        rows = read.drop_nulls().to_frame().select(self._names) if self._names else pl.DataFrame(height=read.count())
        taken = read.is_not_null().arg_true().to_list() if empty or bad else None
        return Decoded(rows, taken, bad, empty)

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """The column's values.

        Raises:
            DataError: there is no such column, or it is of another type.
        """
        if self._spec.column not in rows.columns:
            raise DataError(
                f'There is no column "{self._spec.column}" to make messages of.', hint=f"columns: {rows.columns}"
            )
        column = rows[self._spec.column]
        if column.dtype not in (pl.String, pl.Binary, pl.Null):
            raise DataError(
                f'Column "{column.name}" is of type {column.dtype}; messages of text or bytes are made of such.',
                hint=f'f.cast({{"{column.name}": "string"}})',
            )
        made: list[bytes | None] = column.cast(pl.Binary).to_list()
        return made


def _no_text(index: int, value: bytes | None) -> Undecodable | None:
    try:
        (value or b"").decode()
    except UnicodeDecodeError as error:
        return Undecodable(index, f"not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start + 1}")
    return None
