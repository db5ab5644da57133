"""Cutting a stream into blocks of whole records, and doing so ahead of the decoding, in a thread of its own.

A block is the unit of everything that follows: it is parsed by one call, outside the interpreter's lock, and nothing
larger is ever held in memory.
"""

from __future__ import annotations

import codecs
import json
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tidemill.adapters.arrow.compression import Peekable, Stream
from tidemill.model.errors import DecodeError, LimitError, SettingsError
from tidemill.ports.decoder import DecodeOptions

T = TypeVar("T")

#: Bytes of a block: large enough that a call's cost vanishes (0.1 ms against 60), small enough for the cache.
BLOCK_BYTES = 4 << 20
#: A record may be so long, or so many times its longest field, before its end is given up for lost.
_RECORD_BYTES, _RECORD_FIELDS = 64 << 20, 4

#: Byte order marks and what they announce; the 32-bit one begins like the 16-bit one, so it comes first.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Where the last whole record in some bytes ends, 0 if there is none.
Cut = Callable[[bytes], int]


@dataclass(frozen=True, slots=True)
class Cutting:
    """What cutting needs to know: the feed's name for messages, the size of blocks, and the limits."""

    name: str
    options: DecodeOptions
    block_bytes: int = BLOCK_BYTES

    @property
    def max_record(self) -> int:
        """How long one record may be."""
        return max(_RECORD_BYTES, _RECORD_FIELDS * self.options.max_field)


def cut_blocks(stream: Stream, cut: Cut, cutting: Cutting) -> Iterator[bytes]:
    """Blocks that end where records end, by `cut`; the last one ends where the stream does.

    Raises:
        LimitError: a record is longer than `Cutting.max_record`.
    """
    held = b""
    wanted = cutting.block_bytes
    while True:
        parts, size = [held], len(held)
        while size < wanted and (more := stream.read(max(wanted - size, 1))):
            parts.append(more)
            size += len(more)
        held = b"".join(parts)
        if size < wanted:
            break
        end = cut(held)
        if end:
            yield held[:end]
            held = held[end:]
            wanted = max(cutting.block_bytes, len(held) + 1)
        elif size > cutting.max_record:
            raise record_too_long(cutting)
        else:
            wanted = min(size * 2, cutting.max_record + 1)
    if held:
        yield held


def record_too_long(cutting: Cutting) -> LimitError:
    """The error for a record without an end in sight."""
    return LimitError(
        f"{cutting.name} holds a record that is longer than {cutting.max_record:,} bytes.",
        where=cutting.name,
        hint="check the format, or raise max_field",
    )


def cut_lines(held: bytes) -> int:
    """After the last line feed."""
    return held.rfind(b"\n") + 1


def text_stream(stream: Peekable, encoding: str | None, name: str) -> Stream:
    """The stream in UTF-8 and without a byte order mark, which also tells the encoding where none is declared.

    Raises:
        SettingsError: no such encoding.
        DecodeError: while reading, bytes that the (other than UTF-8) encoding has not.
    """
    mark, found = next(((m, e) for m, e in _BOMS if stream.peek(4).startswith(m)), (b"", "utf-8"))
    try:
        kind = codecs.lookup(encoding or found).name
    except LookupError:
        raise SettingsError(f'There is no encoding "{encoding}".', hint='"utf-8", "cp1252", "utf-16" ...') from None
    if kind in ("utf-8", "utf-8-sig", "ascii"):
        if found == "utf-8":
            stream.read(len(mark))
        return stream
    return _Transcoded(stream, kind, name)


