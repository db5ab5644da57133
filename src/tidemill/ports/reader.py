"""Port `reader`: a process that reads users' files, one after the other, so that their code runs nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tidemill.model.definition import Definition


@dataclass(frozen=True, slots=True)
class Told:
    """Why a file could not be read, as a person is told: see `TidemillError`."""

    kind: str
    what: str
    place: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class FileRead:
    """What became of reading a file.

    Args:
        file: relative to the project.
        definitions: of the pipelines that it makes; empty where there is an `error`.
        used: files of the project that were imported or opened by it, and folders that it has looked through, with a
            slash at the end: another file there may make a difference.
        error: why it could not be read.
        gone: it is not there any more.
        late: it could not be read in time; that may be the machine's fault, or that of what it has asked.
    """

    file: str
    definitions: tuple[Definition, ...] = ()
    used: frozenset[str] = frozenset()
    error: Told | None = None
    gone: bool = False
    late: bool = False


class Reader(Protocol):
    """Reads files, one at a time.

    Promises: `ask` and `answer` do not wait; nothing that the file does (printing, ending the process, changing its
    environment) reaches whoever asks; the process ends with the one that made it.
    """

    def fileno(self) -> int:
        """Becomes readable when there is an answer, or the process has ended."""
        ...

    def ask(self, file: str) -> None:
        """Have a file read, relative to the project."""
        ...

    def answer(self) -> FileRead | None:
        """What became of it; None: not yet. Raises EOFError where the process has ended instead."""
        ...

    def end(self) -> str:
        """End the process, whatever it does. Returns how it ended, for people."""
        ...
