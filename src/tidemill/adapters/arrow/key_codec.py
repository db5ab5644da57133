"""How streams write keys of messages: one column as its text (as other clients do), several as a JSON list."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

from tidemill.ports.codec import Decoded


class KeyCodec:
    """Writes keys. Equal values give equal bytes, and so the same partition, in any version."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)

    @property
    def columns(self) -> None:
        """Keys are not read back: the value has what they are made of."""
        return

    def only(self, names: Sequence[str]) -> KeyCodec:
        """The same codec for these columns."""
        return KeyCodec(names)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Keys as text."""
        text = [None if value is None else value.decode("utf-8", "replace") for value in values]
        return Decoded(pl.DataFrame({"key": pl.Series(text, dtype=pl.String)}))

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """A key for each row; null has none."""
        if len(self._columns) == 1:
            column = rows.get_column(self._columns[0])
            if column.dtype == pl.Binary():
                return column.to_list()
            text = column if column.dtype == pl.String() else column.cast(pl.String)
            return [None if value is None else value.encode() for value in text.to_list()]
        write = msgspec.json.Encoder().encode
        return [write(list(row)) for row in rows.select(self._columns).iter_rows()]
