"""Sources of topics under test: each as a script of things that happen outside, and the messages that must come of it.

`Rig` feeds a topic of a real broker from one; the process that feeds can be made to die at any effect of its writer.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness.project import Project
from harness.topics import Place, values
from tidemill.authoring.live import as_source
from tidemill.flow.live.feeding import Feeding
from tidemill.flow.live.progress import Progress, progress_of, progress_topic
from tidemill.model.frame.topic import Topic
from tidemill.ports.clock import Clock
from tidemill.ports.live import LiveSource
from tidemill.ports.topic import TopicSpec, Writer
from tidemill.wiring.live import open_live, writing
from tidemill.wiring.settings import Settings

#: A member whose process has died is out after so many seconds of embedded topics.
SESSION = 11.0


class Died(BaseException):
    """The process is gone: nothing that would run after an exception may count."""


@dataclass
class Deaths:
    """Counts effects of writers, and dies at one of them."""

    at: int | None = None
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed - 1 == self.at:
            raise Died


class MortalTopics:
    """Topics whose writers can die before and after sending, and before and after a commit."""

    def __init__(self, place: Place, deaths: Deaths) -> None:
        self._inner = place.topics
        self._session = place.session
        self._deaths = deaths

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def member(self, group: str, tasks: int, **more: Any) -> Any:
        return self._inner.member(group, tasks, session=self._session, **more)

    def writer(self, *arguments: Any) -> Any:
        return _MortalWriter(self._inner.writer(*arguments), self._deaths)


class _MortalWriter:
    def __init__(self, inner: Writer, deaths: Deaths) -> None:
        self._inner = inner
        self._deaths = deaths

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, *arguments: Any, **named: Any) -> None:
        self._deaths.point()
        self._inner.send(*arguments, **named)
        self._deaths.point()

    def commit(self, positions: Mapping[Any, Any]) -> None:
        self._deaths.point()
        self._inner.commit(positions)
        self._deaths.point()


@dataclass
class Rig:
    """A topic, and what feeds it."""

    place: Place
    settings: Settings
    topic: Topic
    services: Any = None
    deaths: Deaths = field(default_factory=Deaths)
    told: list[Exception] = field(default_factory=list)

    @classmethod
    def of(cls, place: Place, root: Path, source: Any, services: Any = None, **topic: Any) -> Rig:
        """A topic with one partition that is fed from a source."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        made = Topic(name, **{"columns": {"id": "long", "name": "string"}, **topic}, source=as_source(source))
        place.topics.create(TopicSpec(name))
        place.topics.create(progress_topic(name))
        services = _Clocked(place.clock) if services is None else replace(services, clock=place.clock)
        return cls(place, Settings(root, "test"), made, services)

    def feeding(self, source: LiveSource | None = None) -> Feeding:
        """A process that begins to feed."""
        topics = MortalTopics(self.place, self.deaths)
        opened = source or open_live(self.topic, self.settings, self.services)
        called = str(self.topic.source)
        return Feeding(self.topic.name, called, opened, writing(self.topic), topics, self.place.clock, self.told.append)  # type: ignore[arg-type]  # it stands for topics

    def messages(self) -> list[bytes | None]:
        """All messages, as a reader of what is committed sees them."""
        info = self.place.topics.describe(self.topic.name)
        assert info is not None
        return values(self.place, self.topic.name, self.progress().messages) if sum(info.end) else []

    def progress(self) -> Progress:
        """How far the source is, as others see it."""
        found = progress_of(self.place.topics, self.place.clock, self.topic.name)
        return found or Progress("", None, 0, self.place.clock.now())

    def rows(self) -> list[Any]:
        """All messages, as JSON."""
        return [json.loads(value) for value in self.messages() if value is not None]


@dataclass(frozen=True)
class _Clocked:
    """Services of which only the clock is needed."""

    clock: Clock


def drain(feeding: Feeding, quiet: int = 9) -> None:
    """Feed until nothing has come for some turns."""
    left = quiet
    while left:
        left = quiet if feeding.turn() or feeding.is_waiting else left - 1


def until(rig: Rig, feeding: Feeding, many: int) -> None:
    """Feed until the topic has so many messages."""
    rig.place.until(lambda: (feeding.turn(), rig.progress().messages >= many)[1], f"for {many} messages")


@dataclass
class Script:
    """What happens outside, step by step; and what must be in the topic in the end."""

    rig: Rig
    steps: Sequence[Callable[[], object]]
    expected: list[Any]
    close: Callable[[], object] = lambda: None
    #: What comes takes real time: whoever waits for nothing more waits for long, so one turn must do.
    is_slow: bool = False
    #: So many rows come first in any order: where they lie in an upsert table's files nobody promises.
    loose: int = 0

    def came(self) -> list[Any]:
        """The rows of the topic, those that come in any order by their values."""
        rows = self.rig.rows()
        return [*sorted(rows[: self.loose], key=str), *rows[self.loose :]]

    def drain(self, feeding: Feeding) -> None:
        """Feed until all has come that there is."""
        if self.is_slow:
            until(self.rig, feeding, len(self.expected))
        drain(feeding, 1 if self.is_slow else 9)

    def play(self, dying_at: int | None = None) -> int:
        """Feed through all steps, dying at one effect. Gives how many effects there were."""
        deaths = self.rig.deaths = Deaths(dying_at)
        feeding = self.rig.feeding()
        for step in self.steps:
            step()
            try:
                self.drain(feeding)
            except Died:
                feeding.abandon()
                self.rig.place.clock.sleep(self.rig.place.session.total_seconds() + 1)
                feeding = self.rig.feeding()
                self.drain(feeding)
        feeding.close()
        return deaths.passed


