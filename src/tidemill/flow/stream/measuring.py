"""What a process of a stream has done, measured once: told as facts, in metrics, and as spans of traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidemill.model.metric import Histogram
from tidemill.ports.clock import Clock
from tidemill.ports.telemetry import Attribute, Span


@dataclass(slots=True)
class Counts:
    """What a process has done since it began; nothing of it is ever taken back."""

    messages: int = 0
    checkpoints: int = 0
    failed: int = 0
    letters: int = 0
    late: int = 0
    restarts: int = 0
    #: Messages that topics no longer had when they were to be read.
    lost: int = 0
    #: Messages that were read for sources and exchanges, by their nodes, and rows that were given to sinks.
    read: dict[int, int] = field(default_factory=dict)
    given: dict[int, int] = field(default_factory=dict)
    #: Seconds that checkpoints took.
    seconds: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint that was made, or tried.

    Args:
        stream: `pipeline.stream`.
        tasks: whose, as `stage.number`.
        messages: that were read for it. `rows`: that were given to sinks.
        at: when it ended.
        worked: seconds from its first message until it was begun.
        save: seconds in which tasks saved their state and gave what was left. `commit`: in which the writer made it
            count. `store`: in which stores followed.
        spent: what `worked` consists of, without waiting: seconds of `decode`, `engine`, `send`.
        error: why it does not count.
    """

    stream: str
    tasks: tuple[str, ...]
    messages: int
    rows: int
    at: datetime
    worked: float
    save: float
    commit: float
    store: float
    spent: Mapping[str, float]
    error: str | None = None

    @property
    def seconds(self) -> float:
        """What making it took."""
        return self.save + self.commit + self.store

    def span(self) -> Span:
        """As part of a trace: from its first message until it counted."""
        began = self.at - timedelta(seconds=self.worked + self.seconds)
        parts = []
        start = began
        for name, seconds in (
            ("process", self.worked), ("save", self.save), ("commit", self.commit), ("store", self.store)
        ):  # fmt: skip
            given = {f"tidemill.{what}.seconds": took for what, took in self.spent.items()} if name == "process" else {}
            failed = self.error if name == "commit" else None
            parts.append(Span(name, start, seconds, given, error=failed))
            start += timedelta(seconds=seconds)
        facts: dict[str, Attribute] = {
            "tidemill.stream": self.stream,
            "tidemill.tasks": list(self.tasks),
            "tidemill.messages": self.messages,
            "tidemill.rows": self.rows,
            "tidemill.checkpoint.seconds": self.seconds,
        }
        return Span("checkpoint", began, self.worked + self.seconds, facts, tuple(parts), self.error)


class Timing:
    """Where time goes between two checkpoints. Waiting for messages belongs to nothing.

    Args:
        clock: the time; a look at it costs 0.1 us, and there are four for each partition and turn.
        counts: of the process.
    """

    def __init__(self, clock: Clock, counts: Counts) -> None:
        self._clock = clock
        self._counts = counts
        self.again()

    def again(self) -> None:
        """Nothing has been done since the last checkpoint."""
        self._first: float | None = None
        self._spent = {"decode": 0.0, "engine": 0.0, "send": 0.0}
        self._steps: list[float] = []
        self._lap = 0.0
        self._messages = 0
        self._rows = sum(self._counts.given.values())

    def begin(self, messages: int = 0) -> None:
        """What is done now has begun, perhaps with so many messages."""
        self._lap = self._clock.monotonic()
        if messages:
            self._messages += messages
            self._first = self._lap if self._first is None else self._first

    def spent(self, what: str) -> None:
        """The time until now went there."""
        now = self._clock.monotonic()
        self._spent[what] += now - self._lap
        self._lap = now

    def step(self) -> None:
        """A checkpoint is begun; then: its tasks are saved; then: it counts."""
        self._steps.append(self._clock.monotonic())

    def made(self, stream: str, tasks: Iterable[tuple[int, int]], error: str | None = None) -> Checkpoint:
        """The checkpoint counts and stores have followed, or it does not count."""
        now = self._clock.monotonic()
        begun, saved, committed = [*self._steps, now, now, now][:3]
        done = Checkpoint(
            stream=stream,
            tasks=tuple(f"{stage}.{number}" for stage, number in tasks),
            messages=self._messages,
            rows=sum(self._counts.given.values()) - self._rows,
            at=self._clock.now(),
            worked=begun - (begun if self._first is None else self._first),
            save=saved - begun,
            commit=committed - saved,
            store=now - committed,
            spent=self._spent,
            error=error,
        )
        if error is None:
            self._counts.checkpoints += 1
            self._counts.seconds = self._counts.seconds.having(done.seconds)
        self.again()
        return done
