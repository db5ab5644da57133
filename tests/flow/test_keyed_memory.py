"""Keyed writes keep to little memory, take more where a statement cannot do with it, and give the same rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.project import Project
from tidemill.flow import merge

ROWS = [{"id": n % 50, "moment": n, "v": f"row {n}"} for n in range(200)]
LAST = [(n, 150 + n, f"row {150 + n}") for n in range(50)]


def declared(project: Project, rows: list[dict[str, Any]], write: str = "upsert") -> Any:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Any:
        yield from rows

    @p.table(key="id", write=write)
    def out(orders: Any) -> Any:
        return orders

    return p


def read(project: Project, source: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in project.rows(f"select id, moment, v {source}"))


@pytest.mark.parametrize("write", ["upsert", "history"])
def test_a_statement_that_cannot_do_with_little_memory_gets_what_it_needs(
    write: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "_MEMORY", 256 << 10)
    p = declared(project, ROWS, write)
    for day in ("2026-01-01", "2026-01-02"):
        assert project.run(p, day).ok
    current = "where is_current" if write == "history" else ""
    assert read(project, f"from shop.out {current}") == LAST


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1]], ids=["in-order", "in-disorder"])
def test_rows_that_do_not_lie_in_their_order_are_sorted_before_they_count(
    rows: list[dict[str, Any]], project: Project
) -> None:
    """The last row of a key wins, by the order that is asked for, wherever it lies."""
    p = declared(project, rows)
    p.sql(text="select * from {{ batch('orders') }}", name="last", key="id", write="upsert", materialized="incremental")
    p._transforms["last"] = replace(p._transforms["last"], in_order=("moment",))
    assert project.run(p, "2026-01-01").ok
    assert read(project, "from shop.last") == LAST
