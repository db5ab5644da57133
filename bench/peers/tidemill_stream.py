"""Tidemill over a topic: python tidemill_stream.py FOLDER --servers S --work a ... (see the parser)."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

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


def hours(f: tm.Frame) -> tm.Frame:
    """As `b` with windows that do not close: state of each key stays."""
    f["at"] = pl.from_epoch(f["ts"], time_unit="ms")
    return f.tumbling_window("24h", on="at", by="key").agg(mean=tm.agg.mean("speed")).final()


def asof(f: tm.Frame, other: tm.Frame) -> tm.Frame:
    """Each message with the latest of its key in another topic."""
    f["at"], other["at"] = pl.from_epoch(f["ts"], time_unit="ms"), pl.from_epoch(other["ts"], time_unit="ms")
    return f.select("at", "key", "speed").join_asof(
        other.select("at", "key", "rpm"), on="at", by="key", tolerance="10s"
    )


def same(f: tm.Frame) -> tm.Frame:
    """What came goes."""
    return f


def five(f: tm.Frame) -> tm.Frame:
    """Five plain Python functions."""

    def faster(row: dict[str, Any]) -> dict[str, Any]:
        row["speed"] *= 3.6
        return row

    def bumpy(row: dict[str, Any]) -> dict[str, Any]:
        row["rpm"] += 1
        return row

    def turned(row: dict[str, Any]) -> dict[str, Any]:
        row["heading"] = (row["heading"] + 180) % 360
        return row

    def shifted(row: dict[str, Any]) -> dict[str, Any]:
        row["gear"] = min(row["gear"] + 1, 8)
        return row

    def moved(row: dict[str, Any]) -> dict[str, Any]:
        row["lat"] += 0.5
        return row

    for function in (faster, bumpy, turned, shifted, moved):
        f = f.map_rows(function, adds={})
    return f


WORK = {"a": a, "b": b, "hours": hours, "asof": asof, "same": same, "five": five}


def main() -> int:
    """Run it; prints figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("servers", "topic", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--work", choices=WORK, required=True)
    parser.add_argument("--other", help="the second topic of a join")
    parser.add_argument("--count", type=int, default=0, help="work on so many messages")
    parser.add_argument("--seconds", type=float, default=0, help="work for so long, once there is a task")
    parser.add_argument("--recover", action="store_true", help="make state anew of its changelog, and end")
    parser.add_argument("--guarantee", default="at-least-once")
    parser.add_argument("--state", default="rocksdb")
    parser.add_argument("--identity", default="bench-0")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "tidemill.toml").write_text(
        f'[project]\nname = "bench"\n[streams]\nbroker = "kafka://{options.servers}"\nstate = "{options.state}"\n'
    )
    if options.recover:
        shutil.rmtree(options.folder / ".tidemill" / "state", ignore_errors=True)
    process = opened(options)
    made = recovered(process) if options.recover else worked(process, options.count, options.seconds)
    process.close()
    print(json.dumps({**made, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
    return 0


def opened(options: argparse.Namespace) -> Any:
    """The stream's process."""
    from tidemill.wiring.services import connect
    from tidemill.wiring.settings import load_settings
    from tidemill.wiring.streams import LakeTables, StreamMaker, open_stores
    from tidemill.wiring.topics import open_topics

    settings = load_settings(options.folder)
    services = connect(settings)
    pipeline = tm.Pipeline("bench")
    # Times go forth and back by up to 50 ms; `b` has its grace instead.
    lateness = "1s" if options.work == "asof" else "0s"
    topics = [tm.topic(name, COLUMNS, key="key", lateness=lateness) for name in (options.topic, options.other) if name]
    name = options.out.replace("-", "_")
    named = pipeline.stream(*topics, to=tm.topic(options.out, key="key"), guarantee=options.guarantee, name=name)
    named(WORK[options.work])
    spec = pipeline.spec()
    maker = StreamMaker(
        open_topics(settings, services.metadata, services.clock), open_stores(settings), LakeTables(services),
        services.clock,
    )  # fmt: skip
    return maker.process(spec, spec.streams[name], options.identity)


def worked(process: Any, count: int, seconds: float) -> dict[str, Any]:
    """Work on messages. The first twentieth, in which tasks and modules are loaded, is not counted."""
    begun: list[tuple[int, float, float]] = []
    ended: list[tuple[float, float]] = []

    def is_done() -> bool:
        messages, now = process.counts.messages, time.perf_counter()
        if not begun and messages >= count / 20 and (process.works or not seconds):
            begun.append((messages, now, time.process_time()))
        if not begun or messages < count or now - begun[0][1] < seconds:
            return False
        process.checkpoint()  # counts; that `run` leaves the group does not
        ended.append((time.perf_counter(), time.process_time()))
        return True

    process.run(is_done)
    first, began, cpu = begun[0]
    took, cpu = ended[0][0] - began, ended[0][1] - cpu
    done = process.counts.messages - first
    return {
        "per_s": round(done / took), "seconds": round(took, 3), "messages": process.counts.messages,
        "out": sum(process.rows_out.values()), "cpu_seconds": round(cpu, 3),
        "cpu_us": round(1e6 * cpu / max(1, done), 2), "checkpoints": process.counts.checkpoints,
    }  # fmt: skip


def recovered(process: Any) -> dict[str, Any]:
    """Make state of its changelog: from the first look at the group until all tasks work.

    A record of our changelogs has many rows. What is counted as one is what other engines write as one: the value of a
    window and key.
    """
    done: dict[Any, int] = {}

    def look(looked_at: Any) -> None:
        if looked_at.recovering is not None:
            done[looked_at.recovering.changelog] = looked_at.recovering.total

    process.looked_at = look
    began = time.perf_counter()
    while len(process.works) < len(process.plan.tasks):
        process.turn()
    took = time.perf_counter() - began
    windows = sum(work.task.open_windows() or 0 for work in process.works.values())
    messages = sum(done.values())
    return {"windows": windows, "records": messages, "seconds": round(took, 3), "per_s": round(windows / took)}


if __name__ == "__main__":
    sys.exit(main())
