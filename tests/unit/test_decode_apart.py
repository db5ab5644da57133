"""Records taken apart while they are decoded: parent, children and contract, whatever the format and the blocks."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.decoding import Decodes, decode, feed
from harness.examples import few
from tidemill.model.errors import ContractError, DecodeError, DefinitionError, UnknownName
from tidemill.model.table import Column, Contract, OnMisfit, Schema
from tidemill.model.types import parse_type

ORDERS: list[dict[str, Any]] = [
    {"id": 1, "who": {"name": "Ann", "zip": "01234"}, "items": [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}]},
    {"id": 2, "who": {"name": "Bob"}, "items": []},
    {"id": 3, "who": None, "items": [{"sku": "z", "n": 3, "tags": ["p", "q"]}]},
]


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(records: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out)
    return out.getvalue()


# Flattening


def test_lists_become_child_tables_that_know_their_parent_row() -> None:
    """Without a key: `_row` in the parent, `_parent_row` in the children."""
    made = decode(lines(ORDERS), flatten=True)
    assert made.rows == [
        {"_row": 0, "id": 1, "who_name": "Ann", "who_zip": "01234"},
        {"_row": 1, "id": 2, "who_name": "Bob", "who_zip": None},
        {"_row": 2, "id": 3, "who_name": None, "who_zip": None},
    ]
    assert made.children["items"].rows == [
        {"_parent_row": 0, "_pos": 0, "sku": "x", "n": 1},
        {"_parent_row": 0, "_pos": 1, "sku": "y", "n": 2},
        {"_parent_row": 2, "_pos": 0, "sku": "z", "n": 3},
    ]
    assert made.children["items__tags"].rows == [
        {"_parent_row": 2, "_pos_items": 0, "_pos": 0, "value": "p"},
        {"_parent_row": 2, "_pos_items": 0, "_pos": 1, "value": "q"},
    ]


def test_children_carry_the_key_that_is_named() -> None:
    made = decode(lines(ORDERS), flatten=True, key=("id",))
    assert list(made.types) == ["id", "who_name", "who_zip"]
    assert made.children["items"].rows[2] == {"id": 3, "_pos": 0, "sku": "z", "n": 3}


def test_rows_are_numbered_over_blocks_and_feeds() -> None:
    made = decode([feed(lines(ORDERS), "a.jsonl"), feed(parquet(ORDERS), "b.parquet")], flatten=True, block=64)
    assert [row["_row"] for row in made.rows] == [0, 1, 2, 3, 4, 5]
    assert [row["_parent_row"] for row in made.children["items"].rows] == [0, 0, 2, 3, 3, 5]


def test_a_key_that_is_not_there_is_told() -> None:
    with pytest.raises(UnknownName, match='There is no key column "ids"'):
        decode(lines(ORDERS), flatten=True, key=("ids",))


def test_a_type_that_turns_out_too_narrow_is_found_in_children_too() -> None:
    """The first block's integers are out already; the second pass types them as what the last block needs."""
    records = [{"id": i, "items": [{"n": i}]} for i in range(50)] + [{"id": 50, "items": [{"n": 0.5}]}]
    made = decode(lines(records), flatten=True, block=256)
    assert made.restarts == 1
    assert made.children["items"].types["n"] == "double"
    assert [row["n"] for row in made.children["items"].rows] == [*map(float, range(50)), 0.5]


def test_a_scalar_where_others_have_a_list_is_rejected_wherever_it_stands() -> None:
    """It cannot hide the lists of the whole batch as text, neither before nor after them."""
    odd = {"id": 9, "items": "none"}
    for records in ([odd, *ORDERS], [*ORDERS, odd]):
        made = decode(lines(records), flatten=True, block=64)
        assert len(made.children["items"].rows) == 3
        assert [(raw, error) for _, raw, error in made.rejected] == [
            (json.dumps(odd), 'items: "none" does not fit list<struct<sku:string,n:long,tags:list<string>>>')
        ]


def test_a_list_that_mixes_objects_and_plain_values_is_rejected() -> None:
    made = decode(lines([{"id": 1, "items": [{"sku": "x"}, 7]}, {"id": 2, "items": [{"sku": "y"}]}]), flatten=True)
    assert [row["id"] for row in made.rows] == [2]
    assert [error for _, _, error in made.rejected] == [
        "a list mixes plain values, objects and lists, so that it cannot become one table"
    ]


@pytest.mark.parametrize("name", ["quarantine", "input"])
def test_a_child_named_like_a_table_of_ours_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match=f'The list "{name}" would become a table "...__{name}"'):
        decode(lines([{"id": 1, name: [1]}]), flatten=True)


