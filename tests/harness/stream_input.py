"""What programs over topics read: rows made of bytes, by partition, also as messages whose keys have a codec.

Every partition ends with rows far in the future, so that all that is open closes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from harness import naive
from harness.naive import EPOCH, Lines
from tidemill.adapters.memory.registry import MemoryRegistry
from tidemill.model.frame.topic import Topic
from tidemill.wiring.messages import codec_of, key_encoder, reader_of

COLUMNS = {
    "t": "timestamptz",
    "k": "string",
    "v": "long",
    "x": "double",
    "l": "list<long>",
    "s": "struct<a: long, b: string>",
    "i": "long",
    "w": "list<long>",
}
SCHEMA = pl.Schema(
    {
        "t": pl.Datetime("us", "UTC"),
        "k": pl.String(),
        "v": pl.Int64(),
        "x": pl.Float64(),
        "l": pl.List(pl.Int64()),
        "s": pl.Struct({"a": pl.Int64(), "b": pl.String()}),
        "i": pl.Int64(),
        "w": pl.List(pl.Int64()),
    }
)
BEGIN = datetime(2026, 1, 1, tzinfo=EPOCH.tzinfo)
#: When the rows that mark the end happen.
END = BEGIN + timedelta(days=1)

#: How often the keys of rows that mark the end come: as often as count windows want rows.
ROUNDS = 6

#: Gives rows of a partition: its number, the first row's, and how many.
Read = Callable[[int, int, int], pl.DataFrame]


@dataclass(frozen=True)
class Data:
    """The rows of a topic by partition; `lateness` is what the topic allows."""

    topic: Topic
    parts: tuple[tuple[Mapping[str, Any], ...], ...]

    def frames(self) -> list[pl.DataFrame]:
        """The rows as messages bring them."""
        return [
            pl.DataFrame([{n: r[n] for n in SCHEMA} for r in rows], schema=SCHEMA, orient="row") for rows in self.parts
        ]

    def reader(self, names: Sequence[str] | None) -> Read:
        """What gives the rows as a stream reads them, of these columns, or of all.

        Where keys have a codec, the rows are messages before, whose values tell other keys.
        """
        if self.topic.key_codec is None:
            frames = [rows if names is None else rows.select(names) for rows in self.frames()]
            return lambda partition, first, count: frames[partition][first : first + count]
        registry = MemoryRegistry()
        reader, encode = reader_of(self.topic, registry, names), key_encoder(self.topic, registry)
        assert encode is not None
        keys = [encode(rows) for rows in self.frames()]
        values = [codec_of(self.topic).encode(rows.with_columns(k=pl.lit("of the value"))) for rows in self.frames()]

        def read(partition: int, first: int, count: int) -> pl.DataFrame:
            piece = slice(first, first + count)
            found = reader.read(keys[partition][piece], values[partition][piece])
            assert not found.bad, found.bad
            return found.rows

        return read

    def lines(self, number: int) -> Lines:
        """The rows for the naive implementation."""
        return naive.from_topic(self.parts, "t", self.topic.lateness, number)


def read_data(
    name: str,
    data: bytes,
    partitions: int,
    *,
    keyed: bool,
    lateness: int,
    beyond: int = 0,
    first: int = 0,
    key_codec: str | None = None,
) -> Data:
    """Rows of bytes, five for each: so they are made fast, and shrink to few and plain ones.

    Args:
        name: of the topic.
        data: any bytes.
        partitions: how many.
        keyed: whether equal keys are in one partition.
        lateness: seconds; rows are behind others by as much at most.
        beyond: seconds that they are behind at most besides.
        first: the number of the first row.
        key_codec: how keys are written, where rows are keyed.
    """
    parts: list[list[dict[str, Any]]] = [[] for _ in range(partitions)]
    second = 0
    for place in range(0, len(data) - 4, 5):
        a, b, c, d, e = data[place : place + 5]
        second += (0, 0, 1, 1, 2, 5)[a % 6]
        key = ("a", "b", "c", "d", None)[c % 5] if c < 200 else "a"
        value = None if d % 12 == 11 else d % 11 - 5
        row = {
            "t": None if b > 245 else BEGIN + timedelta(seconds=second - b % (lateness + beyond + 1)),
            "k": key,
            "v": value,
            "x": (0.5, None, 1.5, -2.25, 3.0)[e % 5],
            "l": ([1], [], None, [value, 2])[e % 4],
            "s": None if e % 16 == 15 else {"a": e % 3, "b": (None, "q")[e % 2]},
            "i": first + place // 5,
            "w": ([7], None, [], [value, 8])[e // 4 % 4],
        }
        parts[(ord(key or "z") if keyed else c // 50) % partitions].append(row)
    for number, part in enumerate(parts):
        part += _marks(number)
    topic = Topic(
        name,
        COLUMNS,
        key=("k",) if keyed else (),
        time="t",
        lateness=timedelta(seconds=lateness),
        partitions=partitions,
        key_codec=key_codec if keyed else None,
    )
    return Data(topic, tuple(map(tuple, parts)))


def _marks(partition: int) -> list[dict[str, Any]]:
    """Rows that end a partition: so many, and so different, that some come through whatever a program does to them."""
    keys = [f"z{partition}{n}" for n in range(3)] * ROUNDS + [f"z{partition}{n}" for n in range(3, 9)]
    return [
        {
            "t": END + timedelta(hours=n),
            "k": key,
            "v": 1001 + n * 3,
            "x": 0.25,
            "l": [1],
            "s": {"a": 1, "b": "q"},
            "i": -1 - n,
            "w": [7],
            "marked": True,
        }
        for n, key in enumerate(keys)
    ]
