"""Part `sql` of the bench of sources: a table of PostgreSQL into the lake, and with dlt into a DuckDB file.

The server is a real one, started here, on the same cores. A table four times as large shows whether memory grows.
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

#: Rows a second at least, and MB at most; memory of four times the rows may be that much of it.
LEAST, MOST_MB, FLAT = 400_000, 500, 1.25
#: Peer, module, environment, variant, share of the rows.
PEERS = [
    ("tidemill", "tidemill_sql", "tidemill", "1", 1),
    ("tidemill parallel", "tidemill_sql", "tidemill", "2", 1),
    ("tidemill, 4 x rows", "tidemill_sql", "tidemill", "2", 4),
    ("dlt pyarrow", "dlt_sql", "dlt-sql", "pyarrow", 1),
    ("dlt connectorx", "dlt_sql", "dlt-sql", "connectorx", 1),
    ("dlt default", "dlt_sql", "dlt-sql", "sqlalchemy", 0.1),
]
ORDERS = """
    CREATE TABLE orders_{rows} AS SELECT g::bigint AS id, (g * 7919::bigint % 50000)::int AS customer,
        (g % 100000 * 0.01)::numeric(12,2) AS total, 'order number ' || g AS name,
        timestamptz '2026-01-01' + g * interval '1 second' AS updated_at, g % 7 = 0 AS paid, g * 0.5 AS weight,
        date '2026-01-01' + (g % 365) AS day
    FROM generate_series(1, {rows}) g;
    ALTER TABLE orders_{rows} ALTER weight TYPE double precision;
    ALTER TABLE orders_{rows} ADD PRIMARY KEY (id);
    ANALYZE orders_{rows}
"""
CHECKS = "SELECT count(*), sum(id), sum(total)::numeric(20,2), sum(length(name)), max(updated_at)::date FROM {table}"


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure; gives the figures, and what is wrong."""
    from harness.postgres import running

    chosen = [peer for peer in PEERS if peer[0].split()[0].rstrip(",") in options.peers.split(",")]
    figures: dict[str, Any] = {}
    problems: list[str] = []
    print(f"{'peer':<20} {'rows':>9} {'median s':>8} {'fastest-slowest':>15} {'rows/s':>9} {'CPU s':>6} {'peak MB':>8}")
    with running() as server, tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        sizes = {round(options.rows * share) for *_, share in chosen}
        for rows in sorted(sizes):
            _fill(server.url(), rows)
        for name, module, environment, variant, share in chosen:
            rows = round(options.rows * share)
            try:
                interpreter = environments.python(environment)
            except environments.Missing as error:
                problems.append(f"{name}: {error}")
                continue
            spec = Path(folder) / "spec.json"
            spec.write_text(json.dumps({"url": server.url(), "table": f"orders_{rows}"}), encoding="utf-8")
            runs = []
            for _ in range(options.repeat):
                found = _once(interpreter, module, variant, spec, server.url(), rows)
                if isinstance(found, str):
                    problems.append(f"{name}: {found}")
                    break
                runs.append(found)
            if not runs:
                continue
            times = sorted(one.seconds for one in runs)
            median = statistics.median(times)
            peak = max(one.peak_mb for one in runs)
            cpu = statistics.median(one.cpu_seconds for one in runs)
            figures[name] = {
                "rows": rows, "seconds": times, "rows_per_second": round(rows / median), "cpu_seconds": round(cpu, 2),
                "peak_mb": round(peak, 1),
            }  # fmt: skip
            print(
                f"{name:<20} {rows:>9,} {median:>8.2f} {times[0]:>7.2f}-{times[-1]:<7.2f} {rows / median:>9,.0f}"
                f" {cpu:>6.1f} {peak:>8.0f}",
                flush=True,
            )
    return figures, problems + _judged(figures)


def _judged(figures: dict[str, Any]) -> list[str]:
    wrong = []
    ours = {name: one for name, one in figures.items() if name.startswith("tidemill")}
    if ours and (best := max(one["rows_per_second"] for one in ours.values())) < LEAST:
        wrong.append(f"{best:,} rows/s, and {LEAST:,} are asked for")
    for name, one in ours.items():
        if one["peak_mb"] > MOST_MB:
            wrong.append(f"{name}: {one['peak_mb']} MB, and {MOST_MB} are allowed")
    one, four = ours.get("tidemill parallel"), ours.get("tidemill, 4 x rows")
    if one and four and four["peak_mb"] > one["peak_mb"] * FLAT:
        wrong.append(f"memory grows with the rows: {one['peak_mb']} MB, and {four['peak_mb']} of four times as many")
    return wrong


def _fill(url: str, rows: int) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ORDERS.format(rows=rows).encode())
        # All of it is in the page cache then, and its rows need no first look.
        connection.execute(f"VACUUM orders_{rows}".encode())
        connection.execute(CHECKS.format(table=f"orders_{rows}").encode())


def _once(interpreter: str, module: str, variant: str, spec: Path, url: str, rows: int) -> measure.Run | str:
    """One load in a folder of its own, checked against the server; the text of what is wrong."""
    import psycopg

    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        env = {**os.environ, "HOME": folder, "DLT_DATA_DIR": f"{folder}/dlt", "RUNTIME__DLTHUB_TELEMETRY": "false"}

        def step(name: str) -> measure.Run:
            command = [interpreter, str(BENCH / "peers" / f"{module}.py"), name, str(spec), folder, variant]
            return measure.run(command, at=Path(folder), env=env, limit=1800)

        loaded = step("load")
        if loaded.code:
            return f"failed: {(loaded.errors.strip().splitlines() or ['no message'])[-1]}"
        found = step("check").output.strip()
    with psycopg.connect(url) as connection:
        row = connection.execute(CHECKS.format(table=f"orders_{rows}").encode()).fetchone()
    expected = " ".join(map(str, row or ()))
    return loaded if found == expected else f"WRONG RESULT: {found} instead of {expected}"
