"""Parquet feeds: every row, in the types that tables have, in bounded memory; bad files say what and where."""

from __future__ import annotations

import base64
import gzip
import io
import random
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.arrow import parquet
from tidemill.adapters.arrow.detect import open_feed, unpacked_feed
from tidemill.adapters.arrow.normal import normal, normal_type, to_micros
from tidemill.adapters.arrow.parquet import read_parquet
from tidemill.model.errors import DecodeError, LimitError, TidemillError
from tidemill.ports.decoder import DecodeOptions, Feed


def feed_of(data: bytes, name: str = "a.parquet") -> Feed:
    return Feed(name, lambda: io.BytesIO(data), len(data))


def written(table: pa.Table, **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **how)
    return sink.getvalue()


def read(data: bytes, **options: Any) -> pa.Table:
    batches = []
    expected = 1
    for batch, first in read_parquet(feed_of(data), DecodeOptions(**options)):
        assert first == expected
        batch.validate(full=True)
        batches.append(batch)
        expected += batch.num_rows
    return pa.Table.from_batches(batches)


EPOCH = datetime(1970, 1, 1)
TYPES = {
    "int8": (pa.array([-1, None], pa.int8()), pa.int32(), [-1, None]),
    "uint16": (pa.array([65535, None], pa.uint16()), pa.int32(), [65535, None]),
    "uint32": (pa.array([2**32 - 1, None], pa.uint32()), pa.int64(), [2**32 - 1, None]),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), pa.decimal128(20, 0), [Decimal(2**64 - 1), None]),
    "float16": (pa.array([1.5, None], pa.float16()), pa.float32(), [1.5, None]),
    "date64": (pa.array([date(1969, 12, 31), None], pa.date64()), pa.date32(), [date(1969, 12, 31), None]),
    "time32": (pa.array([time(1, 2, 3), None], pa.time32("ms")), pa.time64("us"), [time(1, 2, 3), None]),
    "time64 ns": (pa.array([1999, None], pa.time64("ns")), pa.time64("us"), [time(0, 0, 0, 1), None]),
    "timestamp s": (pa.array([86400, None], pa.timestamp("s")), pa.timestamp("us"), [datetime(1970, 1, 2), None]),
    "timestamp ns": (
        pa.array([1999, -1, -1000, -1001, None], pa.timestamp("ns")),
        pa.timestamp("us"),
        [
            datetime(1970, 1, 1, 0, 0, 0, 1),
            datetime(1969, 12, 31, 23, 59, 59, 999999),
            datetime(1969, 12, 31, 23, 59, 59, 999999),
            datetime(1969, 12, 31, 23, 59, 59, 999998),
            None,
        ],
    ),
    "timestamp in a zone": (
        pa.array([0, None], pa.timestamp("ms", "America/New_York")),
        pa.timestamp("us", "UTC"),
        [datetime(1970, 1, 1, tzinfo=UTC), None],
    ),
    "duration": (pa.array([1999, -1, None], pa.duration("ns")), pa.int64(), [1, -1, None]),
    "large_string": (pa.array(["ü", None], pa.large_string()), pa.string(), ["ü", None]),
    "string_view": (pa.array(["ü", None], pa.string_view()), pa.string(), ["ü", None]),
    "fixed binary": (pa.array([b"ab", None], pa.binary(2)), pa.binary(), [b"ab", None]),
    "large_binary": (pa.array([b"ab", None], pa.large_binary()), pa.binary(), [b"ab", None]),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), pa.string(), ["a", None, "a"]),
    "decimal32": (pa.array([Decimal("1.5"), None], pa.decimal32(5, 2)), pa.decimal128(5, 2), [Decimal("1.50"), None]),
    "decimal256": (
        pa.array([Decimal("1.5"), None], pa.decimal256(38, 2)),
        pa.decimal128(38, 2),
        [Decimal("1.50"), None],
    ),
    "long decimal": (
        pa.array([Decimal(f"-{10**49}.25"), None], pa.decimal256(60, 2)),
        pa.string(),
        [f"-{10**49}.25", None],
    ),
    "uuid": (pa.array([uuid.UUID(int=7).bytes, None], pa.uuid()), pa.uuid(), [uuid.UUID(int=7), None]),
    "json": (pa.array(['{"a":1}', None], pa.json_()), pa.string(), ['{"a":1}', None]),
    "null": (pa.nulls(2), pa.null(), [None, None]),
    "large list": (pa.array([[1], None, []], pa.large_list(pa.int8())), pa.list_(pa.int32()), [[1], None, []]),
    "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), pa.list_(pa.int32()), [[1, 2], None]),
    "map": (
        pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.uint64())),
        pa.map_(pa.string(), pa.decimal128(20, 0)),
        [[("a", Decimal(1)), ("b", None)], None, []],
    ),
    "struct": (
        pa.array([{"a": 5}, None, {"a": None}], pa.struct([("a", pa.timestamp("ns"))])),
        pa.struct([("a", pa.timestamp("us"))]),
        [{"a": EPOCH}, None, {"a": None}],
    ),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_that_tables_lack_are_converted(name: str) -> None:
    """What the file has, what the column is, and what its values are."""
    array, kind, values = TYPES[name]
    made = read(written(pa.table({"c": array})))
    assert made.schema.field("c").type == kind
    assert made.column("c").to_pylist() == values


