"""Users' functions run in the thread that reads, so that breakpoints stop in them with a real row or frame."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl

from harness.terminal import converse
from tidemill.adapters.polars.function import run_function
from tidemill.model import agg


def test_functions_run_in_the_thread_that_reads() -> None:
    """Debuggers trace that thread; those of Polars they do not know."""
    here = threading.get_ident()
    seen: list[int] = []

    def note(*args: Any) -> Any:
        seen.append(threading.get_ident())
        return args[0]

    rows = pl.DataFrame({"k": [1, 2], "v": [1, 2]})
    run_function(lambda f: f.map_rows(note), rows)
    run_function(lambda f: f.flat_map(lambda r: [note(r)]), rows)
    run_function(lambda f: f.map_batches(note), rows)
    run_function(lambda f: f.reduce("k", {}, note), rows)
    run_function(lambda f: f.group_by("k").agg(x=agg.reduce("v", 0, note)), rows)
    assert len(seen) == 9
    assert set(seen) == {here}


PROGRAM = """
import polars as pl
from tidemill.adapters.polars.function import run_function
from tidemill.model import agg

def on_row(row):
    breakpoint()
    return row

def on_batch(df):
    breakpoint()
    return df

def on_state(state, row):
    breakpoint()
    return state

def on_value(value):
    breakpoint()
    return value

rows = pl.DataFrame({"car": ["A"], "speed": [42]})
programs = {
    "map_rows": lambda f: f.map_rows(on_row),
    "flat_map": lambda f: f.flat_map(lambda row: [on_row(row)]),
    "map_batches": lambda f: f.map_batches(on_batch),
    "reduce": lambda f: f.reduce("car", {}, on_state),
    "agg": lambda f: f.group_by("car").agg(x=agg.reduce(pl.struct("car", "speed"), 0, on_state)),
    "expression": lambda f: f.with_columns(pl.col("speed").map_elements(on_value, return_dtype=pl.Int64)),
}
for name, function in programs.items():
    print("program", name, "gives", run_function(function, rows).height)
"""


def test_a_breakpoint_stops_with_a_real_row_or_frame_in_hand(tmp_path: Path) -> None:
    """Typed into pdb on a terminal, as a user would, for every verb that takes a function; each then goes on."""
    file = tmp_path / "pipeline.py"
    file.write_text(PROGRAM)
    row, frame, value = "row['speed'] + 1", "df['speed'][0] + 1", "value + 1"
    typed = [line for shown in (row, row, frame, row, row, value) for line in (f"p {shown}", "c")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONBREAKPOINT"}
    printed = converse([sys.executable, str(file)], iter(typed), environment)
    for name in ("map_rows", "flat_map", "map_batches", "reduce", "agg", "expression"):
        stopped, _, printed = printed.partition(f"program {name} gives 1")
        assert "(Pdb)" in stopped, name
        assert "43" in stopped, name
