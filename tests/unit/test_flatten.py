"""Flattening: parent and child tables equal what a naive walk over Python rows gives, however Arrow stores them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.arrow.flatten import flatten
from tidemill.model.errors import DecodeError, DefinitionError, UnknownName


def batch_of(rows: list[dict[str, Any]], kind: pa.StructType | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_struct_array(pa.array(rows, type=kind))


# A naive flattening: no Arrow arrays, one value at a time.


def leaves(kind: pa.DataType, value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], pa.DataType, Any]]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from leaves(field.type, None if value is None else value[field.name], (*path, field.name))
    elif pa.types.is_map(kind):
        entries = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        yield path, entries, None if value is None else [{"key": k, "value": v} for k, v in value]
    else:
        yield path, kind, value


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


class Naive:
    """Tables by suffix: the columns' names, and rows as tuples."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.rows: dict[str, list[tuple[Any, ...]]] = {}

    def declare(self, kind: pa.DataType, path: tuple[str, ...], carried: list[str]) -> None:
        own = []
        for below, leaf, _ in leaves(kind, None, () if pa.types.is_struct(kind) else ("value",)):
            if is_list(leaf):
                suffix = "__".join((*path, *below))
                up = [n if n != "_pos" else "_pos_" + "__".join(path) for n in carried] if path else ["<identity>"]
                self.declare(leaf.value_type, (*path, *below), [*up, "_pos"])
                assert suffix in self.names
            elif not (pa.types.is_null(leaf) and below == ("value",) and not pa.types.is_struct(kind)):
                own.append("_".join(below))
        self.names["__".join(path)] = [*carried, *own]

    def add(
        self, kind: pa.DataType, value: Any, path: tuple[str, ...], carried: tuple[Any, ...], identity: Any
    ) -> None:
        own = []
        for below, leaf, inner in leaves(kind, value, () if pa.types.is_struct(kind) else ("value",)):
            if is_list(leaf):
                down = carried if path else (identity,)
                for at, element in enumerate(inner or ()):
                    self.add(leaf.value_type, element, (*path, *below), (*down, at), identity)
            elif not (pa.types.is_null(leaf) and below == ("value",) and not pa.types.is_struct(kind)):
                own.append(inner)
        self.rows.setdefault("__".join(path), []).append((*carried, *own))


def naive(rows: list[Any], kind: pa.StructType, identity: str, first_row: int) -> dict[str, Any]:
    oracle = Naive()
    oracle.declare(kind, (), [])
    for number, row in enumerate(rows):
        oracle.add(kind, row, (), (), row["id"] if identity == "id" else first_row + number)
    tables = {}
    for suffix, names in oracle.names.items():
        names = [identity if name == "<identity>" else name for name in names]
        carried = sum(name.startswith("_") for name in names) if identity != "id" or not suffix else 0
        if suffix and identity == "id":
            carried = 1 + sum(name.startswith("_pos") for name in names)
        last = suffix.rsplit("__", 1)[-1]
        own = [f"{last}_{name}" if name in names[:carried] else name for name in names[carried:]]
        tables[suffix] = ([*names[:carried], *own], oracle.rows.get(suffix, []))
    if identity != "id":
        names, found = tables[""]
        tables[""] = (["_row", *names], [(first_row + at, *row) for at, row in enumerate(found)])
    return tables


def shown(tables: dict[str, pa.RecordBatch]) -> dict[str, Any]:
    def rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
        batch.validate(full=True)
        columns = [column.to_pylist() for column in batch.columns]
        return list(zip(*columns, strict=True)) if columns else [()] * batch.num_rows

    return {suffix: (batch.schema.names, rows(batch)) for suffix, batch in tables.items()}


SCALARS = st.sampled_from([pa.int64(), pa.string(), pa.bool_(), pa.null()])


