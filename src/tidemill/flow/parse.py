"""The parser's loop: pipeline files are read when they, or what they use, have changed, and what they make is recorded.

    source -> folder -> version kept -> files to read -> readers (processes) -> definitions, in one transaction
      ^                                                                              |
      '--------- a change is heard of, or the sweep finds it <------- a bell <-------'

No code of a user's runs in this process. A file that cannot be read is told with its error; what it made before stays.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Protocol

from tidemill.flow.reading import Crew
from tidemill.model.errors import Conflict, SettingsError, TidemillError, Unreachable
from tidemill.plan.due import late_again, renewal
from tidemill.ports.clock import Clock
from tidemill.ports.codesource import Code, CodeSource, KeptVersion, Stamp
from tidemill.ports.definitions import Unreadable
from tidemill.ports.metadata import Metadata
from tidemill.ports.reader import FileRead, Reader, Told
from tidemill.ports.watch import Watch

#: A pipeline file of Python may have so many bytes: more is data, and reading it as a program takes minutes.
MOST_BYTES = 10_000_000
#: Where nothing tells of changes, files are looked at so often; where something does, so often all the same.
SWEEP_DEAF, SWEEP = 1.0, 30.0
#: What is heard of within this time is looked at together: an editor's save is several changes.
_TOGETHER = 0.03
#: What was read is recorded at the latest after this time, or when there is so much of it.
_RECORD_AFTER, _RECORD_MOST = 0.25, 500
#: A file whose own timetable runs out is read again at the latest so often, whatever it then tells.
_RENEW_LEAST = timedelta(minutes=1)
#: What could not be done is tried again after so long.
_AGAIN = 1.0
#: Versions of the code that nothing needs stay so long at least; they are looked for soon and then now and then
#: (seconds).
YOUNG = timedelta(days=1)
_CLEAN_FIRST, _CLEAN_EVERY = 60.0, 6 * 3600.0
#: The file that an error of the source itself is told of.
SETTINGS_FILE = "tidemill.toml"


class Folder(Protocol):
    """A folder of code: see `adapters.localfs.code`."""

    def scan(self) -> dict[str, Stamp]:
        """The stamps of all code files, by path."""
        ...

    @property
    def folders(self) -> frozenset[str]:
        """The folders that the last scan has seen."""
        ...


@dataclass(frozen=True, slots=True)
class ParserParts:
    """What the parser is given, by wiring.

    Args:
        metadata: where definitions are recorded.
        source: where the code comes from.
        folder: opens a folder of code.
        keep: keeps the version of the code that is in a folder.
        clean: deletes kept versions but those that are needed, and those that are younger than a time.
        reader: begins a process that reads files in a folder, in a transaction-free moment.
        is_pipeline: whether a path is that of a pipeline file.
        left_out: of a folder of code, which of those are none all the same.
        clock: the time.
        changed: is told the names of pipelines that are new, gone, or have changed, once that is recorded.
        recorded: is called whenever something was recorded.
        watch: hears of changes; None: nothing does.
        limit: seconds that reading one file may take.
        readers: how many files are read at the same time, as long as none is slow.
    """

    metadata: Metadata
    source: CodeSource
    folder: Callable[[Path], Folder]
    keep: Callable[[Path, Code], KeptVersion]
    clean: Callable[[frozenset[str], datetime], object]
    reader: Callable[[Path], Reader]
    is_pipeline: Callable[[str], bool]
    clock: Clock
    changed: Callable[[Sequence[str]], None]
    recorded: Callable[[], None] = lambda: None
    watch: Watch | None = None
    left_out: Callable[[Path], Callable[[str], bool]] = lambda _: lambda _: False
    limit: float = 30.0
    readers: int = 2


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was read until now: how many files, which pipelines have changed, which files could not be read."""

    files: int
    changed: tuple[str, ...]
    errors: int
    version: str


