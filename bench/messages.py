"""Messages of cars on the road: JSON objects of some 119 bytes, written fast, the same for the same numbers."""

from __future__ import annotations

import polars as pl

START = 1_700_000_000_000


def messages(count: int, keys: int = 1000, first: int = 0, per_ms: int = 10) -> pl.DataFrame:
    """Columns `key` (text), `value` (text) and `ts` (milliseconds); `per_ms` messages a millisecond of event time.

    Times go forth and back by up to 50 ms.
    """
    number = pl.int_range(first, first + count, eager=True)
    chance = [number.hash(seed) for seed in range(1, 9)]
    ts = START + number // per_ms + (chance[0] % 100).cast(pl.Int64) - 50
    frame = pl.DataFrame(
        {
            "ts": ts,
            "key": "car-" + (chance[1] % keys).cast(pl.String).str.zfill(7 if keys > 10_000 else 4),
            "lat": (50 + (chance[2] % 1_000_000) / 1e6).round(6),
            "lon": (14 + (chance[3] % 1_000_000) / 1e6).round(6),
            "speed": ((chance[4] % 6000) / 100).round(2),
            "rpm": (chance[5] % 11_200).cast(pl.Int64) + 800,
            "gear": (chance[6] % 8).cast(pl.Int64) + 1,
            "heading": ((chance[7] % 3600) / 10).round(1),
        }
    )
    return frame.select("key", pl.struct(pl.all()).struct.json_encode().alias("value"), "ts")


def fill(servers: str, topic: str, count: int, keys: int = 1000, per_ms: int = 10) -> int:
    """Write messages to a topic, keyed; returns the bytes of all values."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 50,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )
    size = 0
    for first in range(0, count, 100_000):
        part = messages(min(100_000, count - first), keys, first, per_ms)
        for key, value, ts in part.iter_rows():
            data = value.encode()
            size += len(data)
            while True:
                try:
                    producer.produce(topic, data, key.encode(), timestamp=ts)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    return size