def test_spark_timestamps_of_any_year_are_read() -> None:
    """int96 has years that nanoseconds in int64 lack."""
    moments = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 123456), None]
    data = written(pa.table({"c": pa.array(moments, pa.timestamp("us"))}), use_deprecated_int96_timestamps=True)
    assert read(data).column("c").to_pylist() == moments


@given(counts=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_nanoseconds_are_rounded_down(counts: list[int | None]) -> None:
    """Python's `//` is the oracle, at both ends of int64 too."""
    made = to_micros(pa.array(counts, pa.int64()), "ns").to_pylist()
    assert made == [None if count is None else count // 1000 for count in counts]


NESTED = st.recursive(
    st.sampled_from([pa.uint8(), pa.uint64(), pa.large_string(), pa.null(), pa.string()]),
    lambda inner: st.one_of(
        inner.map(lambda kind: pa.struct([("a", kind), ("b", pa.int8())])),
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda kind: pa.list_(kind, 2)),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        some: Any = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif pa.types.is_map(kind):
        some = st.dictionaries(st.sampled_from("uvw"), values(kind.item_type), max_size=2).map(
            lambda m: list(m.items())
        )
    elif pa.types.is_fixed_size_list(kind):
        some = st.lists(values(kind.value_type), min_size=2, max_size=2)
    elif kind.num_fields:
        some = st.lists(values(kind.value_type), max_size=3)
    elif pa.types.is_null(kind):
        return st.none()
    else:
        some = st.integers(0, 99) if pa.types.is_integer(kind) else st.sampled_from("xyz")
    return st.none() | some


@given(data=st.data(), kind=NESTED, cut=st.tuples(st.integers(0, 6), st.integers(0, 6)))
@settings(max_examples=few(150), deadline=None)
def test_nested_arrays_keep_their_values(data: st.DataObject, kind: pa.DataType, cut: tuple[int, int]) -> None:
    """Any nesting, nulls and slices: the same values in the announced type."""
    rows = data.draw(st.lists(values(kind), max_size=6))
    made = normal(pa.array(rows, kind).slice(*cut))
    made.validate(full=True)
    assert made.type == normal_type(kind)
    assert made.to_pylist() == rows[cut[0] : cut[0] + cut[1]]


def test_batches_follow_row_groups_and_row_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide rows come in small batches, narrow ones in large ones; no batch spans two row groups."""
    monkeypatch.setattr(parquet, "BATCH_BYTES", 100_000)
    rng = random.Random(1)
    wide = pa.table({"c": [rng.randbytes(1000).hex() for _ in range(250)]})
    data = written(wide, row_group_size=120, use_dictionary=False, compression="none")
    sizes = [batch.num_rows for batch, _ in read_parquet(feed_of(data), DecodeOptions())]
    assert sum(sizes) == 250
    assert max(sizes) <= 60
    narrow = written(pa.table({"c": list(range(100_000))}))
    monkeypatch.undo()
    assert next(read_parquet(feed_of(narrow), DecodeOptions()))[0].num_rows == parquet.BATCH_ROWS


def test_memory_follows_the_batch() -> None:
    """One row group of 60 MB never holds more than a few batches in Arrow's memory."""
    data = written(
        pa.table({"c": [f"{i:0200d}" for i in range(300_000)]}), row_group_size=300_000, use_dictionary=False
    )
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in read_parquet(feed_of(data), DecodeOptions()))
    assert most < 4 * parquet.BATCH_BYTES


def test_a_file_without_rows_gives_its_columns() -> None:
    """One batch of no rows, first row 1; also without columns."""
    table = pa.table({"a": pa.array([], pa.uint8()), "l": pa.array([], pa.list_(pa.timestamp("ns")))})
    ((batch, first),) = read_parquet(feed_of(written(table)), DecodeOptions())
    assert (batch.num_rows, first) == (0, 1)
    assert batch.schema == pa.schema([("a", pa.int32()), ("l", pa.list_(pa.timestamp("us")))])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_packed_file_is_read_through_the_decoders_own_unpacking(pack: Callable[[bytes], bytes]) -> None:
    """As the decoder opens it: found by content, unpacked to where it can seek."""
    data = pack(written(pa.table({"a": [1, 2]})))
    opened = open_feed(feed_of(data, "a.parquet.gz"), DecodeOptions())
    assert opened.format == "parquet"
    ((batch, _),) = read_parquet(unpacked_feed(opened, seekable=True), DecodeOptions())
    assert batch.column("a").to_pylist() == [1, 2]


def test_the_stream_is_closed_also_when_the_reader_is_left_early() -> None:
    """No file stays open."""
    data = written(pa.table({"a": list(range(100))}), row_group_size=10)
    opened: list[BinaryIO] = []

    def open_() -> BinaryIO:
        opened.append(io.BytesIO(data))
        return opened[-1]

    batches = read_parquet(Feed("a", open_, len(data)), DecodeOptions())
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # the generator's own method, which Iterator lacks
    assert opened[0].closed


# Bad files.

HINT = "fetch the file again (--refetch)"


def whole() -> bytes:
    rng = random.Random(2)
    table = pa.table({"a": [rng.random() for _ in range(3000)], "s": [rng.randbytes(8).hex() for _ in range(3000)]})
    return written(table, row_group_size=1000, write_page_checksum=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "Parquet file size is 0 bytes"),
        (lambda data: data[:-100], "Parquet magic bytes not found in footer"),
        (lambda data: b"id,name\n1,a\n2,b\n", "Parquet magic bytes not found in footer"),
    ],
    ids=["empty", "truncated", "csv"],
)
def test_no_whole_parquet_file(damage: Any, reason: str) -> None:
    """The error names the file."""
    with pytest.raises(DecodeError) as caught:
        list(read_parquet(feed_of(damage(whole())), DecodeOptions()))
    assert str(caught.value).startswith(f"The Parquet file cannot be read: {reason}")
    assert caught.value.where == "a.parquet from row 1"
    assert caught.value.hint == HINT


