"""What Singer's catalogs and messages say: types, selection, keys, metrics."""

from __future__ import annotations

import json

import pytest

from harness.taps import entry
from tidemill.authoring.singer import singer
from tidemill.model.errors import DefinitionError, TidemillError, UnknownName
from tidemill.plan.singer import chosen, columns_of, metric_of, read_rules, streams_of, table_name, type_of


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer"}, "long"),
        ({"type": ["null", "integer"]}, "long"),
        ({"type": "integer", "minimum": 0, "maximum": 10**20}, "decimal(38,0)"),
        ({"type": "number"}, "double"),
        ({"type": ["number", "null"], "multipleOf": 0.01}, "decimal(38,2)"),
        ({"type": "number", "multipleOf": 1e-9}, "decimal(38,9)"),
        ({"type": "number", "multipleOf": 0.5}, "double"),
        ({"type": ["integer", "number"]}, "double"),
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "timestamptz"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "time"}, "time"),
        ({"type": "string", "format": "email"}, "string"),
        ({"type": "string", "format": "singer.decimal", "precision": 12, "scale": 4}, "decimal(12,4)"),
        ({"type": "string", "format": "singer.decimal"}, "None"),
        ({"anyOf": [{"type": "string", "format": "date-time"}, {"type": ["string", "null"]}]}, "string"),
        ({"oneOf": [{"type": "boolean"}, {"type": "null"}]}, "boolean"),
        ({"type": ["string", "integer"]}, "None"),
        ({"type": "object"}, "string"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, "None"),
        ({"type": "array", "items": {"type": "string"}}, "None"),
        ({"type": "null"}, "None"),
        ({}, "None"),
        (True, "None"),
    ],
)
def test_types_of_columns(schema, kind):
    """JSON Schema's types as those of tables; None where the values decide."""
    assert str(type_of(schema)) == kind


def test_schemas_of_a_run_are_joined():
    """Later ones widen and add; what is no schema says nothing."""
    lines = [
        {"type": "SCHEMA", "schema": {"properties": {"id": {"type": "integer"}, "at": {"type": "string"}}}},
        {"type": "SCHEMA", "schema": {"properties": {"id": {"type": "number"}, "ID": {}, "new": {"type": "boolean"}}}},
        {"type": "SCHEMA", "schema": None},
    ]
    found = columns_of([*(json.dumps(line).encode() for line in lines), b"{"])
    assert [str(column) for column in found] == ["id double", "at string", "new boolean"]


@pytest.mark.parametrize(
    ("select", "known", "streams"),
    [
        (["orders.*", "items"], None, ("orders", "items")),
        ([r"public\.orders.id"], None, ("public.orders",)),
        (["*.*", "!visits.*", "!orders.note"], ("orders", "visits", "items"), ("orders", "items")),
        (["o*.id"], ("orders", "offers", "items"), ("orders", "offers")),
        ([], ("orders",), ("orders",)),
    ],
)
def test_streams_that_rules_choose(select, known, streams):
    """In the order in which they are chosen."""
    assert streams_of(read_rules(select), known) == streams


@pytest.mark.parametrize(
    ("select", "known", "says"),
    [
        (["*.*"], None, "is a pattern"),
        (["ordres"], ("orders",), 'no stream "ordres"'),
        (["orders", "!orders"], ("orders",), "no stream is chosen"),
        ([".id"], None, "names no stream"),
    ],
)
def test_rules_that_choose_nothing(select, known, says):
    """Each is told before anything runs."""
    with pytest.raises(TidemillError, match=says):
        streams_of(read_rules(select), known)


def test_a_catalog_with_fields_chosen():
    """Fields left out are; keys, automatic fields and replication keys are not; what is unsupported never comes."""
    catalog = {"streams": [entry("orders", ["id", "note", "at", "blob"]), entry("visits")]}
    catalog["streams"][0]["metadata"][4]["metadata"]["inclusion"] = "unsupported"
    own = {"orders": {"replication-method": "INCREMENTAL", "replication-key": "at"}}
    made = chosen(catalog, read_rules(["orders.*", "!orders.*t*", "!orders.id"]), ["orders"], own, "x")
    marks = {tuple(one["breadcrumb"]): one["metadata"] for one in made["streams"][0]["metadata"]}
    assert marks[()] == {"inclusion": "available", "selected": True, **own["orders"]}
    assert {at[1]: mark["selected"] for at, mark in marks.items() if at} == {
        "id": True, "note": False, "at": True, "blob": False,
    }  # fmt: skip
    assert made["streams"][1]["metadata"][0]["metadata"]["selected"] is False
    with pytest.raises(UnknownName, match='no stream "items"'):
        chosen(catalog, (), ["items"], {}, "x")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('INFO METRIC: {"type": "counter", "metric": "record_count", "value": 100, "tags": {"stream": "orders"}}',
         "record_count 100 stream=orders"),
        ('time=x level=INFO message=METRIC: {"type": "timer", "metric": "http", "value": 0.25, "tags": {}}',
         "http 0.25 s"),
        ('INFO METRIC: {"type": "counter"}', "None"),
        ("INFO METRIC: {broken}", "None"),
        ("a METRIC of some kind", "None"),
    ],
)  # fmt: skip
def test_metrics(line, shown):
    """Counters and timers in a tap's log; what only looks like one is a line like any other."""
    assert str(metric_of(line)) == shown


@pytest.mark.parametrize(("stream", "name"), [("public-orders", "public_orders"), ("2024", "t_2024"), ("ä", "stream")])
def test_names_of_tables(stream, name):
    """A stream's name as far as it can name a table."""
    assert table_name(stream) == name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tap": "tap-shop"}, "Which streams does the tap have"),
        ({"tap": "tap-shop", "select": "orders"}, "is no list"),
        ({"tap": [], "select": ["a"]}, "names no tap"),
        ({"tap": "git+https://user:word@host/x", "select": ["a"]}, "does not say what its program is called"),
        ({"tap": "tap-shop", "select": ["a"], "key": {"b": "id"}}, 'no stream fits "b"'),
        ({"tap": "tap-shop", "select": ["a"], "write": "upsert"}, 'Stream "a" has no key'),
        ({"tap": "tap-shop", "select": ["a"], "write": "insert"}, 'no write mode "insert"'),
        ({"tap": "tap-shop", "select": ["a-b", "a_b"]}, 'would both be called "a_b"'),
        ({"tap": "tap-shop", "select": ["a"], "catalog": "none.json"}, "There is no catalog"),
        ({"tap": "tap-shop", "select": ["a"], "most_refused": -1}, "is no number"),
        ({"tap": "tap-shop", "select": ["a"], "quiet_after": "soon"}, "quiet_after"),
    ],
)
def test_wrong_declarations(options, says):
    """Each is told where it stands, and no secret of an address is shown."""
    with pytest.raises(TidemillError, match=says) as caught:
        singer(**options)
    assert "word" not in str(caught.value)
    assert __file__ in str(caught.value.where)


def test_a_declaration():
    """Packages, program, write modes."""
    with pytest.raises(DefinitionError):
        singer("tap-shop", select=[])
    found = singer("Tap_Shop[x]==1.2", select=["a.*", "b"], key={"a": ["x", "y"]}, write={"b": "replace"}, prefix="s_")
    assert [(one.called, one.write, one.key) for one in found] == [
        ("s_a", "upsert", ("x", "y")),
        ("s_b", "replace", ()),
    ]
    assert found[0].tap.program == "tap_shop"
    assert found[0].tap.packages == ("Tap_Shop[x]==1.2",)
