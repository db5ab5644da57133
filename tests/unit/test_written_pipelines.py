"""Pipelines in YAML: what can be declared, and the exact words for what cannot."""

from __future__ import annotations

import textwrap

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill import sources
from tidemill.adapters.yaml.documents import YamlDocuments
from tidemill.authoring import deliveries, registry, rest
from tidemill.authoring.kinds import _DELIVERED, _MORE, CHECKS, MADE, PARTS, SECTIONS, SOURCES, Kind, arguments_of
from tidemill.authoring.pipeline import Pipeline
from tidemill.authoring.written import pipeline_of
from tidemill.authoring.written_schema import schema
from tidemill.model.databases import DatabaseSource
from tidemill.model.document import as_written
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.rest import Rest


def document(text: str):  # type: ignore[no-untyped-def]
    return YamlDocuments().read(textwrap.dedent(text), "pipelines/shop.yaml")


def made(text: str) -> Pipeline:
    registry.clear()
    return pipeline_of(document(text))


EVERYTHING = """\
pipeline: shop
schedule: "@daily"
start: 2026-01-01
params: {region: eu}
retries: 2
sources:
  feed:
    files: in/{{ ds }}.csv
    csv: {delimiter: ";"}
  partner:
    files: {pattern: "in/*.csv", connection: partner, new: true, complete_after: 1m}
    contract: freeze
  customers:
    sql: {connection: shop_db, table: public.customers, cursor: updated_at, lag: 5m, max_rows: 1000}
    policy: {email: hash, ssn: drop}
    columns: {id: long}
    checks:
      - not_null: [id, email]
      - between: {column: id, minimum: 1, severity: warn}
  several:
    sql_tables: {connection: shop_db, tables: [orders, items], exclude: [items]}
  events:
    rest:
      url: /events
      connection: shop_api
      params: {since: "{{ bookmark }}", page_size: 100}
      records: $.data[*]
      paginate: {by_cursor: {path: $.next}}
      auth: {bearer: shop_api}
      cursor: $.id
      details: {url: "/events/{id}", parallel: 2}
      rate: 5/s
    on_failure: absorb
  links:
    rest: {url: "https://host.example/x", paginate: by_link}
  graph:
    graphql: {url: "https://host.example/graphql", query: "{ x { y } }", records: $.data.x, retries: 1}
  prices:
    html_table: {url: "https://host.example/prices", match: price}
  posted:
    webhook:
tables:
  all_customers:
    from: customers
    key: id
    write: upsert
  revenue:
    sql: select 1 as country, 2 as n from {{ ref("all_customers") }}
    checks:
      - unique: country
      - row_count: 1
      - in_set: {column: country, values: [1, 2]}
      - expect: {condition: n > 0, mostly: 0.9}
"""


def test_all_that_a_pipeline_has_can_be_written() -> None:
    spec = made(EVERYTHING).spec()
    assert set(spec.sources) == {
        "feed", "partner", "customers", "orders", "events", "links", "graph", "prices", "posted",
    }  # fmt: skip
    customers = spec.sources["customers"]
    assert isinstance(customers.origin, DatabaseSource)
    assert (customers.origin.cursor, customers.origin.max_rows) == ("updated_at", 1000)
    assert {name: str(p) for name, p in customers.table.policies.items()} == {"email": "hash(hash-salt)", "ssn": "drop"}
    events = spec.sources["events"].origin
    assert isinstance(events, Rest)
    assert (events.auth, events.paginate) == (sources.bearer("shop_api"), sources.by_cursor("$.next"))
    assert events.details == sources.details("/events/{id}", parallel=2)
    assert spec.sources["events"].place == "pipelines/shop.yaml:23"
    assert {name: [type(c).__name__ for c in checks] for name, checks in spec.checks.items()} == {
        "customers": ["NotNullExpectation", "BetweenExpectation"],
        "revenue": ["UniqueExpectation", "FigureExpectation", "InSetExpectation", "ConditionExpectation"],
    }
    assert [check.severity.value for check in spec.checks["customers"]] == ["error", "warn"]
    assert spec.checks["revenue"][3].mostly == 0.9
    assert spec.transforms["all_customers"].table.key == ("id",)
    assert spec.params == {"region": "eu"}


