"""Part `rest` of the bench of sources: a web service's pages into the lake, and with dlt into a DuckDB file.

The service is a process of its own on the same cores, which gives pages of 500 records that it wrote beforehand. Also
a call for each record of a service that takes 20 ms for an answer: 1, 8 and 32 at a time; and requests a second over
kept connections beside new ones, and how fast records are cut out of a large document.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environments
import measure

BENCH = Path(__file__).resolve().parent
#: Rows a second at least, of pages; MB at most.
LEAST, MOST_MB = 50_000, 500
#: Records of a page; seconds that details take, and how many are asked for.
PAGE, DELAY, DETAILS = 500, 0.02, 2_000
PEERS = [("tidemill", "tidemill_rest", "tidemill"), ("dlt", "dlt_rest", "dlt")]


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure; gives the figures, and what is wrong."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    rows = min(options.rows, 200_000)
    print(f"{'what':<24} {'rows':>8} {'median s':>8} {'fastest-slowest':>15} {'rows/s':>9} {'CPU s':>6} {'peak MB':>8}")
    with _serving(rows) as url:
        for name, module, environment in PEERS:
            if name in options.peers.split(","):
                _measured(name, module, environment, "", url, rows, options.repeat, figures, problems)
    with _serving(DETAILS) as url:
        for parallel in ("1", "8", "32"):
            _measured(
                f"tidemill {parallel} details",
                "tidemill_rest",
                "tidemill",
                parallel,
                url,
                DETAILS,
                1,
                figures,
                problems,
            )
    with _serving(PAGE) as url:
        figures["requests"] = _requests(url)
    figures["records of a document"] = _cutting()
    ours = figures.get("tidemill")
    if ours and ours["rows_per_second"] < LEAST:
        problems.append(f"{ours['rows_per_second']:,} rows/s, and {LEAST:,} are asked for")
    if ours and ours["peak_mb"] > MOST_MB:
        problems.append(f"{ours['peak_mb']} MB, and {MOST_MB} are allowed")
    return figures, problems


@contextmanager
def _serving(rows: int) -> Iterator[str]:
    command = [sys.executable, str(BENCH / "peers" / "rest_server.py"), str(rows), str(PAGE), str(DELAY)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def _measured(
    name: str,
    module: str,
    environment: str,
    variant: str,
    url: str,
    rows: int,
    repeat: int,
    figures: dict[str, Any],
    problems: list[str],
) -> None:
    try:
        interpreter = environments.python(environment)
    except environments.Missing as error:
        problems.append(f"{name}: {error}")
        return
    runs = []
    for _ in range(repeat):
        found = _once(interpreter, module, variant, url, rows)
        if isinstance(found, str):
            problems.append(f"{name}: {found}")
            return
        runs.append(found)
    times = sorted(one.seconds for one in runs)
    median, cpu = statistics.median(times), statistics.median(one.cpu_seconds for one in runs)
    peak = max(one.peak_mb for one in runs)
    figures[name] = {
        "rows": rows, "seconds": times, "rows_per_second": round(rows / median), "cpu_seconds": round(cpu, 2),
        "peak_mb": round(peak, 1),
    }  # fmt: skip
    spread = f"{times[0]:.2f}-{times[-1]:.2f}"
    print(
        f"{name:<24} {rows:>8,} {median:>8.2f} {spread:>15} {rows / median:>9,.0f} {cpu:>6.1f} {peak:>8.0f}", flush=True
    )


def _once(interpreter: str, module: str, variant: str, url: str, rows: int) -> measure.Run | str:
    """One load in a folder of its own, checked; the text of what is wrong."""
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        spec = Path(folder) / "spec.json"
        spec.write_text(json.dumps({"url": url}), encoding="utf-8")
        env = {**os.environ, "HOME": folder, "DLT_DATA_DIR": f"{folder}/dlt", "RUNTIME__DLTHUB_TELEMETRY": "false"}

        def step(name: str) -> measure.Run:
            command = [interpreter, str(BENCH / "peers" / f"{module}.py"), name, str(spec), folder, variant]
            return measure.run(command, at=Path(folder), env=env, limit=1800)

        loaded = step("load")
        if loaded.code:
            return f"failed: {(loaded.errors.strip().splitlines() or ['no message'])[-1]}"
        found = step("check").output.strip()
    expected = f"{rows} {rows * (rows - 1) // 2}"
    return loaded if found == expected else f"WRONG RESULT: {found} instead of {expected}"


def _requests(url: str) -> dict[str, int]:
    """Requests a second for a page, over kept connections and by the client that makes a new one for each."""
    from tidemill.adapters.http.client import UrllibClient
    from tidemill.adapters.http.wire import Request, Wire

    count, rates = 500, {}
    wire, client = Wire(time.monotonic), UrllibClient()
    ways: dict[str, Callable[[], object]] = {
        "kept": lambda: wire.send(Request("GET", f"{url}/orders"), timeout=10, largest=1 << 20),
        "new": lambda: client.request("GET", f"{url}/orders", headers={}, query={}),
    }
    for name, ask in ways.items():
        began = time.perf_counter()
        for _ in range(count):
            ask()
        rates[name] = round(count / (time.perf_counter() - began))
    wire.close()
    print(
        f"{'requests a second':<24} {rates['kept']:,} over kept connections, {rates['new']:,} over new ones", flush=True
    )
    return rates


def _cutting() -> dict[str, int]:
    """MB a second of a document whose records are cut out: as a whole, and walked through."""
    from tidemill.adapters.arrow.blocks import Cutting
    from tidemill.adapters.arrow.documents import record_blocks
    from tidemill.ports.decoder import DecodeOptions

    record = {"id": 1, "customer": 4711, "total": 12.5, "name": "order number 1", "tags": ["a", "b"]}
    data = json.dumps({"data": [record] * 200_000}).encode()
    rates = {}
    for name, whole in (("whole", 1 << 30), ("walked", 0)):
        began = time.perf_counter()
        blocks = record_blocks(io.BytesIO(data), Cutting("x", DecodeOptions(records="$.data[*]")), whole)
        assert sum(block.count(b"\n") for block in blocks) == 200_000
        rates[name] = round(len(data) / 1e6 / (time.perf_counter() - began))
    print(f"{'records of a document':<24} {rates['whole']:,} MB/s as a whole, {rates['walked']:,} MB/s walked through")
    return rates
