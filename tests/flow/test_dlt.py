"""Resources of dlt as feeds: the real package, with its state as the bookmark and no pipeline of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dlt
import pandas as pd
import pyarrow as pa
import pytest

from harness.project import Project
from tidemill import sources
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.run import RunState


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)  # where dlt looks for settings
    made = Project(tmp_path / "project")
    yield made
    made.close()


def run(project: Project, day: int, source: Any, make: dict[str, Any] | None = None, **options: Any) -> Any:
    p = project.pipeline()
    for each in sources.dlt(source, **(make or {})):
        p.source(each, **options)
    return project.run(p, f"2026-01-0{day}")


def bookmark(project: Project, feed: str) -> Any:
    with project.services.metadata.read() as tx:
        return tx.bookmarks.get("shop", feed).value


def test_incremental_state_is_the_bookmark_and_moves_with_the_publish_only(project: Project) -> None:
    rows = [{"id": n, "at": datetime(2026, 1, n, tzinfo=UTC), "total": "1.5"} for n in (1, 2)]
    asked: list[Any] = []

    @dlt.resource(primary_key="id", write_disposition="merge")
    def orders(at: Any = dlt.sources.incremental("at", initial_value=datetime(2025, 1, 1, tzinfo=UTC))) -> Any:  # noqa: B008 - dlt's way
        asked.append(at.last_value)
        yield [row for row in rows if row["at"] >= at.last_value]

    assert run(project, 1, orders).ok
    assert project.table("shop.orders") == [
        (1, datetime(2026, 1, 1, tzinfo=UTC), "1.5"),
        (2, datetime(2026, 1, 2, tzinfo=UTC), "1.5"),
    ]
    rows += [
        {"id": 2, "at": datetime(2026, 1, 3, tzinfo=UTC), "total": "2"},
        {"id": "x", "at": datetime(2026, 1, 4, tzinfo=UTC), "total": "3"},
    ]
    before = bookmark(project, "orders")
    assert run(project, 2, orders, max_rejected=0).state is RunState.FAILED
    assert bookmark(project, "orders") == before
    assert run(project, 2, orders).ok  # what is archived, with another contract: nobody is asked
    assert asked == [datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]
    assert [(one[0], one[2]) for one in project.table("shop.orders")] == [(1, "1.5"), (2, "2")]
    assert project.rows("select raw from shop.orders__quarantine")[0]["raw"].startswith('{"id":"x"')
    assert run(project, 3, orders).ok
    assert asked[2:] == [datetime(2026, 1, 4, tzinfo=UTC)]
    assert run(project, 1, orders).ok
    assert len(asked) == 3, "a batch that runs again asks nobody"
    assert [(one[0], one[2]) for one in project.table("shop.orders")] == [(1, "1.5"), (2, "2")]


def test_each_resource_of_a_source_is_a_feed_with_a_state_of_its_own(project: Project) -> None:
    @dlt.source
    def shop(first: int = 0) -> Any:
        @dlt.resource(
            write_disposition="replace", columns={"price": {"data_type": "decimal", "precision": 10, "scale": 2}}
        )
        def items() -> Any:
            state = dlt.current.resource_state()
            state["runs"] = state.get("runs", first) + 1
            yield {"id": state["runs"], "price": "1.5"}

        @dlt.transformer(data_from=items)
        def doubled(item: Any) -> Any:
            yield {"double": item["id"] * 2}

        @dlt.resource(selected=False)
        def hidden() -> Any:
            yield {"id": 1}

        return items, doubled, hidden

    for day in (1, 2):
        assert run(project, day, shop, {"args": {"first": 10}, "prefix": "raw_"}).ok
    assert project.rows("select id, price from shop.raw_items") == [{"id": 12, "price": Decimal("1.50")}]
    assert project.table("shop.raw_doubled") == [(22,), (24,)]
    assert project.tables() == {"shop.raw_items", "shop.raw_doubled"}
    assert [feed.name for feed in sources.dlt(shop(), select=["hidden"])] == ["hidden"]


def test_tables_are_archived_as_parquet_with_their_types(project: Project) -> None:
    table = pa.table({"day": [date(2026, 1, 1)], "price": pa.array([Decimal("1.50")], pa.decimal128(12, 2))})

    def rows() -> Any:
        yield table
        yield table.to_batches()[0]
        yield pd.DataFrame({"day": [date(2026, 1, 2)], "n": [7]})
        yield {"day": "2026-01-03", "n": 8}

    assert run(project, 1, dlt.resource(rows, name="prices")).ok
    names = [path.name for path in sorted((project.root / ".tidemill/archive").rglob("a1-*"))]
    assert [name.partition("-")[2].partition("-")[2] for name in names] == [
        "tables-0000.parquet", "tables-0000.parquet", "records.jsonl.zst",
    ]  # fmt: skip
    assert sorted(project.rows("select * from shop.prices"), key=repr) == [
        {"day": date(2026, 1, 1), "price": Decimal("1.50"), "n": None},
        {"day": date(2026, 1, 1), "price": Decimal("1.50"), "n": None},
        {"day": date(2026, 1, 2), "price": None, "n": 7},
        {"day": date(2026, 1, 3), "price": None, "n": 8},
    ]  # fmt: skip


def test_a_resource_that_fails_fails_the_task_and_leaves_nothing(project: Project) -> None:
    def rows() -> Any:
        yield {"id": 1}
        raise KeyError("token")

    report = run(project, 1, dlt.resource(rows, name="orders"))
    assert report.state is RunState.FAILED
    assert "The resource \"orders\" failed: KeyError: 'token'" in str(report.error)
    assert project.tables() == set()
    assert bookmark(project, "orders") is None


def hinted(**hints: Any) -> Any:
    return dlt.resource([{"id": 1}], name="orders", **hints)


@pytest.mark.parametrize(
    ("hints", "write", "key"),
    [
        ({}, "append", ()),
        ({"write_disposition": "replace"}, "replace", ()),
        ({"write_disposition": "merge"}, "append", ()),
        ({"write_disposition": "merge", "primary_key": ["a", "b"]}, "upsert", ("a", "b")),
        ({"write_disposition": {"disposition": "merge", "strategy": "scd2"}, "primary_key": "id"}, "history", ("id",)),
        ({"primary_key": "id"}, "append", ()),
    ],
)
def test_hints_say_how_rows_enter_the_table(hints: dict[str, Any], write: str, key: tuple[str, ...]) -> None:
    (feed,) = sources.dlt(hinted(**hints))
    assert (feed.name, feed.write, feed.key) == ("orders", write, key)


def test_hints_of_columns_are_declared() -> None:
    columns = {"id": {"data_type": "bigint"}, "at": {"data_type": "timestamp"}, "any": {"data_type": "json"},
               "gone": {"data_type": "bool", "hard_delete": True}}  # fmt: skip
    (feed,) = sources.dlt(
        hinted(columns=columns, primary_key="id", write_disposition="merge", table_name="shop_orders")
    )
    assert feed.options == {
        "write": "upsert", "key": ("id",), "delete_flag": "gone",
        "columns": {"id": "long", "at": "timestamptz", "gone": "boolean"},
    }  # fmt: skip
    assert feed.name == "shop_orders"


@dlt.resource
def needing(token: str) -> Any:
    yield {"token": token}


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: sources.dlt([1, 2]), "list is neither a resource nor a source of dlt"),
        (lambda: sources.dlt(needing), '"needing" needs arguments'),
        (lambda: sources.dlt("nowhere_at_all:orders"), '"nowhere_at_all" cannot be imported'),
        (lambda: sources.dlt("orders"), '"orders" names no object'),
        (lambda: sources.dlt(hinted(), write="upsert"), "has no key"),
        (lambda: sources.dlt(hinted(table_name=lambda item: item["id"])), "not known without data"),
    ],
)
def test_what_cannot_be_a_feed_is_told_where_it_stands(declare: Callable[[], Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as error:
        declare()
    assert "test_dlt.py" in str(error.value.where)


def test_a_name_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(UnknownName, match="order"):
        sources.dlt(hinted(), select=["order"])