def test_a_written_pipeline_is_the_same_as_one_in_python() -> None:
    written = made("pipeline: shop\nschedule: '@daily'\nsources: {t: {sql: {connection: db, table: t, parallel: 2}}}")
    registry.clear()
    coded = Pipeline("shop", "@daily")
    coded.source(sources.sql("db", "t", parallel=2), name="t")
    one, other = written.spec().sources["t"], coded.spec().sources["t"]
    assert (one.table, one.kind, one.decode) == (other.table, other.kind, other.decode)
    assert isinstance(one.origin, DatabaseSource)
    assert isinstance(other.origin, DatabaseSource)
    assert (one.origin.table, one.origin.parallel) == (other.origin.table, other.origin.parallel)


def test_a_section_of_calls_is_one_line_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def send(self: Pipeline, table: str, to: str, *, mode: str = "append") -> None:
        called.append((self.name, table, to, mode))

    monkeypatch.setattr(Pipeline, "send", send, raising=False)
    monkeypatch.setitem(SECTIONS, "send", Kind("tidemill.authoring.pipeline:Pipeline.send", "table", ("self",)))
    text = "pipeline: shop\nsend:\n  - {table: orders, to: warehouse}\n  - {table: items, to: lake, mode: replace}"
    made(text)
    assert called == [("shop", "orders", "warehouse", "append"), ("shop", "items", "lake", "replace")]
    assert not list(jsonschema.Draft202012Validator(schema()).iter_errors(document(text).plain()))
    with pytest.raises(TidemillError, match='argument of "send"') as caught:
        made(text.replace("to: lake", "too: lake"))
    assert caught.value.where == "pipelines/shop.yaml:4:20"


def test_deliveries_are_those_of_the_method() -> None:
    """One table or several, what they are called there, and the options of files."""
    text = """
        pipeline: shop
        sources:
          orders: {files: in/*.csv}
          items: {files: in/*.json}
        deliver:
          - {tables: [orders, items], to: warehouse}
          - tables: orders
            to: exports
            table: public.booked
            format: csv
            partition: [day(at), country]
          - {tables: items, to: cluster, distkey: id, sortkey: [day, id], encode: {note: zstd}}
          - {tables: items, to: other, diststyle: even}
        """
    registry.clear()
    python = Pipeline("shop")
    python.files("in/*.csv", name="orders")
    python.files("in/*.json", name="items")
    python.deliver("orders", "items", to="warehouse")
    python.deliver("orders", to="exports", table="public.booked", format="csv", partition=["day(at)", "country"])
    python.deliver("items", to="cluster", distkey="id", sortkey=["day", "id"], encode={"note": "zstd"})
    python.deliver("items", to="other", diststyle="even")
    expected = [(one.to, one.tables) for one in python.spec().deliveries]
    assert [(one.to, one.tables) for one in made(text).spec().deliveries] == expected
    assert not list(jsonschema.Draft202012Validator(schema()).iter_errors(document(text).plain()))


def test_options_that_a_signature_takes_as_a_whole_are_known_here_too() -> None:
    assert set(_DELIVERED) == set(deliveries._OPTIONS)
    assert set(_MORE["graphql"]) == set(rest._COMMON)