class Parser:
    """Keeps the definitions of a project as its files make them."""

    def __init__(self, parts: ParserParts) -> None:
        self._parts = parts
        self._root: Path | None = None
        self._folder: Folder | None = None
        self._code: Code = {}
        self._digests: dict[str, bytes] = {}
        self._version = ""
        self._recoded = True
        self._following = False
        #: Pipeline files that are there, and of each what it used, once it was read.
        self._files: frozenset[str] | None = None
        self._used: dict[str, frozenset[str]] = {}
        #: When files are read again without a change: those with a timetable of their own, to know more of its
        #: intervals, and those that took too long, which may have waited for something; and how often that was.
        self._renew_at: dict[str, datetime] = {}
        self._late: dict[str, int] = {}
        self._failed: set[str] = set()
        self._gone: set[str] = set()
        self._crew = Crew(self._reader, parts.clock, parts.limit, parts.readers)
        self._read: dict[str, FileRead] = {}
        self._refused: dict[str, FileRead] = {}
        self._changed: set[str] = set()
        self._count = 0
        self._look_at = self._sync_at = self._record_at = self._retry_at = 0.0
        self._clean_at = parts.clock.monotonic() + _CLEAN_FIRST
        #: What is wrong with the source, and what is recorded of that.
        self._sync_error: Told | None = None
        self._source_error: Told | None = None
        self._source_told: Told | None = None

    # -- from outside

    def follow(self, stopping: Callable[[], bool], handle: int) -> None:
        """Read what there is, then what changes, until `stopping`; the descriptor `handle` is readable then."""
        try:
            while not stopping():
                self._turn((handle,))
        finally:
            self._crew.dismiss()

    def settle(self) -> Parsed:
        """Read what there is, once.

        Raises:
            Unreachable, Conflict: it could not be recorded.
            SettingsError, Unreachable: there is no code to read.
        """
        try:
            self._look(strict=True)
            while self._busy:
                self._turn((), strict=True)
        finally:
            self._crew.dismiss()
        return Parsed(self._count, tuple(sorted(self._changed)), len(self._failed), self._version)

    # -- a turn

    @property
    def _busy(self) -> bool:
        return bool(self._crew.pending or self._news)

    @property
    def _news(self) -> bool:
        """Whether there is something to record."""
        return bool(self._read or self._gone or not self._recoded or self._source_error != self._source_told)

    def _turn(self, others: Iterable[int], *, strict: bool = False) -> None:
        """Do what is to be done, then wait for something to do; one of `others` that is readable is something, too."""
        now = self._now()
        if now >= self._look_at and not strict:
            self._look()
        self._crew.staff()
        if self._news and now >= self._retry_at and (not self._crew.brisk or self._is_much):
            self._record(strict)
        if strict and not self._busy:
            return
        heard = self._wait(others)
        for answer in self._crew.answers(heard):
            if answer.file in (self._files or ()) and not answer.gone:
                self._take(answer)
        watch = self._parts.watch
        if watch is not None and watch.fileno() in heard and watch.drain():
            self._look_at = min(self._look_at, self._now() + _TOGETHER)

    def _wait(self, others: Iterable[int]) -> set[int]:
        poll = select.poll()
        for descriptor in (*others, *self._crew.handles):
            poll.register(descriptor, select.POLLIN)
        if self._parts.watch is not None:
            poll.register(self._parts.watch.fileno(), select.POLLIN)
        times = [self._look_at]
        if self._news:
            times.append(max(self._retry_at, self._record_at if self._read else 0.0))
        if (slow := self._crew.next_at()) is not None:
            times.append(slow)
        return {descriptor for descriptor, _ in poll.poll(max(0.0, min(times) - self._now()) * 1000 + 1)}

    def _now(self) -> float:
        return self._parts.clock.monotonic()

    # -- looking

    def _look(self, *, strict: bool = False) -> None:
        """Find out what has changed, and put what is to be read in the queue."""
        self._look_at = self._now() + (SWEEP if self._following else SWEEP_DEAF)
        wrong = None
        try:
            self._find(strict)
            self._renew()
            if self._now() >= self._clean_at and not strict:
                self._clean()
        except (OSError, Conflict, Unreachable) as error:
            if strict:
                raise
            told = error if isinstance(error, TidemillError) else TidemillError(f"The code cannot be kept: {error}.")
            wrong = _told(told)
            self._look_at = self._now() + _AGAIN
        self._source_error = self._sync_error or wrong

    def _find(self, strict: bool) -> None:
        root = self._sync(strict)
        if root is None:
            return
        if root != self._root or self._folder is None:
            self._root, self._folder, self._code = root, self._parts.folder(root), {}
            self._crew.dismiss(idle=True)
        code = self._scan(self._folder)
        if code == self._code and self._files is not None:
            return
        kept = self._parts.keep(root, code)
        known = self._known() if self._files is None else self._files
        digests = {**dict.fromkeys(code, b""), **kept.digests}
        before, self._digests, self._code = self._digests, digests, code
        changed = {path for path, digest in digests.items() if before.get(path) != digest}
        changed |= before.keys() - digests.keys()
        left_out = self._parts.left_out(root)
        files = frozenset(file for file in filter(self._parts.is_pipeline, code) if not left_out(file))
        changed |= files - known if self._files is not None else set()
        self._gone = (self._gone | known) - files
        self._files = files
        if kept.name != self._version:
            self._version, self._recoded = kept.name, False
        if changed:
            late = [file for file in self._failed & files if file not in changed]
            touched = changed | _folders_of(before.keys() ^ digests.keys())
            using = [file for file in files - changed - self._failed if self._used.get(file, frozenset()) & touched]
            self._late = {file: times for file, times in self._late.items() if file in files - changed}
            for file in (*sorted(files & changed), *sorted(using), *sorted(late)):
                self._enqueue(file, code[file][0])

    def _renew(self) -> None:
        """Have files read whose own timetables run out, or that were late."""
        now = self._parts.clock.now()
        for file in sorted(file for file, at in self._renew_at.items() if at <= now):
            del self._renew_at[file]
            if file in self._code:
                self._enqueue(file, self._code[file][0])

    def _scan(self, folder: Folder) -> Code:
        code = folder.scan()
        watch = self._parts.watch
        if watch is not None:
            # A folder that was made a moment ago may have got files before it was watched: look at it again.
            while watch.follow(folder.folders):
                code = folder.scan()
            self._following = watch.follows(folder.folders)
        return code

    def _sync(self, strict: bool) -> Path | None:
        """The folder with the code, brought up to date if it is time to."""
        source = self._parts.source
        if source.every is not None:
            self._look_at = min(self._look_at, self._now() + source.every.total_seconds())
        if self._root is not None and (source.every is None or self._now() < self._sync_at):
            return self._root
        if source.every is not None:
            self._sync_at = self._now() + source.every.total_seconds()
        try:
            root = source.sync()
        except (SettingsError, Unreachable) as error:
            if strict:
                raise
            self._sync_error = _told(error)
            return self._root
        self._sync_error = None
        return root

    def _clean(self) -> None:
        """Delete versions of the code that nothing needs any more. Done here, where versions are kept, and when none is
        being recorded: what was kept a moment ago cannot be taken for unneeded.
        """
        self._clean_at = self._now() + _CLEAN_EVERY
        with self._parts.metadata.read() as tx:
            needed = tx.definitions.code_in_use() | {self._version}
        self._parts.clean(needed, self._parts.clock.now() - YOUNG)

    def _reader(self) -> Reader:
        assert self._root is not None
        return self._parts.reader(self._root)

    def _known(self) -> frozenset[str]:
        """The files that an earlier parser has recorded something of."""
        with self._parts.metadata.read() as tx:
            return tx.definitions.files()

    # -- reading

    def _enqueue(self, file: str, size: int) -> None:
        self._read.pop(file, None)
        if size > MOST_BYTES:
            what = f"The file has {size / 1e6:.0f} MB; a pipeline file may have {MOST_BYTES / 1e6:.0f}."
            told = Told("LimitError", what, file, "keep data beside the code, not in it")
            self._take(FileRead(file, error=told))
        else:
            self._crew.ask(file)

    def _take(self, answer: FileRead) -> None:
        if not self._read:
            self._record_at = self._now() + _RECORD_AFTER
        self._count += 1
        self._used[answer.file] = answer.used
        self._read[answer.file] = answer
        self._refused.pop(answer.file, None)
        self._renew_at.pop(answer.file, None)
        now = self._parts.clock.now()
        if (at := renewal(answer.definitions)) is not None:
            self._renew_at[answer.file] = max(at, now + _RENEW_LEAST)
        if answer.late:
            self._late[answer.file] = times = self._late.get(answer.file, 0) + 1
            self._renew_at[answer.file] = now + late_again(times)
        else:
            self._late.pop(answer.file, None)
        if answer.error is not None:
            self._failed.add(answer.file)
        else:
            self._failed.discard(answer.file)

    # -- recording

    @property
    def _is_much(self) -> bool:
        """Whether what was read is recorded while more is being read."""
        return len(self._read) >= _RECORD_MOST or (bool(self._read) and self._now() >= self._record_at)

    def _record(self, strict: bool) -> None:
        """Write down what was read, in one transaction; ring the bell."""
        try:
            names = self._write()
        except (Conflict, Unreachable):
            if strict:
                raise
            self._retry_at = self._now() + _AGAIN
            return
        self._parts.recorded()
        if names:
            self._changed |= names
            self._parts.changed(sorted(names))

    def _write(self) -> set[str]:
        now = self._parts.clock.now()
        good = {file: answer for file, answer in self._read.items() if answer.error is None}
        # What was refused for a name that another file had is tried again: that file may have let go of it.
        good = {**{file: old for file, old in self._refused.items() if file not in self._gone}, **good}
        pending, done = self._crew.pending, not self._crew.brisk
        names: set[str] = set()
        with self._parts.metadata.write() as tx:
            for file in sorted(self._gone):
                names.update(tx.definitions.forget(file))
            found = {file: good[file].definitions for file in sorted(good)}
            kept = tx.definitions.keep_all(found, self._version, now)
            names.update(kept.changed)
            errors = {file: answer.error for file, answer in self._read.items() if answer.error is not None}
            errors |= {file: _told(error) for file, error in kept.refused.items()}
            if self._source_error is not None:
                errors[SETTINGS_FILE] = self._source_error
            elif self._source_told is not None:
                tx.definitions.forget(SETTINGS_FILE)
            for file, told in sorted(errors.items()):
                tx.definitions.fail(Unreadable(file, told.kind, told.what, told.place, told.hint, now))
            if done and not self._recoded:
                tx.definitions.recode(self._version, pending)
        self._refused = {file: good[file] for file in kept.refused}
        self._failed = (self._failed - good.keys() | kept.refused.keys()) - self._gone
        for file in self._gone:
            self._used.pop(file, None)
        self._read, self._gone = {}, set()
        # What is still being read gets the version when it is recorded.
        self._recoded = self._recoded or done
        self._source_told = self._source_error
        return names


def _told(error: TidemillError) -> Told:
    return Told(type(error).__name__, error.what, error.where, error.hint)


def _folders_of(paths: Iterable[str]) -> set[str]:
    """The folders that files are in, near and far, each with a slash at its end."""
    return {f"{folder}/" for path in paths for folder in PurePosixPath(path).parents if folder.name}
