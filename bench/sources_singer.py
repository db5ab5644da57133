"""Part `singer` of the bench of sources: a tap written by hand into the lake, beside the tap's own speed.

A target of Singer, MeltanoLabs' for PostgreSQL, takes a twentieth of the records into a server that is started here. It
answers another question than a lake does, and is the way in which taps are mostly loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import environments
import measure

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "tests"))

#: Records a second at least, unless the tap itself is slower.
LEAST = 150_000
#: Name, peer, share of the records.
VARIANTS = [
    ("tap alone", "tidemill", 1.0),
    ("append", "tidemill", 1.0),
    ("upsert", "tidemill", 1.0),
    ("target-postgres", "target", 0.05),
]


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure; gives the figures, and what is wrong."""
    figures, problems, speeds = {}, [], dict[str, int]()
    print(f"{'what':<20} {'records':>9} {'median s':>8} {'records/s':>9} {'CPU s':>6} {'peak MB':>8}")
    for name, peer, share in VARIANTS:
        if peer not in options.peers.split(","):
            continue
        runs, rows = [], max(round(options.rows * share), 1)
        for _ in range(options.repeat):
            found = _target(rows) if peer == "target" else _once(name, rows)
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


def _target(rows: int) -> measure.Run | str:
    """The tap into a target, in an empty database, whose rows are counted; the text of what is wrong."""
    import psycopg

    from harness.postgres import running

    try:
        program = Path(environments.python("target-postgres")).with_name("target-postgres")
    except environments.Missing as error:
        return str(error)
    with running() as server, tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        url = server.new_database()
        spec, config = Path(folder) / "spec.json", Path(folder) / "config.json"
        spec.write_text(json.dumps({"rows": rows}), encoding="utf-8")
        address = url.replace("postgresql://", "postgresql+psycopg://", 1)
        config.write_text(json.dumps({"sqlalchemy_url": address, "default_target_schema": "bench"}), encoding="utf-8")
        tap = f'"{sys.executable}" "{BENCH / "peers" / "singer_tap.py"}" --config "{spec}"'
        command = ["sh", "-c", f'{tap} | "{program}" --config "{config}"']
        loaded = measure.run(command, at=Path(folder), env={**os.environ, "HOME": folder}, limit=600)
        if loaded.code:
            return f"failed: {(loaded.errors.strip().splitlines() or ['no message'])[-1]}"
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT count(*), sum(id) FROM bench.orders").fetchone()
    expected = (rows, rows * (rows - 1) // 2)
    return loaded if found is not None and (found[0], int(found[1])) == expected else f"WRONG RESULT: {found}"
