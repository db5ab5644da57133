"""Captures what a try of a task says: `logging`, `print`, and whatever C libraries and programs write.

    logging ------------------------.
    sys.stdout, sys.stderr ---------+--> mask -> writer
    descriptors 1 and 2 -> spool ---'

A worker's descriptors 1 and 2 are files of its own, which are read back: at each line from elsewhere, ten times a
second, and at the try's end. A pipe with a thread behind it would do without files, but hangs: a library that writes
more than a pipe holds (64 KB) while it has the interpreter's lock waits for a thread that waits for the lock. The files
are made once for a worker and have no names, so nothing is left of them; their reading ends are shared with the
executor, which so finds the last words of a worker that died.

    spool = Spool.redirect()                                            # once, in the worker's process
    with captured(logs.open(place), masker, spool):                     # for each try: 20 us where nothing is said
        ...
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import faulthandler
import fcntl
import io
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tidemill.model.masking import Masker
from tidemill.ports.tasklogs import LogWriter

#: How often descriptors are looked at, in seconds; a reader sees a line so late at most.
LOOK_EVERY = 0.1
#: After so many looks that found no try under way the thread sleeps until the next begins.
_IDLE_LOOKS = 20
#: A longer line is cut into pieces.
LONGEST_LINE = 1 << 15
#: A spool that has grown beyond is emptied after the try, or when the log is full.
_SPOOL_KEPT = 1 << 20
_READ = 1 << 16

_SOURCES = ("stdout", "stderr")


class _Lines:
    """Cuts one source's text into lines, and writes them."""

    def __init__(self, source: str, write: Callable[[str, str, str], None]) -> None:
        self._source = source
        self._write = write
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, text: str) -> None:
        if "\n" not in text and len(self._rest) + len(text) <= LONGEST_LINE:
            self._rest += text
            return
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._say(line)
        if len(self._rest) > LONGEST_LINE:
            self._say(self._rest)
            self._rest = ""

    def feed_bytes(self, data: bytes) -> None:
        self.feed(self._decoder.decode(data))

    def finish(self) -> None:
        self.feed(self._decoder.decode(b"", final=True))
        if self._rest:
            self._say(self._rest)
            self._rest = ""

    def _say(self, line: str) -> None:
        line = line.removesuffix("\r")
        for start in range(0, max(len(line), 1), LONGEST_LINE):
            self._write("INFO", self._source, line[start : start + LONGEST_LINE])


class Spool:
    """Files behind descriptors 1 and 2 of this process, and the try that they belong to."""

    def __init__(self, readers: Sequence[int]) -> None:
        self._readers = tuple(readers)
        self._at = [0] * len(readers)
        self._sink: _Sink | None = None
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._libc = ctypes.CDLL(None)

    @classmethod
    def redirect(cls) -> Spool:
        """Let descriptors 1 and 2 of this process be files that can be read back."""
        readers = []
        for descriptor in (1, 2):
            writer, path = tempfile.mkstemp(prefix="tidemill-")
            fcntl.fcntl(writer, fcntl.F_SETFL, os.O_APPEND)
            readers.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            os.unlink(path)
            os.dup2(writer, descriptor)
            if writer != descriptor:
                os.close(writer)
        # A crash in a library then tells where the program was.
        faulthandler.enable(file=2)
        root = logging.getLogger()
        root.setLevel(min(root.level, logging.INFO))
        return cls(readers)

    @property
    def readers(self) -> tuple[int, ...]:
        """Descriptors that stand where reading goes on; for whoever outlives this process."""
        return self._readers

    def attach(self, sink: _Sink) -> None:
        """From now on the descriptors belong to a try; what somebody wrote between two tries is nobody's."""
        for place, reader in enumerate(self._readers):
            size = os.fstat(reader).st_size
            if size != self._at[place]:
                self._at[place] = os.lseek(reader, size, os.SEEK_SET)
        self._sink = sink
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="tidemill-output", daemon=True)
            self._thread.start()
        if not self._awake.is_set():
            self._awake.set()

    def detach(self) -> None:
        """The try is over."""
        self._libc.fflush(None)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.take_in()
        if any(at > _SPOOL_KEPT for at in self._at):
            self.empty()

    def empty(self) -> None:
        """Give back the space; what is written at this moment is lost."""
        for place, (reader, writer) in enumerate(zip(self._readers, (1, 2), strict=True)):
            os.ftruncate(writer, 0)
            self._at[place] = os.lseek(reader, 0, os.SEEK_SET)

    def news(self) -> Iterator[tuple[int, bytes]]:
        """What was written since the last time: which descriptor's, and bytes."""
        for place, reader in enumerate(self._readers):
            if os.fstat(reader).st_size > self._at[place]:
                while data := os.read(reader, _READ):
                    self._at[place] += len(data)
                    yield place, data

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            self._awake.wait()
            idle = 0
            while idle < _IDLE_LOOKS:
                pause.wait(LOOK_EVERY)
                sink = self._sink
                idle = 0 if sink is not None else idle + 1
                if sink is not None:
                    sink.take_in()
            self._awake.clear()
            if self._sink is not None:  # it began in between
                self._awake.set()


