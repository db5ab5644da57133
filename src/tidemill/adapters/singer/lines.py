"""A tap's output, taken apart by lines: which stream each is for, and whether it is what it claims to be.

Records stay as they came. A block of lines is checked in one call that makes no record: that they are JSON, and that
`record` is an object. Only where it fails is each line looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True)
class Run:
    """Lines of one kind that follow each other.

    Args:
        type: of the messages; "" for lines that are no messages.
        stream: that they are for; None: they name none.
        data: as they came, each with its newline.
        count: how many.
        version: that all of them name; None: none does.
    """

    type: str
    stream: str | None
    data: bytes
    count: int
    version: int | None = None

    @property
    def lines(self) -> list[bytes]:
        """Line by line, without newlines."""
        return self.data.split(b"\n")[:-1]


_DECODER = msgspec.json.Decoder(_Message)
_WRONG = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def runs_of(block: bytes) -> Iterator[Run]:
    """The runs of a block of whole lines; empty lines are left out."""
    if not block.endswith(b"\n"):
        block += b"\n"
    try:
        messages = _DECODER.decode_lines(block)
        whole = len(messages) == block.count(b"\n")
    except _WRONG:
        messages, whole = [], False
    if whole and len({(one.type, one.stream, one.record is None, one.version) for one in messages}) == 1:
        # Most blocks are of one stream: they go as they are.
        kind, stream, version = _mark(messages[0])
        yield Run(kind, stream, block, len(messages), version)
        return
    lines = block.split(b"\n")
    lines.pop()
    if not whole:
        lines = [line for line in lines if line.strip()]
        messages = [_message(line) for line in lines]
    at = 0
    for (kind, stream, version), group in groupby(messages, _mark):
        count = len(list(group))
        yield Run(kind, stream, b"\n".join(lines[at : at + count]) + b"\n", count, version)
        at += count


def _mark(message: _Message) -> tuple[str, str | None, int | None]:
    """Type, stream and version of a message; what is none, or lacks what its type needs, has no type."""
    if message.type == "RECORD" and (message.record is None or message.stream is None):
        return "", message.stream, None
    if message.type == "ACTIVATE_VERSION" and (message.version is None or message.stream is None):
        return "", message.stream, None
    return message.type, message.stream, message.version


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
