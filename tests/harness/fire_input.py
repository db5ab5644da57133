"""The producer of a stream under fire, a process of its own. Arguments: SERVERS TOPIC PARTITIONS RATE FIRST.

Writes messages from number FIRST on, RATE a second, until SIGTERM; then, to each partition, one whose event time is far
ahead, which closes all windows. Prints `next number, acknowledged, refused` now and then. Ends with 0 when everything
is acknowledged. Without a RATE (0) it writes only those that end everything.

A process, since a client whose broker dies at the wrong moment may never come back: it can be killed and replaced.
"""

from __future__ import annotations

import json
import signal
import sys
import time

from confluent_kafka import Producer

#: Milliseconds of event time by which the last messages are ahead.
END = 3_600_000


def main(servers: str, topic: str, partitions: int, rate: int, first: int) -> int:
    """Write; gives the exit code."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    settings = {
        "bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 0,
        "message.timeout.ms": 120_000, "partitioner": "murmur2_random",
    }  # fmt: skip
    producer = Producer(settings)
    counts = {"acknowledged": 0, "refused": 0}

    def send(ts: int, number: int, **where: int) -> None:
        row = {"ts": ts, "key": f"k{number % 50}", "team": f"t{number % 7}", "v": number % 100}

        def told(error: object, _: object) -> None:
            counts["acknowledged" if error is None else "refused"] += 1

        producer.produce(topic, json.dumps(row).encode(), str(row["key"]).encode(), on_delivery=told, **where)
        producer.poll(0)

    number, began, told_at = first, time.monotonic(), 0.0
    while not stopping and rate:
        now = time.monotonic()
        while number < first + int((now - began) * rate):
            send(number * 1000 // rate, number)
            number += 1
        producer.poll(0.01)
        if now - told_at > 0.5:
            told_at = now
            print(number, counts["acknowledged"], counts["refused"], flush=True)
    for partition in range(partitions):
        send(END, partition, partition=partition)
    left = producer.flush(60)
    print(number, counts["acknowledged"], counts["refused"], flush=True)
    return 1 if left or counts["refused"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
