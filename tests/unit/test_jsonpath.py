"""JSONPaths: what a column holds equals what following the path by hand gives; mistakes name path and position."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.arrow.jsonpath import Each, Step, compile_paths, project
from tidemill.model.errors import DefinitionError

NAMES = st.sampled_from(["a", "b", "odd name", "it's", 'q"q', "ü", "\\"])
SCALARS = st.sampled_from([pa.int64(), pa.string(), pa.null()])


def structs(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(lambda fields: pa.struct(list(fields.items())))


KINDS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        structs(inner),
        structs(inner),
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=6,
)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        some: Any = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif pa.types.is_map(kind):
        some = st.dictionaries(NAMES, values(kind.item_type), max_size=2).map(lambda entries: list(entries.items()))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        some = st.lists(values(kind.value_type), max_size=3)
    elif pa.types.is_null(kind):
        return st.none()
    else:
        some = st.integers(-9, 9) if pa.types.is_int64(kind) else st.sampled_from("xyz")
    return st.none() | some


@st.composite
def cases(draw: st.DrawFn) -> tuple[pa.DataType, list[Any], list[Step]]:
    """A row type, rows of it, and a path that leads somewhere, or goes astray on its last steps."""
    kind = draw(structs(KINDS))
    rows = draw(st.lists(st.fixed_dictionaries({field.name: values(field.type) for field in kind}), max_size=5))
    steps: list[Step] = []
    here = kind
    while len(steps) < 6 and draw(st.integers(0, 9)):
        if pa.types.is_struct(here) and draw(st.integers(0, 9)):
            field = draw(st.sampled_from(list(here)))
            steps.append(field.name)
            here = field.type
        elif pa.types.is_map(here) and draw(st.integers(0, 9)):
            steps.append(draw(NAMES))
            here = here.item_type
        elif (pa.types.is_list(here) or pa.types.is_large_list(here)) and draw(st.integers(0, 9)):
            steps.append(draw(st.integers(-3, 3) | st.just(Each())))
            here = here.value_type
        else:
            steps.append(draw(NAMES | st.integers(-3, 3) | st.just(Each())))
            return kind, rows, steps
    return kind, rows, steps


@st.composite
def written(draw: st.DrawFn, steps: list[Step]) -> str:
    """One of the ways to write the steps."""
    text = "$"
    for step in steps:
        space = draw(st.sampled_from(["", " "]))
        if isinstance(step, str):
            ways = [f"[{space}{json.dumps(step)}]", f"[{json.dumps(step, ensure_ascii=False)}{space}]"]
            ways.append("['" + step.replace("\\", "\\\\").replace("'", "\\'") + "']")
            if step.isidentifier():
                ways.append(f".{step}")
            text += draw(st.sampled_from(ways))
        else:
            text += f"[{space}{'*' if isinstance(step, Each) else step}{space}]"
    return text


def naive(kind: pa.DataType, row: Any, steps: list[Step]) -> tuple[pa.DataType, Any]:
    """The type of what stands at the path's end, and what stands there."""
    nodes, joined, missing = [row], False, False
    for step in steps:
        a_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if isinstance(step, str) and pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
            nodes = [None if node is None else node[step] for node in nodes]
            kind = kind.field(step).type
        elif isinstance(step, str) and pa.types.is_map(kind):
            nodes = [None if node is None else dict(node).get(step) for node in nodes]
            kind = kind.item_type
        elif isinstance(step, int) and a_list:
            nodes = [None if n is None or not -len(n) <= step < len(n) else n[step] for n in nodes]
            kind = kind.value_type
        elif isinstance(step, Each):
            nodes = nodes if a_list else [None] * len(nodes)
            kind = kind.value_type if a_list else pa.null()
            missing = missing or (not joined and nodes[0] is None)
            nodes = [element for node in nodes if node is not None for element in node]
            joined = True
        else:
            nodes, kind = [None] * len(nodes), pa.null()
    return kind, None if missing else nodes if joined else nodes[0]


@given(data=st.data(), case=cases(), cut=st.tuples(st.integers(0, 5), st.integers(0, 5)))
@settings(max_examples=few(150), deadline=None)
def test_a_column_equals_the_path_followed_by_hand(
    data: st.DataObject, case: tuple[pa.DataType, list[Any], list[Step]], cut: tuple[int, int]
) -> None:
    """Any types, nulls, slices and ways of writing the path."""
    kind, rows, steps = case
    compiled = compile_paths({"c": data.draw(written(steps))})
    assert compiled == (("c", tuple(steps)),)
    batch = pa.RecordBatch.from_struct_array(pa.array(rows, kind)).slice(cut[0], cut[1])
    made = project(batch, compiled)
    made.validate(full=True)
    rows = rows[cut[0] : cut[0] + cut[1]]
    assert made.column("c").to_pylist() == [naive(kind, row, steps)[1] for row in rows]
    end, found = naive(kind, None, steps)[0], made.schema.field("c").type
    assert (found.value_type if Each() in steps and not pa.types.is_null(found) else found) == end


