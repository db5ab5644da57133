"""Declaring pipelines: names, inputs, options, and errors that say where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.pipeline import Scope, SourceKind, tasks_of
from tidemill.model.table import TableName, WriteMode

HERE = Path(__file__).name


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


def test_a_feed_is_called_what_it_is_assigned_to() -> None:
    p = tm.Pipeline("p")
    departures = p.files("feeds/{{ ds }}.csv")
    assert departures.name == "departures"


def test_a_name_is_found_in_loops_functions_and_closures() -> None:
    made = {}

    def feed(name: str) -> tm.Pipeline:
        p = tm.Pipeline(name)
        orders = p.files("x.csv")

        def inner() -> str:
            return orders.name

        made[name] = inner()
        return p

    for name in ("a", "b"):
        feed(name)
    assert made == {"a": "orders", "b": "orders"}
    assert set(registry.collected()) == {"a", "b"}


def test_a_feed_without_a_name_asks_for_one() -> None:
    p = tm.Pipeline("p")
    with pytest.raises(DefinitionError, match="This feed has no name") as error:
        p.files("x.csv").preview()
    assert error.value.hint == 'assign it to a name, or pass name="departures"'
    with pytest.raises(DefinitionError, match="This feed has no name"):
        str(p.files("x.csv"))


def test_a_parameter_is_the_batch_of_the_table_of_its_name() -> None:
    p = tm.Pipeline("p")
    orders = p.files("x.csv")

    @p.table
    def clean(orders: Any, customers: Any = tm.whole("crm.customers"), orders_before: Any = tm.whole("orders")) -> Any:
        return orders

    inputs = p.spec().transforms["clean"].inputs
    assert [(i.parameter, i.table, i.scope) for i in inputs] == [
        ("orders", TableName("p", "orders"), Scope.BATCH),
        ("customers", TableName("crm", "customers"), Scope.WHOLE),
        ("orders_before", TableName("p", "orders"), Scope.WHOLE),
    ]
    assert orders.name == "orders"


def test_a_source_is_of_the_kind_that_its_parameters_say() -> None:
    p = tm.Pipeline("p")

    @p.source
    def by_interval(interval: Any) -> Iterator[dict[str, Any]]:
        yield {}

    @p.source
    def by_bookmark(bookmark: Any) -> Iterator[dict[str, Any]]:
        yield {}

    kinds = {name: s.kind for name, s in p.spec().sources.items()}
    assert kinds == {"by_interval": SourceKind.INTERVAL, "by_bookmark": SourceKind.BOOKMARK}


def test_checks_stand_between_a_table_and_what_reads_it() -> None:
    p = tm.Pipeline("p")
    orders = p.files("x.csv")
    orders.expect(tm.not_null("id"))

    @p.table
    def clean(orders: Any) -> Any:
        return orders

    tasks = {t.id: t.upstream for t in tasks_of(p.spec())}
    assert tasks == {
        "extract.orders": (),
        "load.orders": ("extract.orders",),
        "check.orders": ("load.orders",),
        "build.clean": ("check.orders",),
    }


def test_sql_models_declare_by_ref_batch_and_config(tmp_path: Path) -> None:
    p = tm.Pipeline("p")
    orders = p.files("x.csv")
    p.sql(
        text="""{{ config(materialized="incremental", key="id", write="upsert") }}
        select * from {{ batch("orders") }} join {{ ref("crm.customers") }} using (id)""",
        name="joined",
    )
    made = p.spec().transforms["joined"]
    assert made.table.write is WriteMode.UPSERT
    assert made.table.key == ("id",)
    assert [(i.table, i.scope) for i in made.inputs] == [
        (TableName("p", "orders"), Scope.BATCH),
        (TableName("crm", "customers"), Scope.WHOLE),
    ]
    assert orders.name == "orders"


def test_a_misspelt_input_is_told_with_the_line_of_the_function() -> None:
    p = tm.Pipeline("p")
    orders = p.files("x.csv")

    @p.table
    def clean(order: Any) -> Any:
        return order

    with pytest.raises(UnknownName) as error:
        p.spec()
    assert error.value.what == 'There is no table "order".'
    assert error.value.hint == 'did you mean "orders"?'
    assert error.value.where is not None
    assert HERE in error.value.where
    assert orders.name == "orders"


def test_tables_that_read_each_other_are_a_circle() -> None:
    p = tm.Pipeline("p")

    @p.table
    def a(b: Any) -> Any:
        return b

    @p.table
    def b(a: Any) -> Any:
        return a

    with pytest.raises(DefinitionError) as error:
        p.spec()
    assert error.value.what == 'Tables of pipeline "p" read each other in a circle: a -> b -> a.'


def test_an_unknown_format_is_told_before_there_is_a_file() -> None:
    with pytest.raises(UnknownName, match='There is no format "json"') as error:
        tm.Pipeline("p").files("in/*", name="rows", format="json")
    assert "test_authoring.py:" in str(error.value.where)
    assert error.value.hint == 'did you mean "jsonl"?'


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({"writ": "upsert"}, 'There is no option "writ".', 'did you mean "write"?'),
        ({"write": "merge"}, 'There is no write mode "merge".', "known: append, history, replace, upsert"),
        ({"write": "upsert"}, 'Table "p.t" is written by upsert and has no key.', None),
        ({"partition": "daily(x)"}, '"daily(x)" is no partition transform.', None),
        ({"contract": "frozen"}, 'There is no contract mode "frozen".', 'did you mean "freeze"?'),
        ({"max_rejected": -1}, "max_rejected=-1 is no limit.", "a count such as 100, or a share such as 0.01"),
        ({"columns": {"a": "lang"}}, '"lang" is not a column type.', None),
        ({"engine": "spark"}, 'There is no engine "spark".', None),
    ],
)
def test_a_wrong_option_says_what_is_wrong_and_where(options: dict[str, Any], what: str, hint: str | None) -> None:
    p = tm.Pipeline("p")
    with pytest.raises(DefinitionError if "There is" not in what else UnknownName) as error:

        @p.table(name="t", **options)
        def clean(orders: Any) -> Any:
            return orders

    assert error.value.what == what
    if hint:
        assert error.value.hint == hint


def test_two_tables_of_one_name_are_an_error_in_a_file() -> None:
    p = tm.Pipeline("p")
    orders = p.files("x.csv")
    with pytest.raises(DefinitionError, match='Pipeline "p" has two tables named "orders"'):
        p.files("y.csv", name="orders")
    assert orders.name == "orders"


def test_defining_a_name_again_in_a_notebook_replaces_it() -> None:
    cell = "import tidemill as tm\np = tm.Pipeline('p')\norders = p.files('a.csv')\np.files('b.csv', name='orders')"
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(cell, "<ipython-input-1>", "exec"), names)
    exec(compile(cell, "<ipython-input-2>", "exec"), names)
    assert names["p"].spec().sources["orders"].origin.pattern == "b.csv"