def test_a_damaged_page_names_the_row() -> None:
    """Rows before it were read; the checksum finds a single flipped bit."""
    data = bytearray(whole())
    start = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(2).column(0).data_page_offset
    data[start + 2000] ^= 1
    batches = read_parquet(feed_of(bytes(data)), DecodeOptions())
    assert [next(batches)[1], next(batches)[1]] == [1, 1001]
    with pytest.raises(DecodeError) as caught:
        next(batches)
    assert caught.value.where == "a.parquet from row 2001"


def test_any_flipped_byte_gives_rows_or_a_clear_error() -> None:
    """Never another exception."""
    data, rng = whole(), random.Random(3)
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            for batch, _first in read_parquet(feed_of(bytes(damaged)), DecodeOptions()):
                batch.validate(full=True)
        except TidemillError:
            pass


def test_text_that_is_not_utf8_is_an_error() -> None:
    """Arrow itself would hand it on."""
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    with pytest.raises(DecodeError, match="Invalid UTF8"):
        list(read_parquet(feed_of(written(pa.table({"c": bad}))), DecodeOptions()))


def test_an_encrypted_file_says_so() -> None:
    """With an encrypted footer, and with columns encrypted under a plain footer."""

    class Keys(pe.KmsClient):  # type: ignore[misc]  # PyArrow ships no types
        def wrap_key(self, key: bytes, _name: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, wrapped: bytes, _name: str) -> bytes:
            return base64.b64decode(wrapped)

    for plain_footer in (False, True):
        config = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["a"]}, plaintext_footer=plain_footer)
        table = pa.table({"a": [1]})
        properties = pe.CryptoFactory(lambda _: Keys()).file_encryption_properties(pe.KmsConnectionConfig(), config)
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, table.schema, encryption_properties=properties) as writer:
            writer.write_table(table)
        with pytest.raises(DecodeError) as caught:
            list(read_parquet(feed_of(sink.getvalue()), DecodeOptions()))
        assert caught.value.what.startswith("The Parquet file is encrypted: ")
        assert caught.value.hint == "decrypt it before it is archived"


