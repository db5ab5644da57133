"""Loads generated inputs with Tidemill and its peers, side by side: rows a second, MB a second, peak memory.

    ./run bench load [--rows 1000000] [--inputs flat.jsonl,flat.csv] [--peers tidemill,duckdb] [--repeat 3]

Each measurement is a fresh process, start of Python and imports included, on files that are in the page cache.
Repetitions go round the peers, so that a busy minute hits all of them; the table shows the median. After every
load the result is compared with what the input's generator says it must hold: row counts, sums, text lengths.
MB are those of the unpacked input. The table and everything behind it are also written to bench/results.

The exit code is 1 where a peer is missing, fails, or loads something wrong without it being known and listed here.
A peer that takes over `--limit` seconds is shown with the rate that it did not reach.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import environments
import inputs
import measure

BENCH = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """One competitor: a module in bench/peers, the environment that it runs in, and its variant."""

    name: str
    module: str
    environment: str
    variant: str = ""
    #: Measured on `--slow-rows` rows at most, which spares hours; the table shows the number.
    slow: bool = False
    #: Inputs that it cannot load, or not rightly, with the reason; these are shown and not measured.
    cannot: dict[str, str] = field(default_factory=dict)


PEERS = [
    Peer("tidemill", "tidemill_load", "tidemill"),
    Peer("duckdb", "duckdb_load", "duckdb"),
    Peer("dlt arrow", "dlt_load", "dlt", "arrow", cannot={"nested.jsonl": "does not take nested values apart"}),
    Peer("dlt", "dlt_load", "dlt", "dicts", slow=True),
]


@dataclass
class Result:
    """What was measured for one peer on one input."""

    peer: str
    input: str
    rows: int
    unpacked: int
    runs: list[measure.Run] = field(default_factory=list)
    #: Why there is no figure, or what is wrong with the result; empty where all is well.
    problem: str = ""
    #: True where the problem is no surprise: a listed limit, or the time limit.
    expected: bool = False

    def figures(self) -> dict[str, float]:
        """Medians over the runs."""
        if not self.runs:
            return {}
        seconds = statistics.median(run.seconds for run in self.runs)
        return {
            "seconds": round(seconds, 3),
            "fastest": round(min(run.seconds for run in self.runs), 3),
            "slowest": round(max(run.seconds for run in self.runs), 3),
            "rows_per_second": round(self.rows / seconds),
            "mb_per_second": round(self.unpacked / 1e6 / seconds, 1),
            "cpu_seconds": round(statistics.median(run.cpu_seconds for run in self.runs), 3),
            "peak_mb": round(statistics.median(run.peak_mb for run in self.runs), 1),
        }


def prepare(name: str, rows: int, data: Path) -> dict[str, Any]:
    """The spec of an input, which is made where it does not exist; its files are read once, into the page cache."""
    path = inputs.spec_path(name, rows, data)
    if not path.exists():
        print(f"making {name} with {rows:,} rows ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, str(BENCH / "inputs.py"), name, str(rows), str(data)], check=True)
    spec: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for file in spec["files"]:
        with open(file, "rb") as content:
            while content.read(1 << 20):
                pass
    return spec


def environment_of(work: Path) -> dict[str, str]:
    """Variables for a peer: its own home, and no messages to anybody."""
    return {**os.environ, "HOME": str(work), "DLT_DATA_DIR": str(work / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"}


def once(peer: Peer, interpreter: str, spec_file: str, result: Result, limit: float) -> None:
    """Load the input once in a fresh folder, check what is there, and note both in `result`."""
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        work = Path(folder)
        env = environment_of(work)

        def step(name: str) -> list[str]:
            return [interpreter, str(BENCH / "peer.py"), name, peer.module, spec_file, folder, peer.variant]

        loaded = measure.run(step("load"), at=work, env=env, limit=limit)
        if loaded.timed_out:
            result.problem = f"over {limit:.0f} s, so under {result.rows / limit:,.0f} rows/s"
            result.expected = True
        elif loaded.code:
            result.problem = f"failed: {last_error(loaded.errors)}"
        else:
            result.runs.append(loaded)
            checked = measure.run(step("check"), at=work, env=env, limit=limit)
            if checked.code:
                wrong = checked.output.strip().splitlines() or [last_error(checked.errors)]
                result.problem = f"WRONG RESULT: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")


def last_error(text: str) -> str:
    """The last line of `text` that names an error, or its last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["no message"])[-1]


