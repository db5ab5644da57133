"""Which messages of a topic a batch takes: from the bookmark, the topic as it is now, and what its user wants.

A bookmark is `{"topic": "orders", "id": "...", "offsets": {"0": 120, "1": 88}}`: of each partition the offset of the
next message. `"from"` is where its batch began, if that is not where the bookmark before it stood (the first batch, and
the first of a topic that was made again), so that the same range can be asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.topic_feed import OnLoss, Start

_GO_ON = 'on_loss="warn" goes on with what there is, and tells in the quarantine what is missing'


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a topic has been read; by partition number.

    Args:
        topic, id: which, and which of those that have had its name; an empty id is not known.
        offsets: of the next messages.
        begun: where the batch began, where no bookmark says so.
    """

    topic: str
    id: str
    offsets: Mapping[int, int]
    begun: Mapping[int, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As a bookmark."""
        told: dict[str, Any] = {"topic": self.topic, "id": self.id, "offsets": _texts(self.offsets)}
        return {**told, "from": _texts(self.begun)} if self.begun else told

    @classmethod
    def of_json(cls, told: Any) -> Reached | None:
        """The inverse of `as_json`; None of no bookmark."""
        if told is None:
            return None
        return cls(told["topic"], told["id"], _numbers(told["offsets"]), _numbers(told.get("from", {})))


@dataclass(frozen=True, slots=True)
class Here:
    """A topic as it is now: `first` and `end` by partition number, as in `TopicInfo`."""

    topic: str
    id: str
    first: Sequence[int]
    end: Sequence[int]


@dataclass(frozen=True, slots=True)
class Range:
    """What a batch takes: by partition number, from `begin` up to, not including, `end`.

    `remade`: what the topic of before had, as the one that there is now has nothing of it; None: it is the same.
    """

    begin: Mapping[int, int]
    end: Mapping[int, int]
    remade: Reached | None = None


def range_of(
    here: Here,
    before: Reached | None,
    until: Reached | None,
    *,
    start: Start = "earliest",
    ends: Sequence[int] | None = None,
    on_loss: OnLoss = "fail",
) -> Range:
    """The messages of the next batch, or again those of one that was extracted before.

    Args:
        here: the topic.
        before: the bookmark; None: there is none.
        until: the end of a range that was extracted before; None: this is the next batch.
        start: where the first batch begins.
        ends: where the next batch ends at the latest; None: at the ends that there are.
        on_loss: what to do where the topic was made again.

    Raises:
        DefinitionError: the bookmark is of a topic of another name.
        DataError: the topic was made again, or has fewer messages than were read.
    """
    for known in (before, until):
        if known is not None and known.topic != here.topic:
            raise DefinitionError(
                f'The bookmark is of topic "{known.topic}", and the source reads "{here.topic}".',
                hint="give the source another name: its table and bookmark are then its own",
            )
    if until is not None:
        return _again(here, before, until)
    remade = before is not None and _is_other(here, before)
    if remade and on_loss == "fail":
        assert before is not None
        raise DataError(f'Topic "{here.topic}" {_why(here, before)}.', hint=_GO_ON)
    read: Mapping[int, int] = {} if remade or before is None else before.offsets
    fresh = here.end if before is None and start == "latest" else here.first
    begin = {number: read.get(number, oldest) for number, oldest in enumerate(fresh)}
    latest = here.end if ends is None else [min(pair) for pair in zip(here.end, ends, strict=True)]
    end = {number: max(offset, begin[number]) for number, offset in enumerate(latest)}
    return Range(begin, end, before if remade else None)


def _again(here: Here, before: Reached | None, until: Reached) -> Range:
    """The range of a batch that was extracted before: partitions that came later are not of it."""
    if _is_other(here, until):
        raise DataError(
            f'Topic "{here.topic}" {_why(here, until)}: it no longer has the messages of this batch.',
            hint="they are in the archive: run the batch again without asking the source",
        )
    known = until.begun or (before.offsets if before is not None else {})
    begin = {n: min(known.get(n, here.first[n]), offset) for n, offset in until.offsets.items()}
    return Range(begin, dict(until.offsets))


def _is_other(here: Here, known: Reached) -> bool:
    """Whether the topic is another one than was read, or has lost its end."""
    if known.id and here.id and known.id != here.id:
        return True
    return any(number >= len(here.end) or offset > here.end[number] for number, offset in known.offsets.items())


def _why(here: Here, known: Reached) -> str:
    if known.id and here.id and known.id != here.id:
        return "was deleted and made again since it was read"
    if len(here.end) <= max(known.offsets):
        return f"has {len(here.end)} partitions, and partition {max(known.offsets)} of it was read"
    number = next(n for n, offset in known.offsets.items() if offset > here.end[n])
    return f"ends at offset {here.end[number]} of partition {number}, and was read up to {known.offsets[number]}"


def _texts(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(number): offset for number, offset in sorted(offsets.items())}


def _numbers(told: Mapping[str, int]) -> dict[int, int]:
    return {int(number): offset for number, offset in told.items()}
