"""Feeds that bring their types: Avro and Parquet rows against tables and contracts, judged by their values."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.decoding import decode, feed
from harness.examples import few
from tidemill.adapters.arrow.fit import fit
from tidemill.model.errors import ContractError, DecodeError
from tidemill.model.table import Column, Contract, OnMisfit, Schema
from tidemill.model.types import parse_type


def parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def avro(fields: dict[str, Any], rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    fastavro.writer(out, fastavro.parse_schema(schema), rows)
    return out.getvalue()


def table(**columns: str) -> dict[str, Schema]:
    return {"": Schema.of(columns)}


# New tables


def test_a_parquet_feed_makes_a_table_of_its_own_types() -> None:
    made = decode(parquet({"n": pa.array([1, None], pa.int32()), "s": [{"p": 1.5}, None]}), "x.parquet")
    assert made.types == {"n": "int", "s": "struct<p:double>"}
    assert made.rows == [{"n": 1, "s": {"p": 1.5}}, {"n": None, "s": None}]


def test_an_avro_feed_makes_a_table_of_its_own_types() -> None:
    made = decode(avro({"n": "int", "t": ["null", "string"]}, [{"n": 1, "t": None}, {"n": 2, "t": "b"}]), "x.avro")
    assert made.types == {"n": "int", "t": "string"}
    assert made.rows == [{"n": 1, "t": None}, {"n": 2, "t": "b"}]


@pytest.mark.parametrize("name", ["x.parquet.gz", "x", "feed.bin"])
def test_what_a_feed_is_shows_in_its_content(name: str) -> None:
    """Packed or without a telling name."""
    raw = parquet({"n": [1]})
    assert decode(gzip.compress(raw) if name.endswith("gz") else raw, name).rows == [{"n": 1}]


def test_a_feed_without_rows_has_no_chunks() -> None:
    assert decode(parquet({"n": pa.array([], pa.int64())}), "x.parquet").rows == []


def test_files_with_different_types_meet_in_one_that_holds_both() -> None:
    """An int and a text: the rows that were out already are decoded again as text."""
    made = decode([feed(parquet({"n": [1, 2]}), "a.parquet"), feed(parquet({"n": ["x"]}), "b.parquet")])
    assert made.types == {"n": "string"}
    assert [row["n"] for row in made.rows] == ["1", "2", "x"]
    assert made.restarts == 1


def test_formats_may_be_mixed() -> None:
    made = decode(
        [feed(parquet({"n": [1]}), "a.parquet"), feed('{"n": 2, "m": "x"}', "b.jsonl"), feed("n\n3\n", "c.csv")]
    )
    assert made.rows == [{"n": 1, "m": None}, {"n": 2, "m": "x"}, {"n": 3, "m": None}]


# Tables that exist: what fits goes in, whatever the file calls its type


def test_values_that_fit_need_no_wider_column() -> None:
    """Most writers know int64 only; a table with int takes what fits, also under freeze."""
    made = decode(
        parquet({"n": [1, 2], "d": pa.array([datetime(2026, 1, 1)], pa.timestamp("us")).take([0, 0])}),
        "x.parquet",
        tables=table(n="int", d="date"),
        contract=Contract(OnMisfit.FREEZE),
    )
    assert made.types == {"n": "int", "d": "date"}
    assert made.rows == [{"n": 1, "d": date(2026, 1, 1)}, {"n": 2, "d": date(2026, 1, 1)}]


def test_a_value_beyond_the_column_widens_it_where_iceberg_can() -> None:
    made = decode(parquet({"n": [1, 2**40]}), "x.parquet", tables=table(n="int"))
    assert made.types == {"n": "long"}
    assert made.rows == [{"n": 1}, {"n": 2**40}]


def test_a_value_that_no_widening_takes_in_is_rejected_with_its_row() -> None:
    made = decode(parquet({"n": [1.0, 2.5], "s": ["a", "b"]}), "x.parquet", tables=table(n="long", s="string"))
    assert made.rows == [{"n": 1, "s": "a"}]
    assert made.rejected == [(2, '{"n": 2.5, "s": "b"}', "n: 2.5 does not fit long")]
    assert made.files == ["x.parquet"]


def test_record_numbers_count_over_batches() -> None:
    """The rejected row stands in the second row group."""
    out = io.BytesIO()
    pq.write_table(pa.table({"n": ["1", "2", "x"]}), out, row_group_size=2)
    made = decode(out.getvalue(), "x.parquet", tables=table(n="long"))
    assert [row["n"] for row in made.rows] == [1, 2]
    assert made.rejected == [(3, '{"n": "x"}', 'n: "x" does not fit long')]


def test_freeze_shows_all_that_differs() -> None:
    with pytest.raises(ContractError) as caught:
        decode(
            [feed(parquet({"n": [2**40]}), "a.parquet"), feed(parquet({"m": ["x"]}), "b.parquet")],
            tables=table(n="int"),
            contract=Contract(OnMisfit.FREEZE),
        )
    assert caught.value.what == (
        "The data differs from the table, and its contract is freeze:\n  ~ n int -> long\n  + m string"
    )
    assert caught.value.where == "a.parquet, b.parquet"


def test_discard_columns_drops_columns_and_fields() -> None:
    made = decode(
        parquet({"n": [1], "new": ["x"], "s": [{"p": 1, "q": 2}]}),
        "x.parquet",
        tables=table(n="long", s="struct<p:long>"),
        contract=Contract(OnMisfit.DISCARD_COLUMNS),
    )
    assert made.rows == [{"n": 1, "s": {"p": 1}}]


def test_discard_rows_rejects_those_with_unknown_columns() -> None:
    """A null in an unknown column says nothing."""
    made = decode(
        parquet({"n": [1, 2], "new": ["x", None]}),
        "x.parquet",
        tables=table(n="long"),
        contract=Contract(OnMisfit.DISCARD_ROWS),
    )
    assert made.rows == [{"n": 2}]
    assert made.rejected == [(1, '{"n": 1, "new": "x"}', 'unknown column "new"')]


def test_a_field_that_the_declared_struct_lacks_is_told() -> None:
    declared = Contract(columns=Schema((Column("s", parse_type("struct<p:long>")),)))
    made = decode(parquet({"s": [{"p": 1, "q": None}, {"p": 1, "q": 2}]}), "x.parquet", contract=declared)
    assert made.rows == [{"s": {"p": 1}}]
    assert [error for _, _, error in made.rejected] == ['s: {"p": 1, "q": 2} does not fit struct<p:long>']


def test_a_missing_value_of_a_required_column_is_rejected() -> None:
    declared = Contract(columns=Schema((Column("n", parse_type("long"), nullable=False),)))
    made = decode(parquet({"n": [1, None]}), "x.parquet", contract=declared)
    assert made.rejected == [(2, '{"n": null}', "n: null, but the column is declared not null")]
    absent = decode(parquet({"m": [1]}), "x.parquet", contract=declared)
    assert absent.rejected == [(1, '{"m": 1}', "n: null, but the column is declared not null")]


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"a": [1], "A": [2]}, 'The column "A" differs from "a" only in case, which SQL ignores.'),
        ({"s": [{"p": 1, "P": 2}]}, 'The column "s.P" differs from "s.p" only in case, which SQL ignores.'),
        ({"_batch_id": [1]}, 'The input has a column "_batch_id", which Tidemill adds to every table itself.'),
    ],
)
def test_columns_that_no_table_can_have_are_an_error(columns: dict[str, Any], error: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(parquet(columns), "x.parquet")
    assert caught.value.what == error
    assert caught.value.where == "x.parquet line 1"


# The rule for values


FITS: list[tuple[Any, pa.DataType, str, Any]] = [
    (7, pa.int64(), "int", 7),
    (2**31, pa.int64(), "int", None),
    (2**53, pa.int64(), "double", float(2**53)),
    (2**53 + 1, pa.int64(), "double", None),
    (7, pa.int64(), "decimal(10,2)", Decimal("7.00")),
    (10**8, pa.int64(), "decimal(10,2)", None),
    (1.0, pa.float64(), "long", 1),
    (1.5, pa.float64(), "long", None),
    (float("nan"), pa.float64(), "long", None),
    (1e300, pa.float64(), "float", None),
    (0.1, pa.float64(), "float", pytest.approx(0.1)),
    (0.1, pa.float64(), "decimal(5,2)", Decimal("0.10")),
    (0.125, pa.float64(), "decimal(5,2)", None),
    (Decimal("0.10"), pa.decimal128(5, 2), "double", 0.1),
    (Decimal("1.00"), pa.decimal128(5, 2), "int", 1),
    (Decimal("1.50"), pa.decimal128(5, 2), "decimal(4,1)", Decimal("1.5")),
    (Decimal("1.55"), pa.decimal128(5, 2), "decimal(4,1)", None),
    (date(2026, 1, 1), pa.date32(), "timestamp", datetime(2026, 1, 1)),
    (datetime(2026, 1, 1, 5), pa.timestamp("us"), "date", None),
    (datetime(2026, 1, 1, 5), pa.timestamp("us"), "timestamptz", None),
    (datetime(2026, 1, 1, 5, tzinfo=UTC), pa.timestamp("us", "UTC"), "string", "2026-01-01T05:00:00Z"),
    (time(5, 30), pa.time64("us"), "string", "05:30:00"),
    (b"\x00\xff", pa.binary(), "string", "AP8="),
    ("AP8=", pa.string(), "binary", b"\x00\xff"),
    ("12", pa.string(), "long", 12),
    ("012", pa.string(), "long", None),
    ("2026-01-01", pa.string(), "date", date(2026, 1, 1)),
    (True, pa.bool_(), "string", "true"),
    (True, pa.bool_(), "long", None),
    ([1, 2], pa.list_(pa.int64()), "string", "[1, 2]"),
    ([1, 2**40], pa.list_(pa.int64()), "list<int>", None),
    ([], pa.list_(pa.int64()), "list<int>", []),
    ({"a": 1}, pa.struct([("a", pa.int64())]), "struct<b:long>", None),
    ({"a": None}, pa.struct([("a", pa.int64())]), "struct<b:long>", {"b": None}),
    ([("k", 1)], pa.map_(pa.string(), pa.int64()), "map<string,int>", [("k", 1)]),
    ([("k", 2**40)], pa.map_(pa.string(), pa.int64()), "map<string,int>", None),
    (5, pa.int64(), "struct<a:long>", None),
    ("{}", pa.string(), "list<long>", None),
]


@pytest.mark.parametrize(("value", "source", "kind", "expected"), FITS)
def test_what_fits(value: Any, source: pa.DataType, kind: str, expected: Any) -> None:
    """A value keeps its meaning or does not fit, wherever in the column it stands, beside nulls and in slices."""
    array = pa.array([None, value, None], source)
    for column in (array, pa.concat_arrays([pa.array([value], source), array])[1:], array.take([1])):
        at = 0 if len(column) == 1 else 1
        made = fit(column, parse_type(kind))
        made.array.validate(full=True)
        bad = [] if made.bad is None else [i for i, is_bad in enumerate(made.bad.to_pylist()) if is_bad]
        assert bad == ([at] if expected is None else [])
        if expected is not None:
            assert made.array.to_pylist()[at] == expected
        assert made.array.null_count >= len(column) - 1


NUMBERS = st.sampled_from(
    [(pa.int32(), st.integers(-(2**31), 2**31 - 1)), (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
     (pa.float64(), st.floats(allow_nan=False)), (pa.float64(), st.integers(-1000, 1000).map(float)),
     (pa.decimal128(12, 3), st.decimals(-(10**8), 10**8, places=3))]
)  # fmt: skip


@settings(max_examples=few(300), deadline=None)
@given(
    data=st.data(), kind=st.sampled_from(["int", "long", "double", "decimal(12,3)", "decimal(38,0)", "decimal(30,19)"])
)
def test_a_number_that_fits_is_the_same_number(data: st.DataObject, kind: str) -> None:
    """Compared as Python numbers; what does not fit is not that number in the type, or cannot be said in it."""
    source, values = data.draw(NUMBERS)
    given_values = data.draw(st.lists(values, min_size=1, max_size=5))
    made = fit(pa.array(given_values, source), parse_type(kind))
    bad = [False] * len(given_values) if made.bad is None else made.bad.to_pylist()
    for value, is_bad, got in zip(given_values, bad, made.array.to_pylist(), strict=True):
        if not is_bad:
            assert got == value or Decimal(str(got)) == Decimal(str(value)) or float(got) == value
        elif kind == "long" and value == int(value if abs(value) != float("inf") else 0):
            # Beyond 2**53 a double may be another integer, rounded.
            limit = 2**53 if isinstance(value, float) else 2**63
            assert not -limit <= value < limit


@settings(max_examples=few(60), deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "n": st.none() | st.integers(-(2**40), 2**40),
                "s": st.none() | st.text("ab-1", max_size=3),
                "l": st.none() | st.lists(st.integers(0, 3), max_size=2),
            }
        ),
        min_size=1,
        max_size=8,
    ),
    rule=st.sampled_from([OnMisfit.EVOLVE, OnMisfit.DISCARD_COLUMNS, OnMisfit.DISCARD_ROWS]),
    columns=st.fixed_dictionaries(
        {"n": st.sampled_from(["int", "long"]), "l": st.sampled_from(["list<long>", "list<int>"])}
    ),
)
def test_a_typed_feed_and_its_json_give_the_same(
    rows: list[dict[str, Any]], rule: OnMisfit, columns: dict[str, str]
) -> None:
    """The contract does not depend on the format: same rows in, same rows rejected."""
    kinds = pa.schema([("n", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.int64()))])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=kinds), out)
    text = "\n".join(json.dumps(row) for row in rows)
    typed = decode(out.getvalue(), "x.parquet", tables={"": Schema.of(columns)}, contract=Contract(rule))
    read = decode(text, "x.jsonl", tables={"": Schema.of(columns)}, contract=Contract(rule))
    assert [row["n"] for row in typed.rows] == [row["n"] for row in read.rows]
    assert [line for line, _, _ in typed.rejected] == [line for line, _, _ in read.rejected]