class _Transcoded:
    """A stream of another encoding, read as UTF-8."""

    def __init__(self, stream: Stream, encoding: str, name: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._name = name
        self._done = 0

    def read(self, size: int) -> bytes:
        while True:
            raw = self._stream.read(size)
            try:
                text = self._decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                raise DecodeError(
                    f"{self._name} is not {self._encoding}: {error.reason}.",
                    where=f"{self._name}, byte {self._done + error.start:,}",
                    hint="declare its encoding",
                ) from None
            self._done += len(raw)
            if text or not raw:
                return text.encode()

    def close(self) -> None:
        self._stream.close()


def array_blocks(stream: Peekable, cutting: Cutting) -> Iterator[bytes]:
    """A JSON document that is one array, as blocks of JSON Lines: one element a line.

    Raises:
        DecodeError: the document is broken; there is no telling where the next element would begin.
        LimitError: an element is longer than `Cutting.max_record`.
    """
    return _Array(stream, cutting).blocks()


_SPACE = " \t\r\n"


class JsonText(ABC):
    """JSON text and how far it has been read. Bytes that are no UTF-8 pass through, to be judged by record."""

    def __init__(self, stream: Stream, cutting: Cutting) -> None:
        self._stream = stream
        self._cutting = cutting
        self._scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # public in CPython, not in typeshed
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._ended = False

    def value(self) -> str:
        """The next value as it is written.

        Raises:
            DecodeError: it is broken. LimitError: it is longer than `Cutting.max_record`.
        """
        while True:
            self.skip_space()
            try:
                _, end = self._scan(self._text, self._at)
                whole = end < len(self._text) or self._ended
                why = ""
            except (StopIteration, json.JSONDecodeError) as error:
                whole, why = False, error.msg.lower() if isinstance(error, json.JSONDecodeError) else "expecting value"
            except RecursionError:
                raise self.broken("it is nested too deep") from None
            if whole:
                raw, self._at = self._text[self._at : end], end
                return raw
            if len(self._text) - self._at > self._cutting.max_record:
                raise record_too_long(self._cutting)
            if not self._more(max(self._cutting.block_bytes, len(self._text) - self._at)):
                raise self.broken(why)

    def skip_space(self) -> str:
        """Move to the next character that counts, and give it; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more(self._cutting.block_bytes):
                return ""

    def take(self) -> str:
        """The next character that counts, which is read."""
        mark = self.skip_space()
        self._at += 1
        return mark

    def _more(self, size: int) -> bool:
        if self._ended:
            return False
        raw = self._stream.read(size)
        self._ended = not raw
        self._text = self._text[self._at :] + self._decoder.decode(raw, final=self._ended)
        self._at = 0
        return True

    @abstractmethod
    def broken(self, why: str) -> DecodeError:
        """The error for text that is no JSON."""


class _Array(JsonText):
    """A document that is one array."""

    def __init__(self, stream: Peekable, cutting: Cutting) -> None:
        super().__init__(stream, cutting)
        self._elements = 0

    def blocks(self) -> Iterator[bytes]:
        self.take()  # the opening bracket, by which the document was recognised
        lines: list[str] = []
        size = 0
        if self.skip_space() == "]":
            self.take()
        else:
            while True:
                lines.append(self.value())
                self._elements += 1
                size += len(lines[-1])
                if size >= self._cutting.block_bytes:
                    yield as_lines(lines)
                    lines, size = [], 0
                mark = self.take()
                if mark == "]":
                    break
                if mark != ",":
                    raise self.broken("a comma or the closing bracket is missing" if mark else "it ends in the middle")
        if lines:
            yield as_lines(lines)
        if self.skip_space():
            raise self.broken("something follows the closing bracket")

    def broken(self, why: str) -> DecodeError:
        return DecodeError(
            f"The JSON array in {self._cutting.name} is broken: {why}.",
            where=f"{self._cutting.name}, element {self._elements + 1}",
        )


def as_lines(elements: list[str]) -> bytes:
    """Elements as lines. A line feed within an element is white space: JSON strings hold none unescaped."""
    return "".join(e.replace("\n", " ") + "\n" for e in elements).encode("utf-8", "surrogateescape")


def ahead(items: Iterator[T], depth: int) -> Generator[T]:
    """`items`, produced in a thread of its own, at most `depth` ahead of their use. Ends the thread when closed."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def hand_over(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def produce() -> None:
        try:
            for item in items:
                hand_over(item, None)
                if stop.is_set():
                    break
            else:
                hand_over(None, StopIteration())
        except BaseException as error:  # it is raised where the items are used
            hand_over(None, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=produce, name="tidemill-decode-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None only beside an error
    finally:
        stop.set()
        thread.join()
