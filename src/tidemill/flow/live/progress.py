"""How far a topic's source is: a record in a topic of its own, committed in one step with the messages.

A group's position would do, but for two things: its note holds 2,000 bytes, and brokers forget the positions of a
group that has been silent for a week; the source would begin again, and every message come twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidemill.flow.stream.stretch import stretch
from tidemill.ports.clock import Clock
from tidemill.ports.topic import Partition, Topics, TopicSpec

#: Records that are read from the end, at first; the last one may be behind markers of transactions.
_FEW = 8
_KEY = b"progress"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the record says.

    Args:
        source: which one, as its declaration is written; the position of another one is not its.
        position: from where it goes on; JSON.
        messages: how many it has given.
        at: when it gave the last ones.
    """

    source: str
    position: Any
    messages: int
    at: datetime

    def record(self) -> tuple[bytes, bytes]:
        """Key and value of the message that keeps it."""
        made = {
            "source": self.source,
            "position": self.position,
            "messages": self.messages,
            "at": self.at.isoformat(),
        }
        return _KEY, json.dumps(made, ensure_ascii=False).encode()


def progress_topic(topic: str) -> TopicSpec:
    """The topic that keeps how far a topic's source is."""
    return TopicSpec(f"{topic}.source", cleanup="compact")


def progress_of(topics: Topics, clock: Clock, topic: str) -> Progress | None:
    """How far a topic's source is; None: it has given nothing yet.

    Raises:
        Unreachable: the broker does not answer.
    """
    info = topics.describe(progress_topic(topic).name)
    if info is None:
        return None
    partition = Partition(info.name, 0)
    first, end = info.first[0], info.end[0]
    several = _FEW
    while True:
        begin = max(first, end - several)
        # The last one; a tombstone: it was forgotten.
        last = [messages.values[-1] for messages in stretch(topics, clock, {partition: begin}, {partition: end})]
        if last:
            return None if last[-1] is None else _read(last[-1])
        if begin == first:
            return None
        several *= 8


def _read(value: bytes) -> Progress:
    read = json.loads(value)
    return Progress(read["source"], read["position"], read["messages"], datetime.fromisoformat(read["at"]))


def forget_progress(topics: Topics, clock: Clock, topic: str) -> Progress | None:
    """Have a topic's source begin anew; gives how far it was.

    Who feeds the topic just then loses its place by this, asks again how far it is, and finds nothing.
    """
    spec = progress_topic(topic)
    if topics.describe(spec.name) is None:
        return None
    writer = topics.writer(identity_of(topic), "exactly-once")
    try:
        found = progress_of(topics, clock, topic)
        if found is not None:
            writer.send(spec.name, [None], keys=[_KEY], partitions=0)
            writer.commit({})
    finally:
        writer.close()
    return found


def identity_of(topic: str) -> str:
    """The name of whoever feeds a topic, as a writer: a later one fences the one before."""
    return f"source.{topic}"
