"""Port `definitions`: the pipelines of a project as they were last read, and files that could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tidemill.model.batch import Interval
from tidemill.model.definition import Definition
from tidemill.model.errors import Refused


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """A pipeline as the scheduler knows it.

    Args:
        name: unique in the project.
        definition_id: of the newest definition. `code` is the version of the project's code that it was read from.
        file: relative to the project.
        paused: its schedule begins nothing.
        active: its file still makes it.
        newest: the newest interval that its schedule has begun a run for.
        next_at: when its schedule is looked at again; None: not by time alone.
        seen_at: when its file was last read.
    """

    name: str
    definition_id: int
    code: str
    file: str
    paused: bool
    active: bool
    newest: Interval | None
    next_at: datetime | None
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a file could not be read, as a person is told: the error's class, what happened, where, what to try."""

    file: str
    kind: str
    what: str
    place: str | None
    hint: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of files that were read.

    Args:
        changed: pipelines that are new, active again, or have changed, by name: their schedule is due to be looked at.
        refused: by file, why nothing of it was recorded.
    """

    changed: tuple[str, ...] = ()
    refused: Mapping[str, Refused] = field(default_factory=dict)


class Definitions(Protocol):
    """The newest definition of each pipeline, and every older one that a run began with."""

    def keep(self, definitions: Iterable[Definition], code: str, file: str, now: datetime) -> list[str]:
        """Record what a file makes: all of it. Pipelines that it made before and makes no longer become inactive; its
        import error is forgotten. A definition that has not changed keeps its id.

        Returns:
            Names of pipelines that are new, active again, or have changed: their schedule is due to be looked at.

        Raises:
            Refused: a pipeline of that name is made by another file.
        """
        ...

    def keep_all(self, files: Mapping[str, Sequence[Definition]], code: str, now: datetime) -> Kept:
        """The same for many files at once, in a few statements for all of them. Of two files that make a pipeline of
        one name, the one that had it keeps it, else the first.
        """
        ...

    def recode(self, code: str, unread: Iterable[str] = ()) -> None:
        """The project's code has a new version: it is that of every active pipeline whose file can be read.

        `unread`: files of which that is not known yet.
        """
        ...

    def code_in_use(self) -> frozenset[str]:
        """Versions that a run which has not ended, or the next run of an active pipeline, needs."""
        ...

    def files(self) -> frozenset[str]:
        """Files that make an active pipeline, or could not be read."""
        ...

    def fail(self, error: Unreadable) -> None:
        """Record that a file could not be read; what it made before stays as it is."""
        ...

    def forget(self, file: str) -> list[str]:
        """A file is gone: its pipelines become inactive, its import error is forgotten. Returns their names."""
        ...

    def get(self, definition_id: int) -> Definition | None:
        """A definition by its id."""
        ...

    def get_all(self, ids: Iterable[int]) -> dict[int, Definition]:
        """Definitions by their ids; those that are not there are left out."""
        ...

    def pipeline(self, name: str) -> PipelineRecord | None:
        """One pipeline."""
        ...

    def pipelines(self, *, active: bool | None = True) -> list[PipelineRecord]:
        """Pipelines by name; None: those that are inactive too."""
        ...

    def due(self, now: datetime) -> list[PipelineRecord]:
        """Active pipelines, not paused, whose `next_at` has come."""
        ...

    def next_due(self) -> datetime | None:
        """The earliest `next_at` of active pipelines that are not paused."""
        ...

    def advance(self, name: str, newest: Interval | None, next_at: datetime | None) -> None:
        """Note the newest interval that has a run (None: as it was), and when to look at the schedule again."""
        ...

    def pause(self, name: str, paused: bool, now: datetime) -> None:
        """Pause or resume a schedule; one that is resumed is due at once. Raises UnknownName."""
        ...

    def errors(self) -> list[Unreadable]:
        """Files that could not be read, by name."""
        ...