def test_columns_come_in_the_order_of_the_mapping() -> None:
    """Each path once, under its column's name."""
    batch = pa.RecordBatch.from_pylist([{"o": {"id": 1, "l": [{"s": "x"}, {"s": "y"}]}, "n": 2}])
    paths = {"total": "$.n", "id": "$.o.id", "skus": "$.o.l[*].s", "last": "$['o'].l[-1].s", "all": "$"}
    assert project(batch, compile_paths(paths)).to_pylist() == [
        {"total": 2, "id": 1, "skus": ["x", "y"], "last": "y", "all": {"o": batch.column("o")[0].as_py(), "n": 2}}
    ]


def test_missing_places_are_null_and_positions_stay() -> None:
    """An item without the member keeps its place; a row without the list has no list; an empty one stays empty."""
    rows = [{"l": [{"s": "x"}, None, {"s": None}]}, {"l": None}, {"l": []}]
    batch = pa.RecordBatch.from_pylist(rows)
    assert project(batch, compile_paths({"c": "$.l[*].s"})).column("c").to_pylist() == [["x", None, None], None, []]


def test_a_member_that_no_item_has_yet_gives_the_same_rows_however_the_input_is_cut() -> None:
    """The block without it says what the whole batch says."""
    rows = [{"l": [{"s": 1}, {"s": 2}]}, {"l": [{"s": 3, "t": [4]}]}]
    paths = compile_paths({"t": "$.l[*].t", "each": "$.l[*].t[*]", "first": "$.l[*].t[0]"})
    whole = project(pa.RecordBatch.from_pylist(rows), paths).to_pylist()
    assert whole == [{"t": [None, None], "each": [], "first": [None, None]}, {"t": [[4]], "each": [4], "first": [4]}]
    assert [row for one in rows for row in project(pa.RecordBatch.from_pylist([one]), paths).to_pylist()] == whole


def test_lists_within_lists_are_joined() -> None:
    """As in RFC 9535: `[*]` twice gives one list."""
    batch = pa.RecordBatch.from_pylist([{"l": [{"t": [1, 2]}, {"t": None}, {"t": [3]}]}])
    assert project(batch, compile_paths({"c": "$.l[*].t[*]"})).column("c").to_pylist() == [[1, 2, 3]]


def test_values_under_a_null_list_are_not_found() -> None:
    """Arrow allows a null list to own values; they are not data."""
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 5], pa.int32()), pa.array([1, 2, 3, 4, 5]), mask=pa.array([False, True, False])
    )
    batch = pa.RecordBatch.from_arrays([lists], ["l"])
    made = project(batch, compile_paths({"all": "$.l[*]", "first": "$.l[0]", "last": "$.l[-1]"}))
    assert made.to_pydict() == {"all": [[1, 2], None, [5]], "first": [1, None, 5], "last": [2, None, 5]}


def test_no_paths_and_no_rows() -> None:
    """The number of rows stays; the type is known without rows."""
    batch = pa.RecordBatch.from_pylist([{"a": 1}, {"a": 2}])
    assert project(batch, ()).num_rows == 2
    assert project(batch.slice(2), compile_paths({"c": "$.a"})).schema == pa.schema([("c", pa.int64())])


SUPPORTED = "use $, .name, ['any name'], [0], [-1] and [*]"


@pytest.mark.parametrize(
    ("path", "position", "reason", "hint"),
    [
        ("a.b", 1, "a path begins with $", '"$.a.b"'),
        ("[0].b", 1, "a path begins with $", '"$[0].b"'),
        ("", 1, "a path begins with $", SUPPORTED),
        ("$.a..b", 4, 'the search at any depth ("..") is not supported', SUPPORTED),
        ("$.*", 2, 'the wildcard ".*" over members is not supported', SUPPORTED),
        ("$.a[?@.b>1]", 4, 'filters ("[?...]") are not supported', SUPPORTED),
        ("$.a[1:2]", 4, 'slices ("[1:3]") are not supported', SUPPORTED),
        ("$[0,1]", 2, 'several selectors in one pair of brackets ("[0,1]") are not supported', SUPPORTED),
        ("$.a['b", 4, "the quoted name does not end", SUPPORTED),
        ("$.a[b]", 4, "there is no index, quoted name or * in the brackets", SUPPORTED),
        ("$.a[01]", 4, "there is no index, quoted name or * in the brackets", SUPPORTED),
        ("$.a.", 4, "no name follows the point", SUPPORTED),
        (
            "$.my-name",
            5,
            "a name after a point has letters, digits and _ only; write another one as ['my-name']",
            SUPPORTED,
        ),
        ("$['\\x']", 3, "the quoted name has an escape that JSON lacks", SUPPORTED),
        ("$['\\ud800']", 3, "the quoted name has an escape that JSON lacks", SUPPORTED),
    ],
)
def test_a_mistake_names_path_and_position(path: str, position: int, reason: str, hint: str) -> None:
    """The whole text of the error."""
    with pytest.raises(DefinitionError) as caught:
        compile_paths({"c": path})
    assert str(caught.value) == (
        f'The JSONPath "{path}" of column "c" cannot be read at position {position}: {reason}.\n  try: {hint}'
    )
