"""The attendant: one process, one loop, in which all deferred tasks wait, and from which notices are sent.

deferred tasks -> triggers -> "due" wishes -> bell          events of runs -> notices -> notifiers, again if need be
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidemill.flow.triggers import TRIGGERS, Surroundings, UserTrigger, as_fired, unknown_trigger
from tidemill.model.errors import Conflict, Refused, TidemillError, Unreachable
from tidemill.model.graph import TaskKey
from tidemill.model.instance import Due
from tidemill.model.place import told
from tidemill.model.run import DeferredTask
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Event, Metadata
from tidemill.ports.notifier import Notice, Notifier
from tidemill.ports.runstore import wish_json
from tidemill.ports.xcoms import FIRED

#: The attendant looks at the database at least so often.
POLL = 5.0
#: A notice that could not be sent is sent again after this, then twice as long, and so on, and given up in the end.
AGAIN_AFTER = timedelta(seconds=10)
MOST_TRIES = 12
#: What happened longer ago is no news: nobody attended to it for a day.
NEWS = timedelta(hours=24)

_log = logging.getLogger("tidemill")


@dataclass(frozen=True, slots=True)
class Channel:
    """Where notices go: of which events, of which pipelines ("*": all)."""

    name: str
    notifier: Notifier
    events: frozenset[str]
    pipelines: frozenset[str] = frozenset({"*"})

    def wants(self, notice: Notice) -> bool:
        """Whether a notice goes there."""
        return notice.event in self.events and bool({"*", notice.pipeline} & self.pipelines)


class Attendant:
    """Waits for what deferred tasks wait for, and sends notices.

    Args:
        project: its name.
        metadata: the database.
        clock: the time.
        about: what triggers may use.
        channels: where notices go.
        ring: wakes schedulers.
        call_back: runs the callbacks of a pipeline's code for an event; takes as long as it takes.
        load: gives a function of a run's code by `module:name`.
    """

    def __init__(
        self,
        project: str,
        metadata: Metadata,
        clock: Clock,
        about: Surroundings,
        channels: Sequence[Channel],
        ring: Callable[[], None],
        call_back: Callable[[Event], None] = lambda _: None,
        load: Callable[[int, str], UserTrigger] = unknown_trigger,
    ) -> None:
        self._project = project
        self._metadata = metadata
        self._clock = clock
        self._about = about
        self._channels = channels
        self._ring = ring
        self._call_back = call_back
        self._load = load
        self._waiting: dict[tuple[int, TaskKey, int], asyncio.Task[None]] = {}
        self._sending: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent: dict[int, set[str]] = {}

    @property
    def waiting(self) -> int:
        """How many tasks wait here."""
        return len(self._waiting)

    async def look(self) -> None:
        """See what is deferred now, and what is to be told."""
        # What is sent while the database is read may be pending in what was read.
        sending = frozenset(self._sending)
        try:
            deferred, events = await asyncio.to_thread(self._read)
        except (Unreachable, Conflict) as error:
            _log.warning("The attendant waits: %s", told(error))
            return
        self._attend(deferred)
        begun = {_run_of(event): event.id for event in events if event.payload.get("event") == "begun"}
        for event in events:
            # Code that is told of a run's beginning has been told when it is told of the end.
            first = begun.get(_run_of(event), event.id) == event.id
            if first and event.id not in sending and self._is_due(event):
                self._sending.add(event.id)
                self._begin(self._tell(event))

    def _read(self) -> tuple[list[DeferredTask], list[Event]]:
        with self._metadata.read() as tx:
            return tx.runs.deferred(), [
                *tx.events.pending("ended"), *tx.events.pending("late"), *tx.events.pending("notice"),
            ]  # fmt: skip

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- deferred tasks

    def _attend(self, deferred: Sequence[DeferredTask]) -> None:
        places = {(one.run_id, (one.task, one.map_index), one.tries): one for one in deferred}
        for place in self._waiting.keys() - places.keys():
            self._waiting.pop(place).cancel()
        for place, one in places.items():
            if place not in self._waiting:
                self._waiting[place] = asyncio.get_running_loop().create_task(self._wait(one))

    async def _wait(self, one: DeferredTask) -> None:
        """Wait for what a task waits for; how that ended is the task's to judge."""
        fired: dict[str, Any] = {}
        try:
            found = json.loads(one.trigger)
            fired = as_fired(await self._awaited(one, found["trigger"], found["arguments"]))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            fired["error"] = told(error)
            _log.error("The trigger of run %d, task %s failed: %s", one.run_id, one.task, told(error))
        await asyncio.to_thread(self._fire, one, fired)

    async def _awaited(self, one: DeferredTask, name: str, arguments: Mapping[str, Any]) -> Any:
        if name in TRIGGERS:
            return await TRIGGERS[name](self._about, **arguments)
        function = await asyncio.to_thread(self._load, one.run_id, name)
        return await function(**arguments)

    def _fire(self, one: DeferredTask, fired: Mapping[str, Any]) -> None:
        wish = {**wish_json(Due((one.task, one.map_index))), "run_id": one.run_id}
        while True:
            try:
                with self._metadata.write() as tx:
                    tx.xcoms.put(one.run_id, one.task, one.map_index, [(FIRED, json.dumps(fired))])
                    tx.events.add("wish", wish, self._clock.now())
                break
            except (Unreachable, Conflict):
                self._clock.sleep(1.0)
        self._ring()

    # -- notices

    def _is_due(self, event: Event) -> bool:
        if not event.tries:
            return True
        wait: timedelta = AGAIN_AFTER * (2 ** min(event.tries - 1, 10))
        return self._clock.now() >= event.at + wait

    async def _tell(self, event: Event) -> None:
        """Send an event's notice everywhere it goes; where that fails, there again later."""
        try:
            error = await asyncio.to_thread(self._send, event)
            await asyncio.to_thread(self._note, event, error)
        finally:
            self._sending.discard(event.id)

    def _send(self, event: Event) -> str | None:
        if self._clock.now() - event.at > NEWS:
            return None
        if not event.tries:
            self._call_back(event)
        notice = notice_of(self._project, event)
        sent = self._sent.setdefault(event.id, set())
        failed: str | None = None
        for channel in self._channels:
            if not channel.wants(notice) or channel.name in sent:
                continue
            try:
                channel.notifier.send(notice)
            except Refused as error:
                _log.error("Notice %d is not sent to %s: %s", event.id, channel.name, told(error))
            except TidemillError as error:
                _log.warning("Notice %d waits for %s: %s", event.id, channel.name, told(error))
                failed = f"{channel.name}: {told(error)}"
                continue
            sent.add(channel.name)
        return failed

    def _note(self, event: Event, error: str | None) -> None:
        last = error is not None and event.tries + 1 >= MOST_TRIES
        try:
            with self._metadata.write() as tx:
                if error is not None:
                    tx.events.done(event.id, self._clock.now(), error)
                if error is None or last:
                    tx.events.done(event.id, self._clock.now())
        except (Unreachable, Conflict):
            return  # it stays pending; what was sent is remembered
        if error is None or last:
            self._sent.pop(event.id, None)

    async def close(self) -> None:
        """Stop waiting; what is deferred is attended to by the next attendant."""
        for task in (*self._waiting.values(), *self._tasks):
            task.cancel()
        await asyncio.gather(*self._waiting.values(), *self._tasks, return_exceptions=True)


def _run_of(event: Event) -> int | None:
    run_id = event.payload.get("run_id")
    return run_id if isinstance(run_id, int) else None


def notice_of(project: str, event: Event) -> Notice:
    """What to tell of an event of a run."""
    about = dict(event.payload)
    pipeline, run_id, batch_id = about.pop("pipeline", ""), about.pop("run_id", None), about.pop("batch_id", None)
    kind = {"ended": str(about.get("state", "failed")), "late": "late", "notice": str(about.get("event"))}[event.kind]
    if kind == "late":
        text = f"{pipeline}: run {run_id} has not ended in time"
    elif kind == "asked":
        text = f"{pipeline}: run {run_id}, {about.get('task')} asks: {about.get('subject')}"
    elif kind == "published":
        tables = ", ".join(about.get("tables", ())) or "no table"
        text = f"{pipeline}: run {run_id} published {tables}"
    else:
        error = str(about.get("error") or "")
        text = f"{pipeline}: run {run_id} {kind}" + (f"\n{error}" if error else "")
    if kind != "published":
        text += f"\ntidemill runs show {run_id}"
    return Notice(kind, project, pipeline, run_id, batch_id, event.at, text, about)
