"""Conformance of the port `topic`: a reader that takes messages ahead still does at once what it is told."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest

from harness.topics import PATIENCE, Place
from tidemill.ports.topic import Partition


def numbered(many: int, start: int = 0) -> list[bytes | None]:
    return [b"%d" % i for i in range(start, start + many)]


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_is_told_other_things_between_large_reads(place: Place, seed: int) -> None:
    """Whatever a reader takes ahead: what is paused, dropped or taken anew is so from the next read on."""
    chance = random.Random(seed)
    topic = place.topic(3)
    each = 20_000
    for number in range(3):
        place.send(topic, numbered(each), partitions=number)
    wanted = {Partition(topic, number): 0 for number in range(3)}
    held: set[Partition] = set()
    reader = place.reader(wanted)
    until = time.monotonic() + PATIENCE
    for _ in range(60):
        one = chance.choice([*map(partial(Partition, topic), range(3))])
        match chance.choice(["read", "read", "read", "pause", "resume", "drop", "take"]):
            case "read":
                limit = chance.choice([700, 4_096, 5_000, 30_000])
                given = reader.read(limit, 0.2)
                assert sum(map(len, given)) <= limit
                for some in given:
                    assert some.partition not in held
                    begin = wanted[some.partition]
                    assert list(some.offsets) == list(range(begin, begin + len(some)))
                    assert list(some.values) == numbered(len(some), begin)
                    wanted[some.partition] += len(some)
            case "pause":
                reader.pause([one])
                held |= {one} & wanted.keys()
            case "resume":
                reader.resume([one])
                held.discard(one)
            case "drop":
                reader.drop([one])
                wanted.pop(one, None)
                held.discard(one)
            case "take":
                wanted[one] = chance.randrange(0, each + 1)
                reader.take({one: wanted[one]})
                held.discard(one)
        assert dict(reader.positions()) == wanted
    reader.resume(list(held))
    while any(offset < each for offset in wanted.values()):
        assert time.monotonic() < until
        for some in reader.read(10_000, 0.2):
            assert some.offsets[0] == wanted[some.partition]
            wanted[some.partition] = some.offsets[-1] + 1
