"""Records within JSON documents: `records="$.data[*]"` says where. Between a feed's text and the reader of JSON Lines.

A feed is one document, or several after each other (JSON Lines are the usual case), and the path is followed in each.
A document that is not large is taken apart by msgspec, which leaves the records as they are written; a larger
one is walked through with a window on its text, so that memory does not grow with it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import msgspec

from tidemill.adapters.arrow.blocks import Cutting, JsonText, as_lines
from tidemill.adapters.arrow.compression import Peekable, Stream
from tidemill.model.errors import DecodeError
from tidemill.plan.jsonpath import Each, Step, compile_path

#: A feed of less bytes is held as a whole.
WHOLE = 32 << 20
#: Names of members that a message shows.
_SHOWN = 8

#: In so many bytes the first line of JSON Lines usually ends.
_HEAD = 1 << 16

_LINES = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


def record_blocks(stream: Stream, cutting: Cutting, whole: int = WHOLE) -> Iterator[bytes]:
    """The records of a feed as blocks of JSON Lines.

    What stands at the path is a record; where that is an array, and the path does not end with `[*]`, each of its
    elements is. Null is none.

    Args:
        stream: the feed's text.
        cutting: its options say where the records are.
        whole: a feed of less bytes is held as a whole.

    Raises:
        DecodeError: it is no JSON, or a document has nothing at the path and the options do not allow that.
    """
    steps = compile_path(cutting.options.records or "$", "records")
    text = Peekable(stream)
    head = text.peek(whole)
    if len(head) < whole:
        try:
            yield from _of_whole(head, steps, cutting)
            return
        except (msgspec.DecodeError, RecursionError, _Elsewhere):
            text = Peekable(io.BytesIO(head))  # read again, slowly: the error knows its place
    documents = _Documents(text, cutting)
    try:
        yield from documents.blocks(steps)
    except RecursionError:
        raise documents.broken("it is nested too deep") from None


class _Elsewhere(Exception):
    """A document has nothing at the path."""


def _members(data: bytes, steps: Sequence[Step], block_bytes: int) -> list[bytes] | None:
    """Blocks of records that are one member of each line of JSON Lines, as `$.record` says; None: it is not as simple.

    A third of the time of the other way: nothing is made of what else a line has, and nothing is done line by line.
    """
    if len(steps) != 1 or not isinstance(steps[0], str) or b"}\n{" not in data[:_HEAD]:
        return None
    kind = msgspec.defstruct("Line", [("value", msgspec.Raw, msgspec.field(name=steps[0]))], gc=False)
    try:
        records = list(map(attrgetter("value"), msgspec.json.Decoder(kind).decode_lines(data)))
    except (msgspec.DecodeError, RecursionError):
        return None
    step = max(1, block_bytes * len(records) // len(data))
    blocks = []
    for at in range(0, len(records), step):
        some = records[at : at + step]
        block = _ENCODER.encode_lines(some)
        if block.count(b"\n") > len(some):  # some are written in several lines
            lines = [bytes(record).replace(b"\n", b" ") for record in some]
            block = b"\n".join(lines) + b"\n"
        # Null is no record, and an array is several.
        if not block.startswith(b"{") or block.count(b"\n{") != len(some) - 1:
            return None
        blocks.append(block)
    return blocks


def _of_whole(data: bytes, steps: Sequence[Step], cutting: Cutting) -> Iterator[bytes]:
    """Raises _Elsewhere, msgspec.DecodeError: before anything was yielded."""
    blocks = _members(data, steps, cutting.block_bytes)
    if blocks is not None:
        yield from blocks
        return
    lines: list[bytes] = []
    try:
        documents = [_LINES.decode(data)]
    except msgspec.DecodeError:
        documents = _LINES.decode_lines(data)
    records: list[msgspec.Raw] = []
    for document in documents:
        if not _find(document, steps, records, ends_in_each(steps)) and not cutting.options.records_optional:
            raise _Elsewhere
    size = 0
    for record in records:
        line = bytes(record)
        lines.append(line.replace(b"\n", b" ") if b"\n" in line else line)
        size += len(line)
        if size >= cutting.block_bytes:
            yield b"\n".join(lines) + b"\n"
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines) + b"\n"


def ends_in_each(steps: Sequence[Step]) -> bool:
    """Whether a path says by itself that the elements of an array are meant."""
    return bool(steps) and isinstance(steps[-1], Each)


def _find(value: msgspec.Raw, steps: Sequence[Step], found: list[msgspec.Raw], as_it_is: bool) -> bool:
    """Add the records of a value; whether there is such a place in it."""
    mark = memoryview(value)[:1].tobytes()
    if mark == b"n":
        return True
    if not steps:
        if mark == b"[" and not as_it_is:
            found += _LIST.decode(value)
        else:
            found.append(value)
        return True
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if mark != b"{":
            return False
        member = _OBJECT.decode(value).get(step)
        return member is not None and _find(member, rest, found, as_it_is)
    if mark != b"[":
        return False
    elements = _LIST.decode(value)
    if isinstance(step, Each):
        if not rest:
            found += elements
            return True
        places = [_find(element, rest, found, as_it_is) for element in elements]
        return not places or any(places)
    return step < len(elements) and _find(elements[step], rest, found, as_it_is)


class _Documents(JsonText):
    """Documents after each other, walked through."""

    def __init__(self, stream: Stream, cutting: Cutting) -> None:
        super().__init__(stream, cutting)
        self._document = 0
        self._is_there = False
        self._names: list[str] = []

    def blocks(self, steps: Sequence[Step]) -> Iterator[bytes]:
        lines: list[str] = []
        size = 0
        while self.skip_space():
            self._document += 1
            self._is_there, self._names = False, []
            for record in self._walk(steps, ends_in_each(steps)):
                lines.append(record)
                size += len(record)
                if size >= self._cutting.block_bytes:
                    yield as_lines(lines)
                    lines, size = [], 0
            if not self._is_there and not self._cutting.options.records_optional:
                raise self._nothing_there()
        if lines:
            yield as_lines(lines)

    def _walk(self, steps: Sequence[Step], as_it_is: bool) -> Iterator[str]:
        """The records of the next value, which is read."""
        mark = self.skip_space()
        if mark == "n":
            self._is_there |= self.value() == "null"
            return
        if not steps:
            self._is_there = True
            if mark == "[" and not as_it_is:
                yield from self._each(lambda _: self._alone())
            else:
                yield self.value()
            return
        step, rest = steps[0], steps[1:]
        if isinstance(step, str):
            if mark != "{":
                self._skip()
                return
            yield from self._members(step, rest, as_it_is)
        elif mark != "[":
            self._skip()
        elif isinstance(step, Each):
            if not rest:
                self._is_there = True
                yield from self._each(lambda _: self._alone())
            else:
                elements = 0

                def walk(at: int) -> Iterator[str]:
                    nonlocal elements
                    elements = at + 1
                    return self._walk(rest, as_it_is)

                yield from self._each(walk)
                self._is_there |= not elements
        else:
            yield from self._each(lambda at: self._walk(rest, as_it_is) if at == step else self._none())

    def _alone(self) -> Iterator[str]:
        yield self.value()

    def _none(self) -> Iterator[str]:
        self._skip()
        return iter(())

    def _each(self, read: Callable[[int], Iterator[str]]) -> Iterator[str]:
        """What `read` gives of each element of the array that comes next."""
        self.take()
        if self.skip_space() == "]":
            self.take()
            return
        at = 0
        while True:
            yield from read(at)
            at += 1
            mark = self.take()
            if mark == "]":
                return
            if mark != ",":
                raise self.broken("a comma or the closing bracket is missing" if mark else "it ends in the middle")

    def _members(self, name: str | None, rest: Sequence[Step], as_it_is: bool) -> Iterator[str]:
        """The records of the member `name` of the object that comes next."""
        self.take()
        if self.skip_space() == "}":
            self.take()
            return
        names: list[str] = []
        while True:
            if self.skip_space() != '"':
                raise self.broken("a name is missing")
            key = json.loads(self.value())
            if self.take() != ":":
                raise self.broken("the colon after a name is missing")
            names.append(key)
            if key == name:
                yield from self._walk(rest, as_it_is)
            else:
                self._skip()
            mark = self.take()
            if mark == "}":
                break
            if mark != ",":
                raise self.broken("a comma or the closing brace is missing" if mark else "it ends in the middle")
        if name is not None and name not in names and not self._names:
            self._names = names

    def _skip(self) -> None:
        """Go past the next value, however large it is."""
        mark = self.skip_space()
        try:
            _, end = self._scan(self._text, self._at)
        except (StopIteration, json.JSONDecodeError, RecursionError):
            end = len(self._text)
        if end < len(self._text):
            self._at = end
        elif mark == "[":
            for _ in self._each(lambda _: self._none()):
                pass
        elif mark == "{":
            for _ in self._members(None, (), True):
                pass
        else:
            self.value()

    def _nothing_there(self) -> DecodeError:
        path, name = self._cutting.options.records, self._cutting.name
        shown = ", ".join(self._names[:_SHOWN]) + (", ..." if len(self._names) > _SHOWN else "")
        return DecodeError(
            f"{name} has nothing at {path}.",
            where=name if self._document == 1 else f"{name}, document {self._document}",
            hint=(f"there is: {shown}; " if shown else "") + "records_optional=True, where it may be missing",
        )

    def broken(self, why: str) -> DecodeError:
        return DecodeError(
            f"{self._cutting.name} is no JSON: {why}.",
            where=f"{self._cutting.name}, document {self._document}" if self._document > 1 else self._cutting.name,
        )