def structs(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.dictionaries(st.sampled_from(["p", "q", "id"]), inner, min_size=1, max_size=3).map(
        lambda fields: pa.struct(list(fields.items()))
    )


KINDS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        structs(inner),
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda kind: pa.list_(kind, 2)),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=5,
)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        some: Any = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif pa.types.is_fixed_size_list(kind):
        some = st.lists(values(kind.value_type), min_size=2, max_size=2)
    elif is_list(kind):
        some = st.lists(values(kind.value_type), max_size=3)
    elif pa.types.is_map(kind):
        some = st.dictionaries(st.sampled_from("uvw"), values(kind.item_type), max_size=2).map(
            lambda entries: list(entries.items())
        )
    elif pa.types.is_null(kind):
        return st.none()
    else:
        some = {pa.int64(): st.integers(-9, 9), pa.string(): st.sampled_from("xyz"), pa.bool_(): st.booleans()}[kind]
    return st.none() | some


@st.composite
def batches(draw: st.DrawFn) -> tuple[pa.StructType, list[dict[str, Any]]]:
    fields = draw(st.dictionaries(st.sampled_from(["x", "y", "z"]), KINDS, min_size=1, max_size=3))
    kind = pa.struct([("id", pa.int64()), *fields.items()])
    row = st.fixed_dictionaries({"id": st.integers(0, 99), **{name: values(inner) for name, inner in fields.items()}})
    return kind, draw(st.lists(row, max_size=6))


@given(case=batches(), keyed=st.booleans(), cut=st.tuples(st.integers(0, 6), st.integers(0, 6)))
@settings(max_examples=few(150), deadline=None)
def test_tables_equal_a_naive_walk(case: tuple[pa.StructType, list[Any]], keyed: bool, cut: tuple[int, int]) -> None:
    """Any nesting, any nulls, and any slice of the batch: names, order and values of every table."""
    kind, rows = case
    start, length = cut
    identity = "id" if keyed else "_parent_row"
    expected = naive(rows[start : start + length], kind, identity, 100)
    assume(all(len(set(names)) == len(names) for names, _ in expected.values()))
    batch = batch_of(rows, kind).slice(start, length)
    assert shown(flatten(batch, ("id",) if keyed else (), 100)) == expected


def test_a_struct_becomes_columns_and_a_list_a_child() -> None:
    """The promise in one look: names, keys and positions."""
    row = {
        "id": 7,
        "user": {"name": "u", "addr": {"city": "B"}},
        "items": [{"sku": "a", "tags": ["t", None]}],
        "n": [1],
    }
    tables = flatten(batch_of([row]), ("id",), 1)
    assert {suffix: table.to_pylist() for suffix, table in tables.items()} == {
        "": [{"id": 7, "user_name": "u", "user_addr_city": "B"}],
        "items": [{"id": 7, "_pos": 0, "sku": "a"}],
        "items__tags": [
            {"id": 7, "_pos_items": 0, "_pos": 0, "value": "t"},
            {"id": 7, "_pos_items": 0, "_pos": 1, "value": None},
        ],
        "n": [{"id": 7, "_pos": 0, "value": 1}],
    }


def test_a_key_may_be_several_columns_and_come_out_of_a_struct() -> None:
    """Keys are named as in the flattened parent."""
    tables = flatten(batch_of([{"a": 1, "s": {"b": "x"}, "l": [5, 6]}]), ("s_b", "a"), 1)
    assert tables["l"].to_pylist() == [{"s_b": "x", "a": 1, "_pos": i, "value": 5 + i} for i in (0, 1)]


def test_values_under_a_null_list_are_not_rows() -> None:
    """Arrow allows a null list to own values; they are not data."""
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 5], pa.int32()), pa.array([1, 2, 3, 4, 5]), mask=pa.array([False, True, False])
    )
    tables = flatten(pa.RecordBatch.from_arrays([lists], ["l"]), (), 10)
    assert tables["l"].to_pydict() == {"_parent_row": [10, 10, 12], "_pos": [0, 1, 0], "value": [1, 2, 5]}


def test_lists_within_a_null_struct_are_not_rows() -> None:
    """The struct's null hides its list."""
    inner = pa.array([[1], [2]])
    struct = pa.StructArray.from_arrays([inner], ["l"], mask=pa.array([True, False]))
    tables = flatten(pa.RecordBatch.from_arrays([struct], ["s"]), (), 1)
    assert tables["s__l"].to_pydict() == {"_parent_row": [2], "_pos": [0], "value": [2]}