class _Sink:
    """Where everything that one try says meets."""

    def __init__(self, writer: LogWriter, masker: Masker, spool: Spool | None) -> None:
        self._writer = writer
        self._masker = masker
        self._spool = spool
        self._written = [_Lines(source, self._say) for source in _SOURCES]
        self._over = False
        self.lock = threading.RLock()

    def say(self, level: str, source: str, text: str) -> None:
        """A line; what descriptors hold came before it."""
        with self.lock:
            self.take_in()
            self._say(level, source, text)

    def take_in(self) -> None:
        """Take over what was written to the descriptors."""
        if self._spool is None:
            return
        with self.lock:
            for place, data in () if self._over else self._spool.news():
                self._written[place].feed_bytes(data)
                if self._writer.full:
                    self._spool.empty()
                    return

    def finish(self) -> None:
        """The try is over: whoever speaks now, speaks to nobody."""
        with self.lock:
            for lines in self._written:
                lines.finish()
            self._over = True
            self._writer.close()

    def _say(self, level: str, source: str, text: str) -> None:
        if not self._over:
            self._writer.write(level, source, self._masker.mask(text))


class _Handler(logging.Handler):
    """What is logged, whole: an exception with its traceback is one entry."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__()
        self._sink = sink
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; one whose arguments do not fit its message is told as Python does, and does no harm."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._sink.say(record.levelname, record.name, text)


class _Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a try."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, sink: _Sink, source: str, descriptor: int) -> None:
        self._sink = sink
        self._lines = _Lines(source, sink.say)
        self._descriptor = descriptor
        self.buffer = _Buffer(self)

    def write(self, text: str) -> int:
        """Write text; its whole lines are in the log at once."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._sink.lock:
            self._lines.feed(text)
        return len(text)

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor that programs may be given; what they write to it is captured too."""
        return self._descriptor

    def finish(self) -> None:
        """Write the line that was begun."""
        with self._sink.lock:
            self._lines.finish()

    def take_bytes(self, data: bytes) -> None:
        """What was written to `buffer`."""
        with self._sink.lock:
            self._lines.feed_bytes(data)


class _Buffer(io.RawIOBase):
    """`sys.stdout.buffer`: takes bytes."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._stream.take_bytes(bytes(data))
        return len(data)


@contextlib.contextmanager
def captured(writer: LogWriter, masker: Masker, spool: Spool | None = None) -> Iterator[None]:
    """Let what is said in the context go to `writer`, which is closed at its end.

    Args:
        writer: the log of the try.
        masker: hides secrets; values may be added while the try runs.
        spool: this process's descriptors 1 and 2; None: they are left alone, and `print` and `logging` are captured.
    """
    sink = _Sink(writer, masker, spool)
    streams = [_Stream(sink, source, descriptor) for source, descriptor in zip(_SOURCES, (1, 2), strict=True)]
    root = logging.getLogger()
    before = root.handlers, root.level, sys.stdout, sys.stderr
    root.handlers = [_Handler(sink)]
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
    sys.stdout, sys.stderr = streams
    if spool is not None:
        spool.attach(sink)
    try:
        yield
    finally:
        root.handlers, level, sys.stdout, sys.stderr = before
        if root.level != level:
            root.setLevel(level)
        if spool is not None:
            spool.detach()
        for stream in streams:
            stream.finish()
        sink.finish()


def write_last_words(writer: LogWriter, masker: Masker, why: str, rests: Sequence[bytes]) -> None:
    """End the log of a try whose worker died: what it had written and nobody had read yet, and why it died.

    Args:
        writer: the log of the try; it is closed.
        masker: hides secrets.
        why: a sentence.
        rests: what is left in the worker's spool, for descriptors 1 and 2; empty where it had none.
    """
    sink = _Sink(writer, masker, None)
    for source, rest in zip(_SOURCES, rests, strict=False):
        lines = _Lines(source, sink.say)
        lines.feed_bytes(rest)
        lines.finish()
    sink.say("ERROR", "tidemill", why)
    sink.finish()
