"""Deliveries: 1,000,000 rows of JSON lines, gzipped, into DuckDB and PostgreSQL, the whole path; beside dlt.

    ./run bench destinations [--repeat 3] [--rows 1000000] [--peers tidemill,dlt] [--into duckdb,postgresql]

Tidemill archives, loads into the lake, publishes, and delivers from there; its time is that of all of it, and the share
of the delivery is shown beside. dlt loads straight into the database, in two ways: Arrow batches that DuckDB decodes,
and dicts. Each measurement is a fresh process and an empty database; the server is a real one, on the same cores. What
arrived is compared with what the input's generator says. The exit code is 1 where a figure misses its limit or a result
is wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import environments
import inputs
import load
import measure
from figures import keep

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "tests"))

#: Rows a second at least, of a delivery.
LEAST = {"duckdb": 450_000, "postgresql": 350_000}
#: Peer, module, environment, variant, most rows.
PEERS: list[tuple[str, str, str, str, int | None]] = [
    ("tidemill", "tidemill_delivery", "tidemill", "", None),
    ("dlt arrow", "dlt_delivery", "dlt-destinations", "arrow", None),
    ("dlt dicts", "dlt_delivery", "dlt-destinations", "dicts", 100_000),
]
HEADING = (
    f"{'peer':<12} {'into':<11} {'rows':>9} {'median s':>8} {'fastest-slowest':>15} {'rows/s':>9} {'delivery/s':>10}"
    f" {'CPU s':>6} {'peak MB':>8}"
)


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench destinations", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each; the median is shown")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the input")
    parser.add_argument("--peers", default="tidemill,dlt", help="names with commas between")
    parser.add_argument("--into", default="duckdb,postgresql", help="destinations with commas between")
    parser.add_argument("--data", type=Path, default=BENCH / "data", help="where inputs are kept")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a measurement may take")
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    print(HEADING)
    figures, problems = run(options)
    keep("destinations", about, figures)
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure every peer into every destination; gives the figures, and what is wrong."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    with ExitStack() as stack:
        server = None
        if "postgresql" in options.into.split(","):
            from harness.postgres import running

            server = stack.enter_context(running())
        for into in options.into.split(","):
            for name, module, environment, variant, most in PEERS:
                if name.split()[0] not in options.peers.split(","):
                    continue
                try:
                    interpreter = environments.python(environment)
                except environments.Missing as error:
                    problems.append(f"{name}: {error}")
                    continue
                rows = min(options.rows, most or options.rows)
                load.prepare("flat.jsonl", rows, options.data)
                spec = inputs.spec_path("flat.jsonl", rows, options.data)
                runs: list[tuple[measure.Run, float | None]] = []
                for _ in range(options.repeat):
                    address = "" if into == "duckdb" else server.new_database() if server else ""
                    found = _once(interpreter, module, variant, spec, into, address, options.limit)
                    if isinstance(found, str):
                        problems.append(f"{name} into {into}: {found}")
                        break
                    runs.append(found)
                if runs:
                    figures[f"{name}, {into}"] = made = _figures(rows, runs)
                    print(_line(name, into, made), flush=True)
    return figures, problems + _judged(figures)


def _figures(rows: int, runs: list[tuple[measure.Run, float | None]]) -> dict[str, Any]:
    seconds = sorted(one.seconds for one, _ in runs)
    median = statistics.median(seconds)
    apart = [share for _, share in runs if share is not None]
    return {
        "rows": rows,
        "seconds": [round(one, 3) for one in seconds],
        "median": round(median, 3),
        "rows_per_second": round(rows / median),
        "delivery_rows_per_second": round(rows / statistics.median(apart)) if apart else None,
        "cpu_seconds": round(statistics.median(one.cpu_seconds for one, _ in runs), 2),
        "peak_mb": round(max(one.peak_mb for one, _ in runs), 1),
    }


def _line(name: str, into: str, made: dict[str, Any]) -> str:
    apart = made["delivery_rows_per_second"]
    seconds = made["seconds"]
    return (
        f"{name:<12} {into:<11} {made['rows']:>9,} {made['median']:>8.2f} {seconds[0]:>7.2f}-{seconds[-1]:<7.2f}"
        f" {made['rows_per_second']:>9,} {'-' if apart is None else format(apart, ','):>10}"
        f" {made['cpu_seconds']:>6.1f} {made['peak_mb']:>8.0f}"
    )


def _judged(figures: dict[str, Any]) -> list[str]:
    wrong = []
    for into, least in LEAST.items():
        ours = figures.get(f"tidemill, {into}")
        if ours is not None and (ours["delivery_rows_per_second"] or 0) < least:
            wrong.append(f"{into}: {ours['delivery_rows_per_second']:,} rows/s, and {least:,} are asked for")
    return wrong


def _once(
    interpreter: str, module: str, variant: str, spec: Path, into: str, address: str, limit: float
) -> tuple[measure.Run, float | None] | str:
    """One measurement in a folder of its own, checked; with the seconds of the delivery, as the peer tells them."""
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        env = {**load.environment_of(Path(folder)), "BENCH_INTO": into, "BENCH_ADDRESS": address}

        def step(name: str) -> measure.Run:
            command = [interpreter, str(BENCH / "peer.py"), name, module, str(spec), folder, variant]
            return measure.run(command, at=Path(folder), env=env, limit=limit)

        loaded = step("load")
        if loaded.code:
            return f"failed: {load.last_error(loaded.errors)}"
        checked = step("check")
        if checked.code:
            return f"WRONG RESULT: {(checked.output.strip().splitlines() or [load.last_error(checked.errors)])[0]}"
        told = Path(folder) / "delivery.json"
        return loaded, json.loads(told.read_text("utf-8")) if told.exists() else None


if __name__ == "__main__":
    sys.exit(main())
