"""Quix Streams over a topic: python quix_stream.py FOLDER --servers S --work a ... (see the parser)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any


def main() -> int:
    """Run it; prints figures."""
    from quixstreams import Application
    from quixstreams.dataframe.windows.aggregations import Mean

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    for name in ("servers", "work", "topic", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    seen = [0, 0.0, 0.0, 0.0]

    def processed(topic: str, partition: int, offset: int) -> None:
        if seen[0] == 0:
            seen[1], seen[3] = time.perf_counter(), time.process_time()
        seen[0] += 1
        if seen[0] == options.count:
            seen[2], seen[3] = time.perf_counter(), time.process_time() - seen[3]
            app.stop()

    app = Application(
        options.servers, consumer_group=options.out, auto_offset_reset="earliest", state_dir=f"{options.folder}/state",
        loglevel="ERROR", on_message_processed=processed,
        consumer_extra_config={"fetch.message.max.bytes": 8_000_000, "queued.min.messages": 200_000},
        producer_extra_config={
            "linger.ms": 50, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000,
        },
    )  # fmt: skip
    windowed = options.work.startswith("b")
    source = app.topic(options.topic, timestamp_extractor=(lambda v, h, t, k: v["ts"]) if windowed else None)
    sink = app.topic(options.out)
    frame = app.dataframe(source)
    if options.work == "a":
        frame["speed"] = frame["speed"] * 3.6
        frame = frame[frame["speed"] > 54]
    elif options.work == "five":

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
            frame = frame.apply(function)
    else:
        window = frame.tumbling_window(10_000, grace_ms=1_000, name="w").agg(mean=Mean("speed"))
        frame = window.current() if options.work == "b_current" else window.final("partition")
    rows = [0]

    def count(_: object) -> None:
        rows[0] += 1

    frame.update(count).to_topic(sink)
    app.run()
    seconds = seen[2] - seen[1]
    print(json.dumps({
        "per_s": round(options.count / seconds), "seconds": round(seconds, 3), "out": rows[0],
        "cpu_us": round(1e6 * seen[3] / options.count, 2),
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
