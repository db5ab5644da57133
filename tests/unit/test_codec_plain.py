"""Keys and other messages of one value: text and bytes."""

from __future__ import annotations

import polars as pl
import pytest

from harness.messages import told
from tidemill.model.codec import Raw, Text
from tidemill.model.errors import DataError
from tidemill.wiring.codecs import open_codec


def test_text_is_read_and_written_as_it_is() -> None:
    codec = open_codec(Text("key"), "t", "key")
    made = codec.decode(["é\0".encode(), b"", None, b"a\xff", b"\xef\xbb\xbfx"])
    assert made.rows["key"].to_list() == ["é\0", "", "\ufeffx"]
    assert (list(made.taken or ()), list(made.empty)) == ([0, 1, 4], [2])
    assert told(made) == {3: "not UTF-8: byte 0xff at position 2"}
    assert codec.encode(pl.DataFrame({"key": ["é", None, ""]})) == ["é".encode(), None, b""]


def test_bytes_are_read_and_written_as_they_are() -> None:
    codec = open_codec(Raw(), "t")
    made = codec.decode([b"\xff", None])
    assert made.rows["value"].to_list() == [b"\xff"]
    assert list(made.empty) == [1]
    assert codec.encode(pl.DataFrame({"value": [b"\xff", None]})) == [b"\xff", None]


def test_rows_without_such_a_column_are_told() -> None:
    codec = open_codec(Text("key"), "t", "key")
    with pytest.raises(DataError, match='There is no column "key"'):
        codec.encode(pl.DataFrame({"id": [1]}))
    with pytest.raises(DataError, match='Column "key" is of type Int64'):
        codec.encode(pl.DataFrame({"key": [1]}))
