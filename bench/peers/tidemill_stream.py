"""Tidemill over a topic: python tidemill_stream.py FOLDER --servers S --work a ... (see the parser)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import polars as pl

import tidemill as tm

COLUMNS = {
    "ts": "long", "key": "string", "lat": "double", "lon": "double", "speed": "double", "rpm": "long", "gear": "long",
    "heading": "double",
}  # fmt: skip


def a(f: tm.Frame) -> tm.Frame:
    """Parse, multiply, filter, serialise."""
    f["speed"] = f["speed"] * 3.6
    return f.filter(f["speed"] > 54)


def b(f: tm.Frame) -> tm.Frame:
    """The mean of ten seconds for each key."""
    f["at"] = pl.from_epoch(f["ts"], time_unit="ms")
    return f.tumbling_window("10s", on="at", by="key", grace="1s").agg(mean=tm.agg.mean("speed")).final()


def five(f: tm.Frame) -> tm.Frame:
    """Five plain Python functions."""

    def faster(row: dict) -> dict:
        row["speed"] *= 3.6
        return row

    def bumpy(row: dict) -> dict:
        row["rpm"] += 1
        return row

    def turned(row: dict) -> dict:
        row["heading"] = (row["heading"] + 180) % 360
        return row

    def shifted(row: dict) -> dict:
        row["gear"] = min(row["gear"] + 1, 8)
        return row

    def moved(row: dict) -> dict:
        row["lat"] += 0.5
        return row

    for function in (faster, bumpy, turned, shifted, moved):
        f = f.map_rows(function, adds={})
    return f


def main() -> int:
    """Run it; prints figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("servers", "work", "topic", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--guarantee", default="at-least-once")
    parser.add_argument("--state", default="rocksdb")
    options = parser.parse_args()
    from tidemill.wiring.services import connect
    from tidemill.wiring.settings import load_settings
    from tidemill.wiring.streaming import open_topics
    from tidemill.wiring.streams import LakeTables, StreamMaker, open_stores

    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "tidemill.toml").write_text(
        f'[project]\nname = "bench"\n[streams]\nbroker = "kafka://{options.servers}"\nstate = "{options.state}"\n'
    )
    settings = load_settings(options.folder)
    services = connect(settings)
    pipeline = tm.Pipeline("bench")
    source = tm.topic(options.topic, COLUMNS, key="key")
    name = options.out.replace("-", "_")
    named = pipeline.stream(source, to=tm.topic(options.out, key="key"), guarantee=options.guarantee, name=name)
    named({"a": a, "b": b, "five": five}[options.work])
    spec = pipeline.spec()
    maker = StreamMaker(
        open_topics(settings, services.metadata, services.clock), open_stores(settings), LakeTables(services),
        services.clock,
    )  # fmt: skip
    process = maker.process(spec, spec.streams[name], "bench-0")
    # The clock starts when the first messages have been worked on: tasks are there then. They are not counted.
    while not process.counts.messages:
        process.turn()
    first, began, cpu = process.counts.messages, time.perf_counter(), time.process_time()
    while process.counts.messages < options.count:
        process.turn()
    process.checkpoint()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    rows = sum(process.rows_out.values())
    process.close()
    count = process.counts.messages - first
    print(json.dumps({
        "per_s": round(count / seconds), "seconds": round(seconds, 3), "out": rows,
        "cpu_us": round(1e6 * cpu / count, 2), "checkpoints": process.counts.checkpoints,
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
