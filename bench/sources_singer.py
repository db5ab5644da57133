"""Part `singer` of the bench of sources: a tap written by hand into the lake, beside the tap's own speed."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure

BENCH = Path(__file__).resolve().parent
#: Records a second at least, unless the tap itself is slower.
LEAST = 150_000
VARIANTS = ("append", "upsert")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure; gives the figures, and what is wrong."""
    rows, figures, problems, speeds = int(options.rows), {}, [], dict[str, int]()
    print(f"{'what':<20} {'records':>9} {'median s':>8} {'records/s':>9} {'CPU s':>6} {'peak MB':>8}")
    for name in ("tap alone", *VARIANTS):
        runs = []
        for _ in range(options.repeat):
            found = _once(name, rows)
            if isinstance(found, str):
                problems.append(f"{name}: {found}")
                break
            runs.append(found)
        if not runs:
            continue
        times = sorted(one.seconds for one in runs)
        median = statistics.median(times)
        cpu = statistics.median(one.cpu_seconds for one in runs)
        peak = max(one.peak_mb for one in runs)
        speeds[name] = round(rows / median)
        figures[name] = {
            "rows": rows, "seconds": times, "rows_per_second": speeds[name], "cpu_seconds": round(cpu, 2),
            "peak_mb": round(peak, 1),
        }  # fmt: skip
        print(f"{name:<20} {rows:>9,} {median:>8.2f} {rows / median:>9,.0f} {cpu:>6.1f} {peak:>8.0f}", flush=True)
    own, ours = speeds.get("tap alone"), speeds.get("append")
    if own and ours and ours < min(LEAST, own):
        problems.append(f"{ours:,} records/s, and {min(LEAST, own):,} are asked for")
    return figures, problems


def _once(name: str, rows: int) -> measure.Run | str:
    """The tap alone, or one load in a folder of its own whose result is checked; the text of what is wrong."""
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        spec = Path(folder) / "spec.json"
        spec.write_text(json.dumps({"rows": rows}), encoding="utf-8")
        if name == "tap alone":
            command = f'"{sys.executable}" "{BENCH / "peers" / "singer_tap.py"}" --config "{spec}" > /dev/null'
            return measure.run(["sh", "-c", command], at=Path(folder), env=dict(os.environ), limit=600)

        def step(what: str) -> measure.Run:
            program = str(BENCH / "peers" / "tidemill_singer.py")
            command = [sys.executable, program, what, str(spec), folder, name]
            return measure.run(command, at=Path(folder), env={**os.environ, "HOME": folder}, limit=1800)

        loaded = step("load")
        if loaded.code:
            return f"failed: {(loaded.errors.strip().splitlines() or ['no message'])[-1]}"
        found = step("check").output.strip()
    names = sum(len(f"order number {i}") for i in range(rows))
    total = sum(i % 100000 for i in range(rows)) / 4
    expected = f"{rows} {rows * (rows - 1) // 2} {total:.2f} {names} 2026-01-01"
    return loaded if found == expected else f"WRONG RESULT: {found} instead of {expected}"