def bench(peers: list[Peer], names: list[str], options: argparse.Namespace) -> list[Result]:
    """Measure every peer on every input."""
    interpreters: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        if not (BENCH / "peers" / f"{peer.module}.py").exists():
            missing[peer.name] = f"cannot be imported: there is no bench/peers/{peer.module}.py"
            continue
        try:
            interpreters[peer.name] = environments.python(peer.environment)
        except environments.Missing as error:
            missing[peer.name] = str(error)
    results = []
    for name in names:
        pairs = []
        for peer in peers:
            rows = max(1000, round(options.rows * inputs.INPUTS[name][1]))
            rows = min(rows, options.slow_rows) if peer.slow else rows
            spec = prepare(name, rows, options.data)
            result = Result(peer.name, name, rows, spec["unpacked"])
            if peer.name in missing:
                result.problem = f"MISSING: {missing[peer.name]}"
            elif name in peer.cannot:
                result.problem, result.expected = peer.cannot[name], True
            pairs.append((peer, str(inputs.spec_path(name, rows, options.data)), result))
            results.append(result)
        for _ in range(options.repeat):
            for peer, spec_file, result in pairs:
                if not result.problem:
                    once(peer, interpreters[peer.name], spec_file, result, options.limit)
        for _, _, result in pairs:
            print(line(result), flush=True)
    return results


def line(result: Result) -> str:
    """One line of the table."""
    begin = f"{result.input:<13} {result.peer:<10} {result.rows:>9,}"
    figures = result.figures()
    if not figures:
        return f"{begin}   {result.problem}"
    return (
        f"{begin} {figures['seconds']:>8.2f} {figures['fastest']:>7.2f}-{figures['slowest']:<7.2f}"
        f"{figures['rows_per_second']:>10,} {figures['mb_per_second']:>7.1f} {figures['cpu_seconds']:>7.1f}"
        f" {figures['peak_mb']:>7.0f}  {result.problem or 'right'}"
    )


HEADING = (
    f"{'input':<13} {'peer':<10} {'rows':>9} {'median s':>8} {'fastest-slowest':>15} {'rows/s':>9} {'MB/s':>7}"
    f" {'CPU s':>7} {'peak MB':>7}  result"
)


def save(results: list[Result], options: argparse.Namespace, about: dict[str, Any]) -> Path:
    """Write everything to the folder of results; returns the path."""
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=BENCH, capture_output=True, text=True).stdout.strip()
    content = {
        "bench": "load",
        "at": now.isoformat(timespec="seconds"),
        "commit": commit or None,
        "machine": about,
        "requirements": environments.REQUIREMENTS,
        "options": {name: str(value) for name, value in vars(options).items()},
        "results": [
            {
                "peer": result.peer,
                "input": result.input,
                "rows": result.rows,
                "unpacked_bytes": result.unpacked,
                **result.figures(),
                "all_seconds": [round(run.seconds, 3) for run in result.runs],
                "problem": result.problem or None,
            }
            for result in results
        ],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    path: Path = options.results / f"load-{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./run bench load", description=(__doc__ or "").partition("\n")[0])
    known = [peer.name.replace(" ", "-") for peer in PEERS]
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the flat inputs (others are scaled)")
    parser.add_argument("--slow-rows", type=int, default=100_000, help="rows at most for peers known to be slow")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each; the median is shown")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a load is stopped")
    parser.add_argument("--inputs", default=",".join(inputs.INPUTS), help="names with commas between")
    parser.add_argument("--peers", default=",".join(known), help="names with commas between")
    parser.add_argument("--fresh", action="store_true", help="make the inputs again")
    parser.add_argument("--data", type=Path, default=BENCH / "data", help="folder of the inputs")
    parser.add_argument("--results", type=Path, default=BENCH / "results", help="folder of the results")
    options = parser.parse_args(arguments)
    for given, names in ((options.inputs, list(inputs.INPUTS)), (options.peers, known)):
        for name in given.split(","):
            if name not in names:
                parser.error(f"{name!r} is unknown; known: {', '.join(names)}")
    return options


def main(arguments: list[str]) -> int:
    """Run the bench; returns the exit code."""
    options = parse(arguments)
    if options.fresh:
        shutil.rmtree(options.data, ignore_errors=True)
    about = measure.machine()
    chosen = [peer for peer in PEERS if peer.name.replace(" ", "-") in options.peers.split(",")]
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    print(HEADING)
    results = bench(chosen, options.inputs.split(","), options)
    print(f"written to {os.path.relpath(save(results, options, about))}")
    failed = [result for result in results if result.problem and not result.expected]
    for result in failed:
        print(f"FAILED: {result.peer} on {result.input}: {result.problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
