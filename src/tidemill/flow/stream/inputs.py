"""The topics that a stream reads, as they were when it began: whether they are still the same.

A topic that is deleted and made again begins at offset 0: positions of the one before would skip messages, or none
would be known, and state would count messages twice. So each position says of which topic it is, and state says so,
too. New partitions would be read by nobody: the topics are looked at now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.flow.stream.asking import QUICKLY
from tidemill.flow.stream.notes import Note, position_of
from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.errors import RunFailed, Unreachable
from tidemill.ports.topic import Partition, Position, TopicInfo, Topics

_log = logging.getLogger("tidemill")

#: Seconds between two looks: with Kafka one takes six requests for each topic.
EVERY = 30.0


class Inputs:
    """The topics of a process's sources and exchanges.

    Args:
        plan: the stream.
        topics: the broker.
        now: seconds of the clock.

    Raises:
        RunFailed: one is not there.
    """

    def __init__(self, plan: StreamPlan, topics: Topics, now: float) -> None:
        self._plan = plan
        self._topics = topics
        names = {plan.topic_of(node) for stage in plan.topology.stages for node in plan.sources(stage)}
        self._known = {name: self._described(name) for name in sorted(names)}
        self._looked = now

    @property
    def ids(self) -> Mapping[str, str]:
        """Ids by name."""
        return {name: info.id for name, info in self._known.items()}

    def first(self, partition: Partition) -> int:
        """The offset of a partition's oldest message."""
        return self._known[partition.topic].first[partition.number]

    def position(
        self, partition: Partition, offset: int, counted: list[Any] | None, times: list[Any] | None
    ) -> Position:
        """A position that says of which topic it is, what checks have counted until then, and what time it is then."""
        return position_of(offset, self._known[partition.topic].id, counted, times)

    def checked(self, came: Mapping[Partition, Position]) -> Mapping[Partition, Position]:
        """How far the group has come in the topics that there are.

        Raises:
            RunFailed: that was in topics of the same names that are gone, and the stream does not bear losses.
        """
        gone = {p for p, position in came.items() if Note.of(position).topic not in ("", self._known[p.topic].id)}
        for partition in sorted(gone):
            remade(self._plan, partition.topic)
        return {partition: position for partition, position in came.items() if partition not in gone}

    def look(self, now: float) -> None:
        """See, if it is time to, whether the topics are as they were. Raises RunFailed."""
        if now - self._looked < EVERY:
            return
        self._looked = now
        for name, known in self._known.items():
            try:
                info = self._described(name, QUICKLY)
            except Unreachable:  # who reads and writes it finds out; there are other looks
                return
            if info.id != known.id:
                remade(self._plan, name)
            if info.partitions != known.partitions:
                raise RunFailed(
                    f'"{self._plan.name}" stops: "{name}" has {info.partitions} partitions now, not '
                    f"{known.partitions}.",
                    hint="it reads all of them when it begins again; one that remembers something is made anew first: "
                    f"tidemill stream reset {self._plan.name}",
                )

    def explain(self) -> None:
        """Something was not there: say which topic of the stream that is. Raises RunFailed."""
        own = [spec.name for spec in self._plan.own_topics()]
        for name in (*own, *(topic.name for topic in self._plan.written())):
            self._described(name)
        self.look(float("inf"))

    def _described(self, name: str, timeout: float | None = None) -> TopicInfo:
        info = self._topics.describe(name, timeout)
        if info is None:
            raise deleted(self._plan, f'There is no topic "{name}" any more.')
        return info


def deleted(plan: StreamPlan, what: str) -> RunFailed:
    """The error for a topic that is not there any more."""
    return RunFailed(
        f'"{plan.name}" stops: {what}',
        hint=f"make it again where it was deleted by mistake; tidemill stream reset {plan.name} begins anew",
    )


def remade(plan: StreamPlan, topic: str) -> None:
    """Somebody has deleted a topic and made it again. Raises RunFailed, unless the stream bears losses."""
    if not plan.bears_loss:
        raise RunFailed(
            f'"{plan.name}" stops: "{topic}" was deleted and made again since it was read.',
            hint=f"tidemill stream reset {plan.name} begins anew with what there is; "
            'errors={"lost": "skip"} goes on with the new one',
        )


def see_state(plan: StreamPlan, known: Mapping[str, str], now: Mapping[str, str], missing: Sequence[Partition]) -> None:
    """Whether state may be gone on with.

    Args:
        plan: the stream.
        known: ids of the topics that the state is of.
        now: ids of the topics that there are.
        missing: partitions of which nobody knows how far they were read.

    Raises:
        RunFailed: it is of messages of other topics, or would count messages twice; and the stream bears no losses.
    """
    for topic, was in known.items():
        if was != now.get(topic, was):
            remade(plan, topic)
    twice = [partition for partition in missing if partition.topic in known]
    if twice and not plan.bears_loss:
        raise RunFailed(
            f'"{plan.name}" stops: how far it has read {twice[0]} is not known any more, and its state knows messages '
            "of it. Kafka forgets positions that stood still for a week (offsets.retention.minutes).",
            hint=f"tidemill stream reset {plan.name} makes it anew from what the topics still hold",
        )


def see_loss(plan: StreamPlan, partition: Partition, wanted: int, oldest: int) -> int:
    """Messages are gone that were to be read next: either that was given up, or it ends the stream. Gives how many.

    Raises:
        RunFailed: the stream bears no losses.
    """
    if wanted > oldest:
        what = f"{partition} has no message {wanted}: the topic was made again, its oldest is {oldest}"
    else:
        what = f"messages {wanted} to {oldest - 1} of {partition} were removed before they were read"
    if not plan.bears_loss:
        raise RunFailed(
            f'"{plan.name}" stops: {what}.',
            hint=f"tidemill stream reset {plan.name} begins anew with what there is; "
            'errors={"lost": "skip"} goes on without them',
        )
    _log.warning("%s: %s; going on without them.", plan.name, what)
    return max(0, oldest - wanted)