_SHOP = "pipeline: shop\nsources: {orders: {files: x.csv}}\n"
GOLDEN = {
    _SHOP + "deliver:\n  - {tables: [orders, ordrs], to: there}": (
        'There is no table "ordrs".', "4:23", 'did you mean "orders"?'
    ),
    _SHOP + "deliver:\n  - {tables: orders, too: there}": (
        'There is no argument of "deliver" "too".', "4:22", 'did you mean "to"?'
    ),
    _SHOP + "deliver:\n  - {to: there}": ('"deliver" needs "tables".', "4:5", "tables: ..."),
    _SHOP + "deliver:\n  - {tables: [{a: b}], to: there}": ('"tables" is a mapping, and must be a text.', "4:15", None),
    _SHOP + "deliver:\n  - {tables: orders, to: there, format: [csv]}": (
        '"format" is a list, and must be a text.', "4:41", None
    ),
    _SHOP + "deliver:\n  - {tables: orders, to: there, encode: zstd}": (
        '"encode" is a text, and must be a mapping.', "4:41", None
    ),
    _SHOP + "deliver:\n  - {tables: orders, to: there, diststyle: evn}": (
        'There is no distribution style "evn".', "4:44", 'did you mean "even"?'
    ),
    _SHOP + "deliver: {tables: orders, to: there}": ('"deliver" is a mapping, and must be a list.', "3:10", None),
    "pipelin: shop": (
        'There is no setting of a pipeline "pipelin".', "1:1", 'did you mean "pipeline"?'
    ),
    "schedule: x": ("The pipeline has no name.", "1:1", "pipeline: shop"),
    "pipeline: shop\nretries: many": ('"retries" is a text, and must be a number.', "2:10", None),
    "pipeline: shop\nschedule: '@dayly'": (
        'There is no schedule "@dayly".', "2:11", None,
    ),
    "pipeline: shop\nsources:\n  t:\n    fils: x.csv": (
        'There is no setting of a source "fils".', "4:5", 'did you mean "files"?'
    ),
    "pipeline: shop\nsources:\n  t: {doc: x}": (
        'Source "t" does not say where it comes from.', "3:6",
        "one of: files, sql, sql_tables, rest, graphql, html_table, webhook, cdc, singer, dlt, topic",
    ),
    "pipeline: shop\nsources:\n  t: {files: a.csv, webhook: }": (
        'Source "t" has 2 kinds: files, webhook.', "3:6",
        "one of: files, sql, sql_tables, rest, graphql, html_table, webhook, cdc, singer, dlt, topic",
    ),
    "pipeline: shop\nsources:\n  t:\n    sql: {connection: db, tabel: t}": (
        'There is no argument of "sql" "tabel".', "4:27", 'did you mean "table"?'
    ),
    "pipeline: shop\nsources:\n  t:\n    sql: {table: t}": ('"sql" needs "connection".', "4:10", "connection: ..."),
    "pipeline: shop\nsources:\n  t:\n    sql: db": ('"sql" is a text.', "4:10", "sql: {connection: ...}"),
    "pipeline: shop\nsources:\n  t:\n    sql: {connection: db, table: t, parallel: two}": (
        '"parallel" is a text, and must be a number.', "4:47", None
    ),
    "pipeline: shop\nsources:\n  t:\n    sql: {connection: db, table: t, lag: 5m}": (
        "lag='5m' needs a cursor.", "4:42", 'cursor: "updated_at"'
    ),
    "pipeline: shop\nsources:\n  t:\n    sql: {connection: db}": (
        "A source reads either a table or a query.", "4:10",
        'beside the connection table: "public.orders", or query: "select ..." and a name',
    ),
    "pipeline: shop\nsources:\n  t:\n    rest: {url: 'https://h/x', auth: {bearr: x}}": (
        'There is no way of auth "bearr".', "4:39", 'did you mean "bearer"?'
    ),
    "pipeline: shop\nsources:\n  t: {files: a.csv, policy: {email: hsh}}": (
        'There is no policy "hsh".', "3:37", 'did you mean "hash"?'
    ),
    "pipeline: shop\nsources:\n  t: {files: a.csv, checks: [{not_nul: id}]}": (
        'There is no check "not_nul".', "3:31", 'did you mean "not_null"?'
    ),
    "pipeline: shop\nsources:\n  t: {files: a.csv, checks: [{expect: 'a >'}]}": (
        "The condition cannot be read: ", "3:39", None
    ),
    "pipeline: shop\ntables:\n  t: {key: id}": ('Table "t" is made either by sql or from a table.', "3:6", None),
    "pipeline: shop\ntables:\n  t: {sql: models/none.sql}": ('There is no SQL file "models/none.sql".', "3:12", ""),
    "pipeline: shop\ntables:\n  t: {from: x, write: upset, key: id}": (
        'There is no write mode "upset".', "3:23", 'did you mean "upsert"?'
    ),
    "pipeline: shop\npipeline: mill": ('"pipeline" stands here twice.', "2:1", "also at pipelines/shop.yaml:1:1"),
    "pipeline: shop\n  x: [": ("This is no YAML: ", "2:4", None),
    "pipeline: !!python/object/apply:os.system [ls]": ("A value has the tag ", "1:11", None),
    "pipeline: shop\nx: 'y\nz: 1": ("This is no YAML: while scanning a quoted scalar, found ", "2:4", None),
    "- a": ("A pipeline is a list, and must be a mapping.", "1:1", 'pipeline: shop, and below it schedule: "@daily"'),
    "": ("The file is empty.", "", "pipeline: shop"),
}  # fmt: skip


