"""Comparing rows: the same answer as comparing Python dicts, for any rows, with a key and without."""

from __future__ import annotations

import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.duckdb.engine import DuckDBEngine
from tidemill.flow.diff import compare_rows

ENGINE = DuckDBEngine()
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("amount", pa.float64())])
SAME = {"id": "id", "name": "name", "amount": "amount"}

ids = st.none() | st.integers(0, 6)
amounts = st.sampled_from([0.0, 1.5, float("nan"), None])
row = st.fixed_dictionaries({"id": ids, "name": st.sampled_from(["a", "b", "", None]), "amount": amounts})


def compared(old, new, key=("id",), columns=None, limit=100, schema=SCHEMA):
    sides = {"old": pa.Table.from_pylist(old, schema), "new": pa.Table.from_pylist(new, SCHEMA)}
    return compare_rows(ENGINE, sides, columns or SAME, key, limit)


def hashable(found):
    """A row as a value in which NaN equals itself."""
    return tuple((k, "nan" if isinstance(v, float) and math.isnan(v) else v) for k, v in sorted(found.items()))


@settings(max_examples=few(25), deadline=None)
@given(st.lists(row, max_size=6, unique_by=lambda r: r["id"]), st.lists(row, max_size=6, unique_by=lambda r: r["id"]))
def test_with_a_key_as_by_dicts(old, new):
    before, after = {r["id"]: hashable(r) for r in old}, {r["id"]: hashable(r) for r in new}
    counts, rows = compared(old, new)
    changed = [k for k in before.keys() & after.keys() if before[k] != after[k]]
    assert counts == {"added": len(after.keys() - before.keys()), "removed": len(before.keys() - after.keys()),
                      "changed": len(changed)}  # fmt: skip
    assert {r.key["id"] for r in rows if r.kind == "added"} == after.keys() - before.keys()
    for found in rows:
        if found.kind == "changed":
            assert {k for k, _ in set(before[found.key["id"]]) ^ set(after[found.key["id"]])} == set(found.before)


@settings(max_examples=few(25), deadline=None)
@given(st.lists(row, max_size=8), st.lists(row, max_size=8))
def test_without_a_key_as_by_counting_rows(old, new):
    before, after = Counter(map(hashable, old)), Counter(map(hashable, new))
    counts, rows = compared(old, new, key=())
    assert counts == {"added": (after - before).total(), "removed": (before - after).total(), "changed": 0}
    assert Counter(hashable(r.after) for r in rows if r.kind == "added") == after - before
    assert Counter(hashable(r.before) for r in rows if r.kind == "removed") == before - after


def test_a_changed_row_shows_what_changed_before_and_after():
    counts, (found,) = compared([{"id": 1, "name": "a", "amount": 1.0}], [{"id": 1, "name": "b", "amount": 1.0}])
    assert counts["changed"] == 1
    assert (found.key, found.before, found.after) == ({"id": 1}, {"name": "a"}, {"name": "b"})


def test_counts_are_of_all_rows_and_the_first_of_each_kind_are_shown():
    old = [{"id": i, "name": "old"} for i in range(50)]
    new = [{"id": i, "name": "new"} for i in range(25, 100)]
    counts, rows = compared(old, new, limit=3)
    assert counts == {"added": 50, "removed": 25, "changed": 25}
    assert [(r.kind, r.key["id"]) for r in rows] == [
        ("added", 50), ("added", 51), ("added", 52), ("changed", 25), ("changed", 26), ("changed", 27),
        ("removed", 0), ("removed", 1), ("removed", 2),
    ]  # fmt: skip


def test_no_rows_asked_for_gives_counts_only():
    assert compared([], [{"id": 1}], limit=0) == ({"added": 1, "removed": 0, "changed": 0}, ())


def test_a_renamed_column_is_compared_by_its_values():
    old = pa.schema([("id", pa.int64()), ("label", pa.string()), ("amount", pa.float64())])
    columns = {"id": "id", "name": "label", "amount": "amount"}
    counts, _ = compared([{"id": 1, "label": "a"}], [{"id": 1, "name": "a"}], columns=columns, schema=old)
    assert counts == {"added": 0, "removed": 0, "changed": 0}


@pytest.mark.parametrize(("value", "changed"), [(None, 0), ("x", 1)])
def test_an_added_column_was_null_before(value, changed):
    old = pa.schema([("id", pa.int64()), ("amount", pa.float64())])
    columns = {"id": "id", "name": None, "amount": "amount"}
    counts, _ = compared([{"id": 1}], [{"id": 1, "name": value}], columns=columns, schema=old)
    assert counts["changed"] == changed


def test_a_widened_column_is_compared_by_value():
    old = pa.schema([("id", pa.int32()), ("name", pa.string()), ("amount", pa.float32())])
    counts, _ = compared([{"id": 1, "amount": 1.5}], [{"id": 1, "amount": 1.5}], schema=old)
    assert counts["changed"] == 0


def test_names_are_quoted():
    odd = 'a "b" select'
    schema = pa.schema([(odd, pa.int64()), ("kind", pa.string()), ("total", pa.int64())])
    sides = {"old": pa.Table.from_pylist([{odd: 1, "kind": "x", "total": 1}], schema),
             "new": pa.Table.from_pylist([{odd: 1, "kind": "y", "total": 1}], schema)}  # fmt: skip
    counts, (found,) = compare_rows(ENGINE, sides, {odd: odd, "kind": "kind", "total": "total"}, (odd,), 5)
    assert counts["changed"] == 1
    assert (found.key, found.before, found.after) == ({odd: 1}, {"kind": "x"}, {"kind": "y"})


def test_nested_values_are_compared():
    schema = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string())), ("at", pa.struct([("x", pa.int64())]))])
    sides = {"old": pa.Table.from_pylist([{"id": 1, "tags": ["a"], "at": {"x": 1}}], schema),
             "new": pa.Table.from_pylist([{"id": 1, "tags": ["a", "b"], "at": {"x": 1}}], schema)}  # fmt: skip
    columns = {"id": "id", "tags": "tags", "at": "at"}
    assert compare_rows(ENGINE, sides, columns, ("id",), 5)[1][0].after == {"tags": ["a", "b"]}
    assert compare_rows(ENGINE, sides, columns, (), 5)[0] == {"added": 1, "removed": 1, "changed": 0}
