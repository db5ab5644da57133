"""What footers tell: bounds that hold every value, however they are cut, and facts that need no second look."""

from __future__ import annotations

import io
from decimal import Decimal
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema as IcebergSchema

from harness.examples import few
from tidemill.adapters.iceberg.arrow import arrow_schema
from tidemill.adapters.iceberg.footers import FileFacts, data_file, measured_types, read_facts
from tidemill.adapters.iceberg.types import new_field
from tidemill.model.table import Schema


def written(columns: dict[str, str], rows: list[dict[str, Any]], group: int = 1000) -> tuple[IcebergSchema, FileFacts]:
    ids = count(1)
    schema = IcebergSchema(*(new_field(c.name, c.type, ids) for c in Schema.of(columns)))
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, schema=arrow_schema(schema)), sink, row_group_size=group, store_schema=False
    )
    return schema, read_facts(pq.read_metadata(io.BytesIO(sink.getvalue())))


def entry(schema: IcebergSchema, facts: FileFacts, always: tuple[int, ...] = ()) -> Any:
    kinds = measured_types(schema, always)
    return data_file(facts, "a", 1, kinds=kinds, schema=schema, spec=UNPARTITIONED_PARTITION_SPEC)


VALUES = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=True),
    "string": st.text(max_size=40) | st.text("\ud7ff\U0010ffffaé", min_size=14, max_size=20),
    "binary": st.binary(max_size=40) | st.binary(min_size=17).map(lambda b: b"\xff" * len(b)),
    "decimal(12,2)": st.decimals(-(10**6), 10**6, places=2),
    "boolean": st.booleans(),
    "date": st.dates(),
}


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=few(50), deadline=None)
@given(data=st.data(), group=st.integers(1, 4))
def test_bounds_hold_every_value(kind: str, data: st.DataObject, group: int) -> None:
    values = data.draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=8))
    schema, facts = written({"c": kind}, [{"c": v} for v in values], group)
    file = entry(schema, facts)
    assert file.record_count == len(values)
    assert file.null_value_counts == {1: values.count(None)}
    primitive = schema.find_field(1).field_type
    low, high = (from_bytes(primitive, b[1]) if 1 in b else None for b in (file.lower_bounds, file.upper_bounds))
    for value in values:
        if value is None or value != value:
            continue
        plain = (value - type(value)(1970, 1, 1)).days if kind == "date" else value
        assert low is None or low <= plain
        assert high is None or plain <= high
    if kind not in ("string", "binary", "double") and any(v is not None for v in values):
        assert low is not None
        assert high is not None


def test_cut_bounds_are_short() -> None:
    schema, facts = written({"s": "string", "b": "binary"}, [{"s": "é" * 100, "b": b"\xfe" * 100}])
    file = entry(schema, facts)
    assert file.lower_bounds == {1: ("é" * 16).encode(), 2: b"\xfe" * 16}
    assert file.upper_bounds == {1: ("é" * 15 + "ê").encode(), 2: b"\xfe" * 15 + b"\xff"}


def test_parts_of_lists_have_no_bounds_and_parts_of_structs_do() -> None:
    rows = [{"s": {"a": 5}, "l": [1, 2], "m": [("k", 1)]}, {"s": None, "l": None, "m": None}]
    schema, facts = written({"s": "struct<a:long>", "l": "list<long>", "m": "map<string,long>"}, rows)
    file = entry(schema, facts)
    assert set(file.lower_bounds) == {next(f.field_id for f in schema.find_field("s").field_type.fields)}
    assert len(file.column_sizes) == 4


def test_only_a_hundred_columns_are_measured_and_those_that_are_needed() -> None:
    columns = {f"c{n}": "long" for n in range(150)}
    schema, facts = written(columns, [dict.fromkeys(columns, 1)])
    assert set(entry(schema, facts, (140,)).lower_bounds) == {*range(1, 101), 140}


def test_the_only_value_is_told_only_where_it_is_proved() -> None:
    columns = {"same": "long", "mixed": "long", "some": "long", "text": "string"}
    rows = [{"same": 7, "mixed": n, "some": 7 if n else None, "text": "7"} for n in range(3)]
    _, facts = written(columns, rows, group=2)
    assert [facts.only_value(i) for i in (1, 2, 3, 4, 5)] == [7, None, None, None, None]


def test_decimals_are_exact() -> None:
    schema, facts = written(
        {"d": "decimal(38,2)"}, [{"d": Decimal("-1.10")}, {"d": Decimal("123456789012345678901234.56")}]
    )
    file = entry(schema, facts)
    kind = schema.find_field(1).field_type
    assert from_bytes(kind, file.lower_bounds[1]) == Decimal("-1.10")
    assert from_bytes(kind, file.upper_bounds[1]) == Decimal("123456789012345678901234.56")
