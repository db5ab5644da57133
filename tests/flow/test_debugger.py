"""Breakpoints in every kind of function of a user's: pdb on a terminal stops there, with the real thing in hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.terminal import converse

PIPELINE = """
import polars as pl
import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")

@shop.source
def orders(interval):
    breakpoint()                                        # 1
    yield {"id": 1, "price": 41}

@shop.table
def clean(orders):
    breakpoint()                                        # 2
    return orders.map_rows(on_row)

def on_row(row):
    breakpoint()                                        # 3
    return row

@shop.table(engine="pandas")
def counted(clean):
    breakpoint()                                        # 4
    return clean

@shop.function
def doubled(price: int) -> int:
    breakpoint()                                        # 5
    return price * 2

shop.sql(text="select id, doubled(price) as price from {{ ref('clean') }}", name="twice")

def is_even(price):
    breakpoint()                                        # 6
    return price % 2 == 0

shop.expect("twice", [tm.expect(tm.col("price").map_elements(is_even, return_dtype=pl.Boolean), name="even")])

if __name__ == "__main__":
    print("run gives", shop.run("2026-01-01").last.state)
"""

#: What is typed at each stop, and what it must show.
STOPS = [
    ("p 'source', interval.ds", "('source', '2026-01-01')"),
    ("p 'frame', orders.__class__.__name__", "('frame', 'Frame')"),
    ("p 'row', row['price'] + 1", "('row', 42)"),
    (
        "p 'pandas', int(clean['price'].iloc[0]) + 1, clean.__class__.__module__.split('.')[0]",
        "('pandas', 42, 'pandas')",
    ),
    ("p 'function', price + 1", "('function', 42)"),
    ("p 'check', price", "('check', 82)"),
]


@pytest.mark.parametrize("way", ["python", "tidemill"])
def test_a_breakpoint_stops_in_every_kind_of_function(tmp_path: Path, way: str) -> None:
    file = tmp_path / "pipelines" / "shop.py"
    file.parent.mkdir()
    file.write_text(PIPELINE)
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "test"\n')
    commands = {
        "python": [sys.executable, str(file)],
        "tidemill": [sys.executable, "-m", "tidemill.cli", "--project", str(tmp_path), "run", "shop", "2026-01-01"],
    }
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONBREAKPOINT"}
    typed = [line for question, _ in STOPS for line in (question, "c")]
    printed = converse(commands[way], iter(typed), environment)
    rest = printed
    for question, shown in STOPS:
        before, found, rest = rest.partition(shown)
        assert found, f"{question!r} did not show {shown}:\n{before[-2000:]}"
    assert "run gives success" in rest if way == "python" else "published" in rest