def test_a_list_of_unknown_type_fixes_no_value_column() -> None:
    """Empty lists first and structs later must not leave a column `value` behind."""
    kind = pa.struct([("l", pa.list_(pa.null()))])
    tables = flatten(batch_of([{"l": []}, {"l": [None]}], kind), (), 1)
    assert tables["l"].to_pydict() == {"_parent_row": [2], "_pos": [0]}


def test_a_batch_of_no_rows_knows_its_tables() -> None:
    """The schema is there without rows."""
    kind = pa.struct([("id", pa.int64()), ("l", pa.list_(pa.struct([("a", pa.string())])))])
    tables = flatten(batch_of([], kind), ("id",), 1)
    assert {name: table.schema.names for name, table in tables.items()} == {"": ["id"], "l": ["id", "_pos", "a"]}
    assert tables["l"].num_rows == 0


def test_rows_without_columns_are_counted() -> None:
    """A parent of lists only still has its rows, by their number."""
    tables = flatten(batch_of([{"l": [1]}, {"l": []}]), (), 1)
    assert tables[""].num_rows == 2
    assert tables[""].schema.names == ["_row"]


def test_the_element_field_named_like_the_key_is_prefixed() -> None:
    """`id` of the order stays `id`; the item's own becomes `items_id`, also in another case."""
    tables = flatten(batch_of([{"id": 1, "items": [{"ID": 9, "_pos": 5}]}]), ("id",), 1)
    assert tables["items"].to_pylist() == [{"id": 1, "_pos": 0, "items_ID": 9, "items__pos": 5}]


@pytest.mark.parametrize(
    ("row", "key", "text"),
    [
        (
            {"user_id": 1, "user": {"id": 2}},
            (),
            'Flattening gives two columns "user_id": from "user_id" and "user.id".',
        ),
        (
            {"a": {"b_c": 1, "b": {"C": 2}}},
            (),
            'Flattening gives two columns "a_b_C": from "a.b_c" and "a.b.C".',
        ),
        (
            {"id": 1, "l": [{"id": 2, "l_id": 3}]},
            ("id",),
            'Flattening gives two columns "l_id": from "l.id" and "l.l_id".',
        ),
    ],
)
def test_names_that_meet_are_an_error(row: dict[str, Any], key: tuple[str, ...], text: str) -> None:
    """The message names both fields."""
    with pytest.raises(DecodeError) as caught:
        flatten(batch_of([row]), key, 1)
    assert str(caught.value) == (
        f"{text}\n  try: rename one of them in the source, map the columns by jsonpaths, or load without flatten"
    )


def test_children_that_meet_are_an_error() -> None:
    """A list `a__b` beside a list `b` within `a`."""
    with pytest.raises(DecodeError) as caught:
        flatten(batch_of([{"a__b": [1], "a": {"b": [2]}}]), (), 1)
    assert caught.value.what == 'Flattening gives two child tables "a__b".'
    assert caught.value.where == "a.b"


def test_an_unknown_key_column_is_an_error() -> None:
    """With the nearest name."""
    with pytest.raises(UnknownName) as caught:
        flatten(batch_of([{"order_id": 1, "l": [1]}]), ("order",), 1)
    assert str(caught.value) == 'There is no key column "order".\n  try: did you mean "order_id"?'


def test_a_list_cannot_be_a_key() -> None:
    """Its rows are in another table."""
    with pytest.raises(DefinitionError) as caught:
        flatten(batch_of([{"l": [1]}]), ("l",), 1)
    assert caught.value.what == 'The key column "l" holds lists, which become a table of their own.'


def test_names_that_differ_in_case_beside_each_other_pass() -> None:
    """Flattening did not make them; the contract judges them."""
    assert flatten(batch_of([{"a": 1, "A": 2}]), (), 1)[""].schema.names == ["_row", "a", "A"]