def test_a_value_beyond_its_type_is_an_error() -> None:
    """Milliseconds that microseconds cannot count."""
    data = written(pa.table({"c": pa.array([2**62], pa.timestamp("ms"))}))
    with pytest.raises(DecodeError) as caught:
        list(read_parquet(feed_of(data), DecodeOptions()))
    assert caught.value.where == "a.parquet from row 1"


def test_a_type_without_a_column_type_names_the_column() -> None:
    """Arrow's calendar intervals."""
    with pytest.raises(DecodeError) as caught:
        normal_type(pa.month_day_nano_interval())
    assert str(caught.value) == (
        "No column type can hold values of Arrow's type month_day_nano_interval.\n  try: leave the column out"
    )


def test_errors_of_the_storage_pass_through() -> None:
    """They are not the file's fault, and may be retried."""

    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise ConnectionResetError(104, "reset")

    with pytest.raises(ConnectionResetError):
        list(read_parquet(Feed("a", lambda: Broken(whole()), 1), DecodeOptions()))


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (
            {"max_columns": 1},
            "a.parquet has more than 1 columns.\n  at: a.parquet\n"
            "  try: raise max_columns if it is meant to be so wide",
        ),
        (
            {"max_depth": 2},
            "a.parquet has columns that are nested more than 2 levels deep.\n  at: a.parquet\n"
            "  try: raise max_depth if they are meant to be",
        ),
        (
            {"max_field": 1000},
            'A value of column "l" has 5,000 bytes; at most 1,000 are read.\n  at: a.parquet rows 1 to 2\n'
            "  try: raise max_field if such values are meant to be",
        ),
    ],
)
def test_limits_of_shape(limit: dict[str, Any], text: str) -> None:
    """Columns, depth, and the size of one value, however deep it sits."""
    table = pa.table({"l": [[{"a": ["x" * 5000]}], None], "b": [1, 2]})
    with pytest.raises(LimitError) as caught:
        read(written(table), **limit)
    assert str(caught.value) == text


def test_limits_of_size() -> None:
    """A bomb is refused by its footer; what only unfolds when decoded, once it has unfolded."""
    bomb = written(pa.table({"c": ["x" * 4_000_000] * 20}), compression="zstd", use_dictionary=False)
    with pytest.raises(LimitError) as caught:
        read(bomb)
    assert str(caught.value) == (
        f"a.parquet ({len(bomb):,} bytes) unpacks to more than 1000 times its size.\n  at: a.parquet\n"
        "  try: raise max_ratio if this file is meant to be so large"
    )
    with pytest.raises(LimitError, match=r"unpacks to more than 1,000,000 bytes"):
        read(bomb, max_unpacked=1_000_000)
    folded = written(pa.table({"c": ["x" * 1000] * 100_000}))
    with pytest.raises(LimitError, match=r"unpacks to more than 10,000,000 bytes"):
        read(folded, max_unpacked=10_000_000)
    assert read(folded, max_ratio=1).num_rows == 100_000