# Scripts --------------------------------------------------------------------------------------------------------------


def tail(place: Place, root: Path) -> Script:
    """A log that is written, rotated by renaming, and by copying and cutting."""
    log = root / "orders.jsonl"
    lines = [json.dumps({"id": n, "name": f"order {n}"}) for n in range(12)]

    def add(*texts: str) -> Callable[[], None]:
        def step() -> None:
            with log.open("a") as stream:
                stream.write("".join(texts))

        return step

    def rename() -> None:
        add(lines[4] + "\n")()
        log.rename(root / "orders.jsonl.1")
        add(lines[5] + "\n")()

    def copy_and_cut() -> None:
        add(lines[8] + "\n")()
        (root / "orders.jsonl.copy").write_bytes(log.read_bytes())
        log.write_text(lines[9] + "\n")

    steps = [
        add(lines[0] + "\n", lines[1] + "\n", lines[2][:7]),
        add(lines[2][7:] + "\n\n"),
        add(lines[3] + "\r\n"),
        rename,
        add(lines[6] + "\n" + lines[7] + "\n"),
        copy_and_cut,
        add(lines[10] + "\n"),
        lambda: (root / "orders.jsonl").rename(root / "old"),
        add(lines[11] + "\n"),
    ]
    rig = Rig.of(place, root, _live().tail("orders.jsonl"), key=("id",))
    return Script(rig, steps, [json.loads(line) for line in lines])


def shop(root: Path, days: int) -> tuple[Project, Any, list[Callable[[], None]]]:
    """A project whose pipeline loads a file a day into `orders`, and upserts it into `latest`."""
    project = Project(root / "project")
    p = project.pipeline()
    p.files("feeds/{{ ds }}.csv", name="orders")

    @p.table(key="id", write="upsert")
    def latest(orders: Any) -> Any:
        return orders

    folder = project.root / "feeds"
    folder.mkdir()

    def day(number: int) -> Callable[[], None]:
        def step() -> None:
            name = f"2026-01-{number:02d}"
            rows = [(number, f"new {number}"), (number - 1, f"changed on {number}")]
            text = "".join(
                f"{n},{what},{name}T{hour:02d}:00:00\n" for hour, (n, what) in zip((9, 8), rows, strict=True)
            )
            (folder / f"{name}.csv").write_text("id,name,at\n" + text)
            report = project.run(p, name)
            assert report.ok, report

        return step

    return project, p, [day(number) for number in range(1, days + 1)]


def added(number: int) -> list[dict[str, Any]]:
    """The rows of a day of `shop`, as they are loaded."""
    return [{"id": number, "name": f"new {number}"}, {"id": number - 1, "name": f"changed on {number}"}]


def changes(place: Place, root: Path) -> Script:
    """A table that is appended to, and compacted."""
    from tidemill.flow.compact import compact_tables

    project, _, days = shop(root, 4)

    def compact() -> None:
        assert compact_tables(project.services, keep=timedelta(0))

    steps = [lambda: (days[0](), days[1]()), days[2], compact, days[3]]
    rig = Rig.of(place, root, _live().table_changes("shop.orders"), project.services, key=("id",))
    return Script(rig, steps, [row for n in (1, 2, 3, 4) for row in added(n)], project.close)


def upserts(place: Place, root: Path) -> Script:
    """A table of whose rows some change."""
    project, _, days = shop(root, 3)
    rig = Rig.of(place, root, _live().table_changes("shop.latest"), project.services, key=("id",))
    # What a version adds comes as it lies in the files; what it changes, too, by its values.
    later = [row for n in (2, 3) for row in sorted(added(n), key=lambda row: row["id"])]
    first = sorted(added(1), key=str)
    return Script(rig, days, [*first, *later], project.close, loose=len(first))


def replayed(place: Place, root: Path) -> Script:
    """A table once more, in the order of a time, in small pieces of time."""
    project, _, days = shop(root, 3)
    for day in days:
        day()
    source = _live().table("shop.orders", time="at", speed=3600.0)
    rig = Rig.of(place, root, source, project.services)

    def wait() -> None:
        place.clock.sleep(5.0)

    expected = [row for n in (1, 2, 3) for row in reversed(added(n))]
    return Script(rig, [wait] * 12, expected, project.close)


def archived(place: Place, root: Path) -> Script:
    """What was archived once more, with a line that was no row."""
    project, _, days = shop(root, 3)
    for day in days:
        day()
    source = _live().archive("shop.orders")
    rig = Rig.of(place, root, source, project.services)
    return Script(rig, [lambda: None, days[2]], [row for n in (1, 2, 3) for row in added(n)], project.close)


class Counter:
    """A user's source: the numbers from a position on, a few at a time."""

    name = "counter"

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = numbers

    def read(self, position: Any) -> Any:
        at = position or 0
        while at < len(self.numbers):
            some = self.numbers[at : at + 3]
            at += len(some)
            yield [{"id": number, "name": f"number {number}"} for number in some], at


def custom(place: Place, root: Path) -> Script:
    """A user's object."""
    rig = Rig.of(place, root, _live().custom(Counter(range(10)), every="0s"), key=("id",))
    wanted = [{"id": n, "name": f"number {n}"} for n in range(10)]
    return Script(rig, [lambda: None], wanted, is_slow=True)


def _live() -> Any:
    from tidemill import live

    return live


SCRIPTS: Mapping[str, Callable[[Place, Path], Script]] = {
    "tail": tail, "changes": changes, "upserts": upserts, "replayed": replayed, "archived": archived, "custom": custom,
}  # fmt: skip
