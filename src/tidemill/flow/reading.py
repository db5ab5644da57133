"""The parser's readers: processes that read users' files, as many as are needed, ended when they take too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tidemill.ports.clock import Clock
from tidemill.ports.reader import FileRead, Reader, Told

#: A file that takes longer (seconds) does not keep others from being read: another reader begins.
SLOW = 1.0
#: A reader that does not stop a file by itself is ended so much later.
_GRACE = 2.0
#: Files that one reader reads before it is replaced: what they leave behind in it is bounded.
_MOST_FILES = 1_000
#: Readers at the same time, however many of them are stuck.
_MOST_READERS = 8
#: Files that are waited for by each further reader.
_WORTH_ONE = 10


@dataclass(slots=True)
class _Working:
    """A reader and what it is doing: the file, and when it was given it."""

    reader: Reader
    file: str | None = None
    since: float = 0.0
    files: int = 0


class Crew:
    """Reads the files that it is asked for, in their order.

    Args:
        make: begins a reader.
        clock: the time.
        limit: seconds that reading one file may take.
        readers: how many files are read at the same time, as long as none is slow.
    """

    def __init__(self, make: Callable[[], Reader], clock: Clock, limit: float, readers: int) -> None:
        self._make = make
        self._clock = clock
        self._limit = limit
        self._readers = readers
        self._queue: dict[str, None] = {}
        self._crew: list[_Working] = []

    def ask(self, file: str) -> None:
        """Have a file read; one that is being read is read again."""
        self._queue[file] = None

    @property
    def pending(self) -> set[str]:
        """Files that were asked for and of which nothing is known yet."""
        return {*self._queue, *(working.file for working in self._crew if working.file is not None)}

    @property
    def brisk(self) -> bool:
        """Whether more will be read in a moment: what is slow is not waited for."""
        now = self._clock.monotonic()
        return bool(self._queue) or any(now < working.since + SLOW for working in self._busy)

    @property
    def handles(self) -> Iterator[int]:
        """Descriptors that are readable when `answers` has something to give."""
        return (working.reader.fileno() for working in self._busy)

    @property
    def _busy(self) -> list[_Working]:
        return [working for working in self._crew if working.file is not None]

    def next_at(self) -> float | None:
        """When a reader becomes slow, or is to be ended."""
        now = self._clock.monotonic()
        times = (w.since + (SLOW if now < w.since + SLOW else self._limit + _GRACE) for w in self._busy)
        return min(times, default=None)

    def staff(self) -> None:
        """Give each reader that is free a file; begin as many as there is work for."""
        while self._queue:
            free = next((working for working in self._crew if working.file is None), None) or self._hire()
            if free is None:
                return
            reading = {working.file for working in self._crew}
            file = next((one for one in self._queue if one not in reading), None)
            if file is None:  # it has changed while it is being read: it comes next
                self._lay_off(free)
                return
            del self._queue[file]
            free.file, free.since = file, self._clock.monotonic()
            free.files += 1
            free.reader.ask(file)

    def answers(self, readable: set[int]) -> Iterator[FileRead]:
        """What became of files; an answer about one that was asked for again meanwhile is left out."""
        for working in self._busy:
            answer = self._hear(working, working.reader.fileno() in readable)
            if answer is not None and answer.file not in self._queue:
                yield answer

    def dismiss(self, *, idle: bool = False) -> None:
        """End the readers, or those that have nothing to do."""
        for working in [one for one in self._crew if not idle or one.file is None]:
            self._lay_off(working)

    def _hire(self) -> _Working | None:
        now = self._clock.monotonic()
        quick = sum(now < working.since + SLOW for working in self._crew)
        needed = min(self._readers, 1 + len(self._queue) // _WORTH_ONE)
        if quick >= needed or len(self._crew) >= _MOST_READERS:
            return None
        made = _Working(self._make())
        self._crew.append(made)
        return made

    def _hear(self, working: _Working, readable: bool) -> FileRead | None:
        """A reader's answer; or why it has been ended without one."""
        file = working.file
        assert file is not None
        if readable:
            try:
                answer = working.reader.answer()
            except EOFError:
                how = self._lay_off(working)
                what = f"The process that read the file was {how}." if "killed" in how else f"Reading the file {how}."
                return FileRead(file, error=Told("DefinitionError", what, file, f"python {file}"))
            if answer is not None:
                working.file = None
                if working.files >= _MOST_FILES or not self._queue:
                    self._lay_off(working)
            return answer
        if self._clock.monotonic() <= working.since + self._limit + _GRACE:
            return None
        self._lay_off(working)
        what = f"The file was still being read after {self._limit:g} s, and did not let itself be stopped."
        hint = "what takes long belongs into a task; what stands in the file runs whenever it is read"
        return FileRead(file, error=Told("DefinitionError", what, file, hint), late=True)

    def _lay_off(self, working: _Working) -> str:
        self._crew.remove(working)
        return working.reader.end()
