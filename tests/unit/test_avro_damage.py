"""Avro feeds that are truncated, corrupt, or too large: what is said, and where; never another exception."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from datetime import time
from decimal import Decimal
from typing import Any

import pytest

from harness.avro import SYNC, container, long, read, record, snappy, streamed, written
from tidemill.adapters.arrow import avro, limits
from tidemill.adapters.arrow.avro import read_avro
from tidemill.model.errors import DecodeError, LimitError, TidemillError
from tidemill.ports.decoder import DecodeOptions, Feed

HINT = "fetch the file again (--refetch)"


def test_every_truncation_is_seen() -> None:
    """A file cut anywhere but between two blocks is an error that tells after which record."""
    blocks = [(3, b"".join(long(2) + b"ab" for _ in range(3))), (2, long(1) + b"c" + long(0)), (1, long(1) + b"d")]
    schema = record(c="string")
    ends = {len(container(schema, blocks[:n])): sum(count for count, _ in blocks[:n]) for n in range(4)}
    data = container(schema, blocks)
    for cut in range(len(data)):
        if cut in ends:
            assert read(data[:cut]).num_rows == ends[cut]
            continue
        before = max((records for end, records in ends.items() if end <= cut), default=0)
        with pytest.raises(DecodeError) as caught:
            read(data[:cut])
        assert caught.value.what in ("The Avro file is truncated.", "This is no Avro container file.")
        assert caught.value.where == ("a.avro" if not before else f"a.avro after record {before}")
        assert caught.value.hint in (HINT, "name the right format: csv, jsonl, parquet")


def test_any_flipped_bit_gives_rows_or_a_clear_error() -> None:
    """Never another exception, whatever the codec."""
    schema = record(
        i="long",
        s=["null", "string"],
        l={"type": "array", "items": ["null", "long", "string"]},
        e={"type": "enum", "name": "e", "symbols": ["A", "B"]},
        d={"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1},
        t={"type": "int", "logicalType": "time-millis"},
    )
    rows = [
        {"i": n, "s": "x" * (n % 4) or None, "l": [n, "y", None], "e": "AB"[n % 2], "d": Decimal(n), "t": time(1)}
        for n in range(100)
    ]
    rng = random.Random(4)
    for codec in ("null", "deflate"):
        data = written(schema, rows, codec=codec, sync_interval=300)
        for _ in range(150):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            with contextlib.suppress(TidemillError):
                read(bytes(damaged))


def corrupt(kind: Any, *values: bytes) -> DecodeError:
    """The error of a file whose third record is `values[-1]`, the others `values[0]`."""
    rows = [values[0], values[0], values[-1], values[0]]
    with pytest.raises(DecodeError) as caught:
        read(container(record(c=kind), [(1, rows[0]), (3, b"".join(rows[1:]))]))
    return caught.value


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", long(1) + b"a", long(2) + b"\xff\xfe"),
        ("int", long(1), long(2**40)),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, long(0), long(1)),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, long(0), long(-1)),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2}, long(1) + b"\x05", long(1) + b"\x7f"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 38}, long(1) + b"\x05", long(17) + b"\x7f" * 17),
        ({"type": "int", "logicalType": "time-millis"}, long(0), long(86_400_000)),
        ({"type": "long", "logicalType": "time-micros"}, long(0), long(-1)),
        ({"type": "long", "logicalType": "timestamp-millis"}, long(0), long(2**62)),
        (["null", "string", "long"], long(0), long(9)),
        (["null", {"type": "int", "logicalType": "date"}, "string"], long(0), long(1) + long(2**31 - 1)),
    ],
)
def test_a_value_that_does_not_fit_names_its_record(kind: Any, good: bytes, bad: bytes) -> None:
    """The third of four, over two blocks."""
    error = corrupt(kind, good, bad)
    assert error.what.startswith("The Avro record does not fit the file's schema: ")
    assert error.where == "a.avro record 3"
    assert error.hint == HINT


@pytest.mark.parametrize(
    ("blocks", "what", "where"),
    [
        ([(1, long(1)), (2, long(1))], "a block of 1 bytes claims 2 records", "a.avro after record 1"),
        ([(-1, long(1))], "a block of 1 bytes claims -1 records", "a.avro"),
        ([(1, long(1) + long(2))], "a block holds more bytes than its records", "a.avro record 1"),
    ],
)
def test_a_count_that_is_wrong_is_seen(blocks: list[tuple[int, bytes]], what: str, where: str) -> None:
    """No record is lost or made up."""
    with pytest.raises(DecodeError) as caught:
        read(container(record(c="int"), blocks))
    assert caught.value.what == f"The Avro file is corrupt: {what}."
    assert caught.value.where == where


def test_claims_of_endless_nothing_are_refused() -> None:
    """Counts of things that take no bytes cannot be checked, so they are bounded."""
    with pytest.raises(DecodeError, match="a block of 0 bytes claims 1,152,921,504,606,846,976 records"):
        read(container(record(c="null"), [(2**60, b"")]))
    with pytest.raises(DecodeError, match="an array of items that take no bytes"):
        read(container(record(c={"type": "array", "items": "null"}), [(1, long(2**60) + long(0))]))
    with pytest.raises(DecodeError, match="does not fit"):
        read(container(record(c={"type": "array", "items": "int"}), [(1, long(2**60) + long(0))]))
    with pytest.raises(DecodeError, match="truncated"):
        read(container(record(c="int"), [])[:-16] + SYNC + long(1) + long(2**60))


def test_a_record_that_contains_itself_is_an_error() -> None:
    """Directly, or by way of a list; the text names it."""
    node = {
        "type": "record",
        "name": "node",
        "namespace": "x",
        "fields": [{"name": "next", "type": ["null", {"type": "array", "items": "node"}]}],
    }
    with pytest.raises(DecodeError) as caught:
        read(written(node, []))
    assert str(caught.value) == (
        'The Avro record "x.node" contains itself, so no column type can hold it.\n  at: a.avro\n'
        "  try: write the nested part as JSON text, or as rows of its own with a parent's id"
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            b'{"id": 1}\n',
            "This is no Avro container file.\n  at: a.avro\n  try: name the right format: csv, jsonl, parquet",
        ),
        (
            container("int", [], codec="lzo"),
            'The Avro file is packed by "lzo", which is not known here.\n  at: a.avro\n'
            "  try: write it with one of null, deflate, snappy, zstandard, bzip2, xz",
        ),
        (
            b"Obj\x01" + long(0) + SYNC,
            f"The Avro file's header holds no schema.\n  at: a.avro\n  try: {HINT}",
        ),
        (
            container("nothing", []),
            'The Avro schema names a type "nothing" that it does not define.\n  at: a.avro',
        ),
        (
            container({"type": "record", "name": "r"}, []),
            "The Avro schema of a.avro cannot be read: KeyError 'fields'.\n  at: a.avro",
        ),
    ],
    ids=["json", "codec", "no schema", "unknown type", "no fields"],
)
def test_what_is_no_avro_file(data: bytes, text: str) -> None:
    """The whole text of the error."""
    with pytest.raises(DecodeError) as caught:
        read(data)
    assert str(caught.value) == text


def test_a_file_that_is_packed_wrongly() -> None:
    """The block does not unpack."""
    with pytest.raises(DecodeError) as caught:
        read(container(record(c="int"), [(1, b"\xff\xff")], codec="deflate"))
    assert caught.value.what.startswith("The Avro file is corrupt: a block cannot be unpacked (")
    broken = container(record(c="int"), [(1, long(1))])[:-1] + b"?"
    with pytest.raises(DecodeError, match="a block does not end where it says"):
        read(broken)


def test_errors_of_the_storage_pass_through() -> None:
    """They are not the file's fault, and may be retried."""

    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise ConnectionResetError(104, "reset")

    with pytest.raises(ConnectionResetError):
        list(read_avro(Feed("a", lambda: Broken(b"x"), 1), DecodeOptions()))


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy", "zstandard"])
def test_a_bomb_is_refused_before_it_is_unpacked(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the file's limit and by its ratio, which is not judged on little data."""
    raw = long(2_000_000) + bytes(2_000_000)
    pack: dict[str, Callable[[bytes], bytes]] = {"snappy": snappy, "zstandard": streamed}
    if codec in pack:
        data = container(record(c="bytes"), [(1, pack[codec](raw))], codec)
    else:
        data = written(record(c="bytes"), [{"c": bytes(2_000_000)}], codec=codec)
    with pytest.raises(LimitError) as caught:
        read(data, max_unpacked=1_000_000)
    assert str(caught.value) == (
        f"a.avro ({len(data):,} bytes) unpacks to more than 1,000,000 bytes.\n  at: a.avro\n"
        "  try: raise max_unpacked if this file is meant to be so large"
    )
    assert read(data, max_ratio=0.9).num_rows == 1
    monkeypatch.setattr(limits, "RATIO_FROM", 1000)
    with pytest.raises(LimitError) as caught:
        read(data, max_ratio=0.9)
    assert str(caught.value) == (
        f"a.avro ({len(data):,} bytes) unpacks to more than 0.9 times its size.\n  at: a.avro\n"
        "  try: raise max_ratio if this file is meant to be so large"
    )


def test_a_block_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decoded as a whole."""
    monkeypatch.setattr(avro, "MAX_BLOCK", 1000)
    with pytest.raises(LimitError) as caught:
        read(written(record(c="bytes"), [{"c": bytes(1001)}]))
    assert str(caught.value) == (
        "A block of a.avro has more than 1,000 bytes.\n  at: a.avro\n"
        "  try: write it with smaller blocks (the sync interval)"
    )


def test_limits_of_shape() -> None:
    """Columns, nested ones too; depth; the size of one value. A schema that doubles itself is cut short."""
    nested = record(a={"type": "array", "items": {"type": "map", "values": "int"}}, b="string")
    data = written(nested, [{"a": [], "b": "x" * 2000}])
    with pytest.raises(LimitError, match=r"a\.avro has columns that are nested more than 1 levels deep"):
        read(data, max_depth=1)
    with pytest.raises(LimitError, match=r"a\.avro has more than 2 columns"):
        read(data, max_columns=2)
    with pytest.raises(LimitError) as caught:
        read(data, max_field=1000)
    assert caught.value.what == 'A value of column "b" has 2,000 bytes; at most 1,000 are read.'
    assert caught.value.where == "a.avro records 1 to 1"
    assert read(data, max_depth=2, max_columns=3, max_field=2000).num_rows == 1
    doubling: Any = {"type": "record", "name": "t0", "fields": [{"name": "v", "type": "int"}]}
    for level in range(1, 40):
        fields = [{"name": "x", "type": doubling}, {"name": "y", "type": f"t{level - 1}"}]
        doubling = {"type": "record", "name": f"t{level}", "fields": fields}
    with pytest.raises(LimitError, match="more than 10,000 columns"):
        read(container(doubling, []))
