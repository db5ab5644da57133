"""Conformance of the port `catalog`: columns that change, and files that were written before they did."""

from __future__ import annotations

from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness.lake import NAME, Lake, in_any_order, plain_rows
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.errors import ContractError, UnknownName
from tidemill.model.table import Partition, Schema


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFiles(tmp_path / "lake"))


@pytest.fixture(params=["localfs", "memory"])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on either kind of files, for what needs no engine."""
    return Lake(LocalFiles(tmp_path / "lake") if request.param == "localfs" else MemoryFiles())


def test_evolved_tables_read_right_from_old_and_new_files(lake: Lake) -> None:
    """Added, renamed, dropped and widened columns, and a name that comes back with another meaning."""
    pointer = lake.create({"id": "int", "v": "string", "gone": "string", "f": "float", "d": "decimal(5,2)"})
    pointer = lake.append(pointer, [{"id": 1, "v": "a", "gone": "secret", "f": 0.5, "d": Number("1.25")}])
    pointer = lake.catalog.evolve(
        NAME, pointer, Schema.of({"id": "long", "new": "long", "f": "double", "d": "decimal(9,2)"})
    )
    pointer = lake.catalog.evolve(NAME, pointer, Schema(), drop=["gone"], rename={"v": "w"})
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of({"gone": "long", "v": "string"}))
    row = {"id": 2**40, "w": "b", "f": 1e300, "d": Number("1234567.25"), "new": 5, "gone": 6, "v": "again"}
    pointer = lake.append(pointer, [row])
    old = {"id": 1, "w": "a", "f": 0.5, "d": Number("1.25"), "new": None, "gone": None, "v": None}
    assert lake.read(pointer) == [old, row]
    assert [str(c.type) for c in lake.catalog.load(NAME, pointer).schema] == [
        "long", "string", "double", "decimal(9,2)", "long", "long", "string",
    ]  # fmt: skip
    assert plain_rows(pointer) == in_any_order([old, row])


def test_nested_columns_evolve_too(lake: Lake) -> None:
    pointer = lake.create({"s": "struct<a:int,b:string>", "l": "list<struct<x:int>>", "m": "map<string,struct<k:int>>"})
    old = {"s": {"a": 1, "b": "q"}, "l": [{"x": 1}], "m": [("p", {"k": 1})]}
    pointer = lake.append(pointer, mapped([old]))
    wanted = {
        "s": "struct<c:struct<d:long>,a:long>",
        "l": "list<struct<x:long,y:string>>",
        "m": "map<string,struct<k:long,n:string>>",
    }
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of(wanted))
    new = {
        "s": {"a": 2**40, "b": "r", "c": {"d": 5}},
        "l": [{"x": 2, "y": "z"}, None],
        "m": [("q", {"k": 2, "n": "n"})],
    }
    pointer = lake.append(pointer, mapped([new]))
    expected = {"s": {"a": 1, "b": "q", "c": None}, "l": [{"x": 1, "y": None}], "m": [("p", {"k": 1, "n": None})]}
    assert lake.read(pointer) == [expected, new]
    assert plain_rows(pointer) == in_any_order([expected, new])


def mapped(rows: list[dict[str, Any]]) -> pa.Table:
    """A table whose column `m` is a map."""
    value = pa.array([v for row in rows for _, v in row["m"]]).type
    maps = pa.array([row["m"] for row in rows], pa.map_(pa.string(), value))
    return pa.Table.from_pylist([{k: v for k, v in row.items() if k != "m"} for row in rows]).append_column("m", maps)


def test_a_column_without_values_takes_any_type_later(lake: Lake) -> None:
    pointer = lake.create({"id": "long", "x": "unknown", "l": "list<unknown>", "s": "struct<u:unknown,k:long>"})
    first = {"id": 1, "l": [], "s": {"u": None, "k": 1}}
    pointer = lake.append(
        pointer,
        pa.Table.from_pylist(
            [first],
            schema=pa.schema(
                [
                    ("id", pa.int64()),
                    ("l", pa.list_(pa.null())),
                    ("s", pa.struct([("u", pa.null()), ("k", pa.int64())])),
                ]
            ),
        ),
    )
    assert [str(c.type) for c in lake.catalog.load(NAME, pointer).schema] == [
        "long", "unknown", "list<unknown>", "struct<u:unknown,k:long>",
    ]  # fmt: skip
    assert lake.catalog.evolve(NAME, pointer, Schema.of({"x": "unknown", "l": "list<unknown>"})) == pointer
    wanted = {"x": "double", "l": "list<struct<a:long>>", "s": "struct<u:list<string>>"}
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of(wanted))
    second = {"id": 2, "x": 0.5, "l": [{"a": 1}], "s": {"u": ["z"], "k": 2}}
    pointer = lake.append(pointer, [second])
    assert lake.catalog.load(NAME, pointer).schema.names == ("id", "x", "l", "s")
    expected = [{"id": 1, "x": None, "l": None, "s": {"u": None, "k": 1}}, second]
    assert lake.read(pointer) == expected
    assert plain_rows(pointer) == in_any_order(expected)


def test_evolve_gives_back_the_pointer_where_nothing_changes(any_lake: Lake) -> None:
    pointer = any_lake.create(
        {"id": "long", "d": "decimal(20,4)", "s": "struct<a:double>", "x": "double", "v": "string"}
    )
    for narrower in (
        {}, {"id": "int"}, {"s": "struct<a:float>"}, {"x": "long"}, {"d": "decimal(10,2)"}, {"d": "long"},
        {"v": "unknown"}, {"s": "unknown"},
    ):  # fmt: skip
        assert any_lake.catalog.evolve(NAME, pointer, Schema.of(narrower)) == pointer
    assert any_lake.catalog.evolve(NAME, pointer, Schema(), properties={"gc.enabled": "false"}) == pointer


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"id": "string"}, '"id" of table "bronze.flights" is long and cannot become string'),
        ({"id": "double"}, "long and cannot become double"),
        ({"v": "long"}, "string and cannot become long"),
        ({"s": "struct<a:struct<b:string>>"}, '"s.a.b" .* is long and cannot become string'),
        ({"s": "long"}, "cannot become long"),
        ({"l": "list<string>"}, '"l.element"'),
        ({"d": "decimal(12,3)"}, "decimal"),
        ({"d": "decimal(38,0)"}, "decimal"),
        ({"at": "timestamptz"}, "timestamp and cannot become timestamptz"),
        ({"ID": "long"}, "differs from it only in case"),
    ],
)
def test_evolve_refuses_what_iceberg_does_not_allow(lake: Lake, wanted: dict[str, str], message: str) -> None:
    pointer = lake.create(
        {
            "id": "long",
            "v": "string",
            "s": "struct<a:struct<b:long>>",
            "l": "list<int>",
            "d": "decimal(10,2)",
            "at": "timestamp",
        }
    )
    with pytest.raises(ContractError, match=message):
        lake.catalog.evolve(NAME, pointer, Schema.of(wanted))


def test_evolve_checks_names_and_keeps_columns_that_the_layout_needs(lake: Lake) -> None:
    pointer = lake.create(partition=(Partition.parse("bucket(4, id)"),), sort=("v",))
    for drop in (["id"], ["v"]):
        with pytest.raises(ContractError, match="partitioned or sorted"):
            lake.catalog.evolve(NAME, pointer, Schema(), drop=drop)
    for wrong in ({"drop": ["idd"]}, {"rename": {"idd": "x"}}):
        with pytest.raises(UnknownName, match="idd"):
            lake.catalog.evolve(NAME, pointer, Schema(), **wrong)
    with pytest.raises(ContractError, match="two columns"):
        lake.catalog.evolve(NAME, pointer, Schema(), rename={"id": "V"})
    renamed = lake.catalog.evolve(NAME, pointer, Schema(), rename={"id": "key"})
    assert lake.catalog.load(NAME, renamed).partition == ("bucket(4, key)",)
    assert lake.ids(lake.append(pointer, [1, 2, 3], 1)) != []