@pytest.mark.parametrize("text", GOLDEN)
def test_what_is_wrong_is_told_with_its_place_and_the_nearest_name(text: str) -> None:
    what, place, hint = GOLDEN[text]
    with pytest.raises(TidemillError) as caught:
        made(text)
    assert caught.value.what.startswith(what)
    assert caught.value.where == ("pipelines/shop.yaml" + (f":{place}" if place else ""))
    if hint:
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("hint", "written"),
    [
        ("new=True, or parallel=1", "new: true, or parallel: 1"),
        ('columns={"id": "long"}; key=["a", "b"]', 'columns: {"id": "long"}; key: ["a", "b"]'),
        ("another slot=, or select= and prefix=", "another slot, or select and prefix"),
        ("TIDEMILL_CONN_X=https://host?a=b&http=true, --at=1", "TIDEMILL_CONN_X=https://host?a=b&http=true, --at=1"),
    ],
)
def test_hints_for_code_are_told_as_a_document_has_them(hint: str, written: str) -> None:
    assert as_written(hint) == written


def test_values_are_what_people_mean() -> None:
    text = "a: on\nb: 012\nc: 2026-01-01\nd: 1.5\ne: 7\nf: true\ng: ~\nh: '7'\ni: yes\nj: 1:30\nk: |\n  x\nl: -3\n"
    assert document(text).plain() == {
        "a": "on", "b": "012", "c": "2026-01-01", "d": 1.5, "e": 7, "f": True, "g": None, "h": "7", "i": "yes",
        "j": "1:30", "k": "x\n", "l": -3,
    }  # fmt: skip


def test_aliases_do_not_multiply_without_end() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
    )
    with pytest.raises(DefinitionError, match="too large"):
        document(bomb)


@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_an_answer_or_one_error(text: str) -> None:
    places = []
    try:
        YamlDocuments().read(text, "x.yaml").plain()
    except DefinitionError as error:
        places = [error.where]
    assert None not in places


def test_the_schema_for_editors_takes_what_is_right_and_refuses_what_is_not() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    jsonschema.Draft202012Validator.check_schema(schema())
    assert list(validator.iter_errors(document(EVERYTHING).plain())) == []
    for wrong in ("pipelin: shop", "pipeline: shop\nsources: {t: {fils: x}}", "pipeline: shop\nretries: many"):
        assert list(validator.iter_errors(document(wrong).plain()))


def test_every_kind_has_a_function_and_arguments() -> None:
    for name, kind in {**SOURCES, **PARTS, **CHECKS}.items():
        assert not kind.first or kind.first in arguments_of(name, kind), name
    files_of_others = {"meltano"}  # what makes pipelines of another tool's file has no place in a file
    # Codecs are described as for streams: by the classes of `tidemill.model.codec`.
    parts = set(PARTS) - set(MADE["codec"])
    assert set(SOURCES) - {"files"} | parts == set(sources.__all__) - files_of_others
