"""`sources.sql` and `sources.sql_tables`: what is declared, and the mistakes that are told at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import tidemill as tm
from tidemill import sources
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.pipeline import SourceKind


def test_a_table_is_an_interval_source_and_with_a_cursor_a_bookmark_source() -> None:
    whole = sources.sql("shop_db", "public.orders")
    growing = sources.sql("shop_db", "public.orders", cursor="updated_at", lag="5m")
    assert (whole.called, whole.kind, whole.keeps_files) == ("orders", SourceKind.INTERVAL, True)
    assert (growing.kind, growing.lag) == (SourceKind.BOOKMARK, timedelta(minutes=5))
    assert str(growing) == "shop_db public.orders"


@pytest.mark.parametrize(("table", "called"), [("a.b.c", "c"), ("My Orders!", "My_Orders_"), ("2026", "_2026")])
def test_a_source_is_called_as_its_table(table: str, called: str) -> None:
    assert sources.sql("shop_db", table).called == called


def test_a_pipeline_takes_it_and_its_place_is_told() -> None:
    shop = tm.Pipeline("databases_unit")
    shop.source(sources.sql("shop_db", "public.orders", cursor="id"), on_failure="absorb")
    shop.source(sources.sql("shop_db", query="select 1 as a", name="one"))
    with pytest.raises(DefinitionError, match="kept as they come"):
        shop.source(sources.sql("shop_db", "items"), archive="avro")
    spec = shop.spec()
    assert list(spec.sources) == ["orders", "one"]
    assert spec.sources["orders"].place.rpartition(":")[0].endswith("test_authoring_databases.py")


def test_an_address_shows_no_secret() -> None:
    source = sources.sql("postgresql://me:hunter2@host:5432/shop?password=hunter2", "orders")
    assert str(source) == "postgresql://host:5432/shop orders"
    assert "hunter2" not in repr(source)


MISTAKES: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    (("shop_db",), {}, "either a table or a query"),
    (("shop_db", "orders"), {"query": "select 1"}, "either a table or a query"),
    (("shop db", "orders"), {}, "cannot name a connection"),
    (("postgresql://host:port/db", "orders"), {}, "no number"),
    (("shop_db", "a..b"), {}, "cannot name a table"),
    (("shop_db",), {"query": " "}, "empty"),
    (("shop_db", "orders"), {"columns": "id"}, "no list"),
    (("shop_db", "orders"), {"lag": "5m"}, "needs a cursor"),
    (("shop_db", "orders"), {"max_rows": 5}, "needs a cursor"),
    (("shop_db", "orders"), {"cursor": "a", "lag": "5 moons"}, "not a duration"),
    (("shop_db", "orders"), {"cursor": "a", "lag": -1}, "negative"),
    (("shop_db", "orders"), {"parallel": 0}, "above zero"),
    (("shop_db", "orders"), {"parallel": 1000}, "all connections"),
    (("shop_db", "orders"), {"chunk_rows": True}, "above zero"),
]


@pytest.mark.parametrize(("given", "options", "said"), MISTAKES)
def test_mistakes_are_told_with_their_place(given: Any, options: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as error:
        sources.sql(*given, **options)
    assert "test_authoring_databases.py" in str(error.value.where)


TABLES = ["public.orders", "public.items", "audit.orders_log", "audit.events"]


def test_several_tables_are_a_source_each() -> None:
    found = sources.sql_tables(
        "shop_db", TABLES, include=["public.*", "events"], cursor={"orders": "updated_at", "audit.*": "id"}, parallel=2,
        max_rows=9, key={"items": "id"},
    )  # fmt: skip
    assert [(one.table, one.cursor, one.max_rows, one.key, one.parallel) for one in found] == [
        ("public.orders", "updated_at", 9, None, 2),
        ("public.items", None, None, "id", 2),
        ("audit.events", "id", 9, None, 2),
    ]
    assert [one.called for one in sources.sql_tables("shop_db", TABLES, exclude=["audit.*", "items"])] == ["orders"]


@pytest.mark.parametrize(
    ("tables", "options", "said"),
    [
        (["public.*"], {}, "is a pattern"),
        (TABLES, {"include": ["sales.*"]}, "no table fits"),
        (TABLES, {"cursor": {"ordres": "id"}}, "no table fits"),
        (TABLES, {"exclude": ["*"]}, "No table is chosen"),
        (TABLES, {"include": "public.*"}, "no list"),
        (["a.orders", "b.orders"], {}, "would both be called"),
        ([], {"include": []}, "No table is chosen"),
    ],
)
def test_mistakes_in_several_tables_are_told(tables: Any, options: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        sources.sql_tables("shop_db", tables, **options)


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(UnknownName, match="where"):
        sources.sql_tables("shop_db", TABLES, where="1 = 1")
