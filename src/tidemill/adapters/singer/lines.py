"""A tap's output, taken apart by lines: which stream each is for, and whether it is what it claims to be.

Records stay as they came. A block of lines is checked in one call that makes no record: that they are JSON, and that
`record` is an object. Only where it fails is each line looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec


class _Record(msgspec.Struct, gc=False):
    """Any object: its members are checked to be JSON, and skipped."""


class _Message(msgspec.Struct, gc=False):
    type: str
    stream: str | None = None
    record: _Record | None = None
    version: int | None = None

    @property
    def holds(self) -> bool:
        return self.type != "RECORD" or (self.record is not None and self.stream is not None)


@dataclass(frozen=True, slots=True)
class Run:
    """Lines of one kind that follow each other.

    Args:
        type: of the messages; "" for lines that are no messages.
        stream: that they are for; None: they name none.
        lines: as they came, without newlines.
        version: the last that records named.
    """

    type: str
    stream: str | None
    lines: Sequence[bytes]
    version: int | None = None


_DECODER = msgspec.json.Decoder(_Message)
_WRONG = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def runs_of(block: bytes) -> Iterator[Run]:
    """The runs of a block of whole lines; empty lines are left out."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    try:
        messages = _DECODER.decode_lines(block)
        whole = len(messages) == len(lines)
    except _WRONG:
        whole = False
    if not whole:
        lines = [line for line in lines if line.strip()]
        messages = [_message(line) for line in lines]
    at = 0
    for (kind, stream), group in groupby(messages, _mark):
        several = list(group)
        yield Run(kind, stream, lines[at : at + len(several)], several[-1].version)
        at += len(several)


def _mark(message: _Message) -> tuple[str, str | None]:
    if message.type == "RECORD":
        if message.record is None or message.stream is None:
            return "", message.stream
        return "RECORD", message.stream
    return message.type, message.stream


def _message(line: bytes) -> _Message:
    """A line as a message; one that is none has no type."""
    try:
        return _DECODER.decode(line)
    except _WRONG:
        return _Message("", _claimed(line))


def _claimed(line: bytes) -> str | None:
    """The stream that a line names which is no message otherwise."""
    try:
        found = msgspec.json.decode(line)
    except _WRONG:
        return None
    stream = found.get("stream") if isinstance(found, dict) else None
    return stream if isinstance(stream, str) else None