@pytest.mark.parametrize("options", [{"flatten": True}, {"jsonpaths": {"a": "$.b"}}])
def test_csv_has_nothing_to_take_apart(options: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as caught:
        decode("a,b\n1,2\n", "x.csv", **options)
    assert caught.value.what == "x.csv is CSV, whose rows are flat."
    assert caught.value.hint == f"leave {next(iter(options))} out"


# Tables that exist

PARENT = Schema.of({"id": "int", "who_name": "string", "who_zip": "string"})
ITEMS = Schema.of({"id": "int", "_pos": "long", "sku": "string", "n": "int"})
TAGS = Schema.of({"id": "int", "_pos_items": "long", "_pos": "long", "value": "string"})
TABLES = {"": PARENT, "items": ITEMS, "items__tags": TAGS}


def into(records: list[dict[str, Any]], rule: OnMisfit = OnMisfit.EVOLVE, **more: Any) -> Decodes:
    tables = more.pop("tables", TABLES)
    return decode(lines(records), flatten=True, key=("id",), tables=tables, contract=Contract(rule), **more)


@pytest.mark.parametrize("rule", list(OnMisfit))
def test_what_fits_is_taken_under_every_contract(rule: OnMisfit) -> None:
    """In the types of the tables."""
    made = into(ORDERS, rule)
    assert made.rejected == []
    assert made.types == {"id": "int", "who_name": "string", "who_zip": "string"}
    assert made.children["items"].types == {"id": "int", "_pos": "long", "sku": "string", "n": "int"}
    assert [row["value"] for row in made.children["items__tags"].rows] == ["p", "q"]


def test_a_misfit_in_a_child_takes_its_whole_record_to_the_quarantine() -> None:
    """With the line as it stood in the file, and where in the record it is wrong."""
    bad = '{"id":4,"who":{"name":"Cid"},"items":[{"sku":"ok","n":1},{"sku":"w","n":"many"}]}'
    made = decode(lines(ORDERS[:2]) + "\n" + bad + "\n" + lines(ORDERS[2:]), flatten=True, key=("id",), tables=TABLES)
    assert [row["id"] for row in made.rows] == [1, 2, 3]
    assert [row["sku"] for row in made.children["items"].rows] == ["x", "y", "z"]
    assert made.rejected == [(4, bad, 'items: n: "many" does not fit int')]
    assert made.files == ["feed.jsonl"]


def test_text_of_a_table_stays_as_it_is_written() -> None:
    """Nested dates and numbers are not typed first and written anew."""
    records = [{"id": 1, "who": {"name": "2013-01-01T05:00", "zip": "007"}, "items": [{"sku": "2013-01-01"}]}]
    made = into(records)
    assert made.rows == [{"id": 1, "who_name": "2013-01-01T05:00", "who_zip": "007"}]
    assert made.children["items"].rows[0]["sku"] == "2013-01-01"


def test_declared_decimals_keep_every_digit() -> None:
    columns = Schema((Column("price_amount", parse_type("decimal(20,2)")),))
    text = '{"price": {"amount": 12345678901234567.10}}\n{"price": {"amount": "0.30"}}\n'
    made = decode(text, flatten=True, contract=Contract(columns=columns))
    assert [str(row["price_amount"]) for row in made.rows] == ["12345678901234567.10", "0.30"]


def test_a_child_column_widens_as_iceberg_can() -> None:
    made = into([{"id": 1, "items": [{"sku": "x", "n": 2**40}]}])
    assert made.children["items"].types["n"] == "long"


def test_freeze_shows_the_difference_of_every_table() -> None:
    with pytest.raises(ContractError) as caught:
        into([{"id": 1, "new": 1, "items": [{"sku": "x", "n": 0.5, "more": [{"a": 1}]}]}], OnMisfit.FREEZE)
    assert caught.value.what.splitlines()[1:] == [
        "  + new long",
        "  items: ! n int, the data holds double (no widening in place leads there)",
        "  items__more: + id int",
        "  items__more: + _pos_items long",
        "  items__more: + _pos long",
        "  items__more: + a long",
    ]


def test_discard_columns_drops_columns_and_whole_children() -> None:
    made = into([{"id": 1, "new": 1, "items": [{"sku": "x", "more": [{"a": 1}]}]}], OnMisfit.DISCARD_COLUMNS)
    assert made.rows == [{"id": 1, "who_name": None, "who_zip": None}]
    assert list(made.children) == ["items"]


def test_discard_rows_rejects_records_with_something_new() -> None:
    records = [{"id": 1, "new": 1}, {"id": 2, "items": [{"more": [1]}]}, {"id": 3, "items": [{"sku": "x"}]}]
    made = into(records, OnMisfit.DISCARD_ROWS)
    assert [row["id"] for row in made.rows] == [3]
    assert [error for _, _, error in made.rejected] == [
        'unknown column "new"',
        'items__more: unknown column "id"',
    ]


# JSONPaths


def test_paths_make_the_columns_that_they_name() -> None:
    made = decode(lines(ORDERS), jsonpaths={"buyer": "$.who.name", "skus": "$.items[*].sku", "last": "$.items[-1].n"})
    assert made.types == {"buyer": "string", "skus": "list<string>", "last": "long"}
    assert made.rows == [
        {"buyer": "Ann", "skus": ["x", "y"], "last": 2},
        {"buyer": "Bob", "skus": [], "last": None},
        {"buyer": None, "skus": ["z"], "last": 3},
    ]


def test_paths_go_into_avro_and_parquet_too() -> None:
    made = decode(parquet(ORDERS), "x.parquet", jsonpaths={"buyer": "$.who.name"})
    assert [row["buyer"] for row in made.rows] == ["Ann", "Bob", None]


def test_mapped_columns_may_be_flattened() -> None:
    made = decode(lines(ORDERS), jsonpaths={"id": "$.id", "goods": "$.items"}, flatten=True, key=("id",))
    assert list(made.types) == ["id"]
    assert [row["sku"] for row in made.children["goods"].rows] == ["x", "y", "z"]


def test_a_mapped_value_that_does_not_fit_rejects_its_record() -> None:
    made = decode(lines(ORDERS), jsonpaths={"buyer": "$.who.name"}, tables={"": Schema.of({"buyer": "int"})})
    assert [line for line, _, _ in made.rejected] == [1, 2]
    assert made.rejected[0][1:] == (json.dumps(ORDERS[0]), 'buyer: "Ann" does not fit int')


def test_a_path_that_cannot_be_read_is_told_before_anything_is_read() -> None:
    with pytest.raises(DefinitionError, match=r"JSONPath \"\$\.\.x\" of column \"a\" cannot be read at position 2"):
        decode([], jsonpaths={"a": "$..x"})


# Whatever the records


SCALARS = st.none() | st.integers(-5, 5) | st.sampled_from(["a", "2026-01-01", "7"]) | st.booleans() | st.just(0.5)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(0, 9)},
        optional={
            "a": SCALARS,
            "s": st.none() | st.fixed_dictionaries({}, optional={"p": SCALARS, "q": SCALARS}),
            "l": st.none()
            | SCALARS
            | st.lists(
                st.fixed_dictionaries({}, optional={"x": SCALARS, "m": st.lists(SCALARS, max_size=2)}), max_size=3
            ),
        },
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=few(150), deadline=None)
@given(
    records=RECORDS,
    table=st.none() | st.fixed_dictionaries({"a": st.sampled_from(["long", "string", "date", "double"])}),
    rule=st.sampled_from([OnMisfit.EVOLVE, OnMisfit.DISCARD_COLUMNS, OnMisfit.DISCARD_ROWS]),
)
def test_every_record_is_in_one_place_wherever_blocks_are_cut(
    records: list[dict[str, Any]], table: dict[str, str] | None, rule: OnMisfit
) -> None:
    """Parent rows and rejected lines are the input; children belong to rows that are there; blocks do not show."""
    tables = None if table is None else {"": Schema.of({"_row": "long", "id": "long", **table})}
    whole = decode(lines(records), flatten=True, tables=tables, contract=Contract(rule))
    cut = decode(lines(records), flatten=True, tables=tables, contract=Contract(rule), block=48)
    assert len(whole.rows) + len(whole.rejected) == len(records)
    kept = {line for line, _, _ in whole.rejected}
    assert [row["id"] for row in whole.rows] == [r["id"] for i, r in enumerate(records, 1) if i not in kept]
    wanted = [
        (at, pos)
        for at, record in enumerate(r for i, r in enumerate(records, 1) if i not in kept)
        for pos in range(len(record["l"]) if isinstance(record.get("l"), list) else 0)
    ]
    if rule == OnMisfit.EVOLVE or tables is None:
        found = whole.children["l"].rows if "l" in whole.children else []
        elements = [each for r in records if isinstance(r.get("l"), list) for each in r["l"]]
        # Elements in which the whole batch holds only nulls make no table.
        if any(e.get("x") is not None or any(v is not None for v in e.get("m", [])) for e in elements):
            assert [(row["_parent_row"], row["_pos"]) for row in found] == wanted
    assert held(whole) == held(cut)
    # A number is shown as text where a later value of the block made text of its column.
    assert [(line, raw) for line, raw, _ in whole.rejected] == [(line, raw) for line, raw, _ in cut.rejected]
    assert {c: held(k) for c, k in whole.children.items()} == {c: held(k) for c, k in cut.children.items()}


def held(table: Decodes) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a table holds. A column that only rejected records had a value for may be there, all null, or not."""
    names = [n for n in table.types if any(row[n] is not None for row in table.rows)]
    return {n: table.types[n] for n in names}, [{n: row[n] for n in names} for row in table.rows]
