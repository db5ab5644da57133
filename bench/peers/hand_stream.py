"""A loop written by hand over the same client: python hand_stream.py FOLDER --servers S --work a ... (see the parser).

No state, no dead letters, no restart: what Python and the client cost when nothing else is done.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer


def a(row: dict[str, Any]) -> dict[str, Any] | None:
    """Multiply, filter."""
    row["speed"] *= 3.6
    return row if row["speed"] > 54 else None


def five(row: dict[str, Any]) -> dict[str, Any] | None:
    """Five functions one after the other."""
    for function in FIVE:
        row = function(row)
    return row


def faster(row: dict[str, Any]) -> dict[str, Any]:
    """One of five."""
    row["speed"] *= 3.6
    return row


def bumpy(row: dict[str, Any]) -> dict[str, Any]:
    """One of five."""
    row["rpm"] += 1
    return row


def turned(row: dict[str, Any]) -> dict[str, Any]:
    """One of five."""
    row["heading"] = (row["heading"] + 180) % 360
    return row


def shifted(row: dict[str, Any]) -> dict[str, Any]:
    """One of five."""
    row["gear"] = min(row["gear"] + 1, 8)
    return row


def moved(row: dict[str, Any]) -> dict[str, Any]:
    """One of five."""
    row["lat"] += 0.5
    return row


FIVE: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (faster, bumpy, turned, shifted, moved)
WORK = {"a": a, "five": five}


def main() -> int:
    """Run it; prints figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    for name in ("servers", "topic", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--work", choices=WORK, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    work = WORK[options.work]
    consumer = Consumer({
        "bootstrap.servers": options.servers, "group.id": options.out, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "fetch.message.max.bytes": 8_000_000, "queued.min.messages": 200_000,
    })  # fmt: skip
    producer = Producer({
        "bootstrap.servers": options.servers, "linger.ms": 50, "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random",
    })  # fmt: skip
    consumer.subscribe([options.topic])
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    seen, out, began, cpu = 0, 0, 0.0, 0.0
    while seen < options.count:
        messages = consumer.consume(10_000, 0.1)
        if messages and not seen:
            began, cpu = time.perf_counter(), time.process_time()
        seen += len(messages)
        for message in messages:
            row = work(decode(message.value()))
            if row is None:
                continue
            out += 1
            while True:
                try:
                    producer.produce(options.out, encode(row), message.key(), timestamp=message.timestamp()[1])
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    producer.flush()
    consumer.commit(asynchronous=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    consumer.close()
    print(json.dumps({
        "per_s": round(seen / seconds), "seconds": round(seconds, 3), "out": out, "cpu_us": round(1e6 * cpu / seen, 2),
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
