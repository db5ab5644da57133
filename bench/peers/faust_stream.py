"""Faust over a topic: python faust_stream.py FOLDER --servers S --work a|b ... (see the parser)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Run it; prints figures and ends the process."""
    import faust
    import orjson

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    for name in ("servers", "work", "topic", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--partitions", type=int, default=8)
    options = parser.parse_args()
    sys.argv = ["bench", "worker", "-l", "error", "--without-web"]
    app = faust.App(
        options.out, broker=f"kafka://{options.servers}", store="rocksdb://" if options.work == "rocksdb" else "memory://",
        topic_partitions=options.partitions, topic_disable_leader=True, stream_buffer_maxsize=100_000,
        consumer_auto_offset_reset="earliest", datadir=f"{options.folder}/faust", broker_max_poll_records=10_000,
    )  # fmt: skip
    raw = {"value_type": bytes, "value_serializer": "raw", "key_type": bytes, "partitions": options.partitions}
    source, sink = app.topic(options.topic, **raw), app.topic(options.out, **raw)
    state = {"n": 0, "began": 0.0, "cpu": 0.0, "out": 0}
    table = None
    if options.work == "b":
        table = (
            app.Table("w", default=list, partitions=options.partitions)
            .tumbling(10.0, expires=60.0)
            .relative_to_stream()
        )

    @app.agent(source)  # type: ignore[untyped-decorator]  # of a package that is not installed here
    async def work(stream: Any) -> None:
        async for value in stream:
            if state["n"] == 0:
                state["began"], state["cpu"] = time.perf_counter(), time.process_time()
            state["n"] += 1
            row = orjson.loads(value)
            if table is None:
                row["speed"] *= 3.6
                if row["speed"] > 54:
                    state["out"] += 1
                    await sink.send(value=orjson.dumps(row))
            else:
                total = table[row["key"]].value() or [0.0, 0]
                total = [total[0] + row["speed"], total[1] + 1]
                table[row["key"]] = total
                state["out"] += 1
                await sink.send(value=orjson.dumps({"key": row["key"], "mean": total[0] / total[1]}))
            if state["n"] == options.count:
                seconds = time.perf_counter() - state["began"]
                cpu = time.process_time() - state["cpu"]
                found = {
                    "per_s": round(options.count / seconds), "seconds": round(seconds, 3), "out": state["out"],
                    "cpu_us": round(1e6 * cpu / options.count, 2),
                }  # fmt: skip
                os.write(1, ("\n" + json.dumps(found) + "\n").encode())
                os._exit(0)

    app.main()


if __name__ == "__main__":
    main()
