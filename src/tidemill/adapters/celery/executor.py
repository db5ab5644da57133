"""The scheduler's side of workers on other machines: see `app.py` for what is said.

    submit -> broker -> a consumer asks -> granted -> events -> told -> acknowledged
                 ^                            |
                 '-- sent again ---           '-- silent for too long: lost
                     (never asked for)

Two threads hold the connections; all they share with the scheduler is this object's state, under one lock.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from kombu import Producer

from tidemill.adapters.celery.app import TASK, Names, make_app
from tidemill.adapters.celery.link import Receiver, Sender
from tidemill.model.graph import TaskKey
from tidemill.model.instance import Failed, Outcome
from tidemill.ports.clock import Clock
from tidemill.ports.executor import Job, JobEnded, JobEvent, JobPlace
from tidemill.ports.jobs import dump_job, load_event

#: A consumer that was not heard of for so many seconds is gone. What it was granted has ended by then, as leases last
#: 15 s from when it spoke; it speaks every three.
SILENT = 14.0
#: A job that nobody asks for is sent again after so long, if some consumer has nothing to do.
SEND_AGAIN = 5.0
#: Jobs that are sent beyond what consumers can begin at once, for each that they can.
_AHEAD = 1

_STOPPED = Failed("It was stopped.", again=False)
_Told: TypeAlias = tuple[JobPlace, int, bool]

_log = logging.getLogger("tidemill.executor")


@dataclass(eq=False, slots=True)
class _Hand:
    """A job that was submitted and whose end was not acknowledged."""

    job: Job
    ticket: int
    until: float
    sent: float
    #: Who has it.
    consumer: str | None = None
    granted: float = 0.0
    stopped: bool = False
    ended: bool = False


@dataclass(eq=False, slots=True)
class _Consumer:
    """A consumer as it was last heard of."""

    heard: float
    #: Its own time, then.
    moment: float
    queues: frozenset[str] = frozenset()
    slots: int = 0
    busy: int = 0
    tickets: frozenset[int] = field(default_factory=frozenset)


class CeleryExecutor:
    """Port `executor` with consumers on any machine (`worker.py`), through a broker.

    Args:
        url: the broker's.
        project: only consumers of this project get its jobs.
        clock: what the times of jobs are told by.
        silent: a consumer that was not heard of for so many seconds is gone.
    """

    def __init__(self, url: str, project: str, clock: Clock, *, silent: float = SILENT) -> None:
        self._app = make_app(url)
        self._names = Names(project)
        self._clock = clock
        self._silent = silent
        self._name = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._hands: dict[JobPlace, _Hand] = {}
        self._tickets: dict[int, _Hand] = {}
        self._consumers: dict[str, _Consumer] = {}
        self._told: dict[_Told, JobEvent] = {}
        self._ticket = 0
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._sender = Sender(self._app, self._broker_is_back)
        self._receiver = Receiver(
            self._app, [self._names.replies(self._name), self._names.signs(self._name)], self._hear
        )

    # -- the port

    def free(self, queues: Collection[str]) -> Mapping[str, int]:
        """For each queue what consumers that serve it can begin, and as much again that waits for them."""
        now = time.monotonic()
        with self._lock:
            open_jobs = [hand for hand in self._hands.values() if not hand.ended]
            found = {}
            for queue in queues:
                serving = {n: c for n, c in self._consumers.items() if queue in c.queues and not self._is_gone(c, now)}
                ours = sum(hand.consumer in serving for hand in open_jobs)
                others = max(sum(c.busy for c in serving.values()) - ours, 0)
                waiting = sum(hand.consumer is None and hand.job.queue == queue for hand in open_jobs)
                slots = sum(c.slots for c in serving.values())
                found[queue] = max(slots * (1 + _AHEAD) - ours - others - waiting, 0)
            return found

    def submit(self, job: Job) -> None:
        """Send it to whoever serves its queue."""
        place = (job.run_id, job.key, job.number)
        with self._lock:
            if place in self._hands:
                return
            self._ticket += 1
            hand = _Hand(job, self._ticket, self._moment(job.until), time.monotonic())
            self._hands[place] = self._tickets[hand.ticket] = hand
        self._send_job(hand)

    def has(self, run_id: int, key: TaskKey, number: int) -> bool:
        """Whether the job is here, or its end has not been acknowledged."""
        with self._lock:
            return (run_id, key, number) in self._hands

    def renew(self, until: datetime, places: Collection[JobPlace] | None = None) -> None:
        """Let these jobs go on until then, or all that are here; a stop that did not arrive is said again."""
        moment = self._moment(until)
        renewed: dict[str, list[int]] = {}
        with self._lock:
            for place in self._hands if places is None else places:
                hand = self._hands.get(place)
                if hand is None or hand.ended:
                    continue
                hand.until = moment
                if hand.consumer is not None:
                    renewed.setdefault(hand.consumer, []).append(hand.ticket)
                    if hand.stopped:
                        self._order(hand.consumer, "stop", ticket=hand.ticket)
            for name, tickets in renewed.items():
                self._order(name, "renew", tickets=tickets, **self._grant(name, moment))

    def stop(self, run_id: int, key: TaskKey) -> None:
        """Stop a job, first politely; one that nobody has asked for yet is refused to whoever asks."""
        with self._lock:
            for hand in [hand for hand in self._hands.values() if (hand.job.run_id, hand.job.key) == (run_id, key)]:
                if hand.ended or hand.stopped:
                    continue
                hand.stopped = True
                if hand.consumer is None:
                    self._end(hand, _STOPPED)
                else:
                    self._order(hand.consumer, "stop", ticket=hand.ticket)

    def events(self) -> Sequence[JobEvent]:
        """What has happened and was not acknowledged."""
        try:
            while os.read(self._wake, 4096):
                pass
        except BlockingIOError:
            pass
        with self._lock:
            self._tend(time.monotonic())
            return list(self._told.values())

    def acknowledge(self, events: Sequence[JobEvent]) -> None:
        """These need not be told again."""
        with self._lock:
            for event in events:
                ended = isinstance(event, JobEnded)
                place = (event.run_id, event.key, event.number)
                if self._told.pop((place, event.fence, ended), None) is not None and ended:
                    hand = self._hands.pop(place, None)
                    if hand is not None:
                        self._tickets.pop(hand.ticket, None)

    def handles(self) -> Sequence[int]:
        """One descriptor that is readable when something was heard."""
        return (self._wake,)

    def pause(self) -> float | None:
        """A second while jobs are here: whether their consumers are silent."""
        with self._lock:
            return 1.0 if any(not hand.ended for hand in self._hands.values()) else None

    def close(self) -> None:
        """Let go of all jobs: their consumers stop them when nobody renews them."""
        self._sender.close()
        self._receiver.close(delete=True)
        os.close(self._wake)
        os.close(self._waker)

    # -- hearing (in the receiver's thread)

    def _hear(self, said: dict[str, Any]) -> None:
        with self._lock:
            self._take_in(said["kind"], said["consumer"], said)
            try:
                os.write(self._waker, b"!")
            except BlockingIOError:  # the scheduler has not looked for long: it will
                return

    def _take_in(self, kind: str, name: str, said: dict[str, Any]) -> None:
        now = time.monotonic()
        consumer = self._consumers.setdefault(name, _Consumer(now, said["t"]))
        if said["t"] >= consumer.moment:
            consumer.heard, consumer.moment = now, said["t"]
        if kind == "alive":
            consumer.queues, consumer.slots, consumer.busy = frozenset(said["queues"]), said["slots"], said["busy"]
            consumer.tickets = frozenset(said["tickets"].get(self._name, ()))
            self._miss(name, consumer)
        elif kind == "taken":
            self._answer(name, said["ticket"], now)
        elif kind == "left":
            self._send_again(name, said["ticket"], now)
        elif kind == "event":
            self._take_event(name, said["ticket"], said["event"])

    def _answer(self, name: str, ticket: int, now: float) -> None:
        """A consumer asks for a job: it is granted to one, as long as it is wanted."""
        hand = self._tickets.get(ticket)
        if hand is None or hand.ended or hand.consumer not in (None, name):
            self._order(name, "no", ticket=ticket)
            return
        hand.consumer, hand.granted = name, now
        self._order(name, "go", ticket=ticket, **self._grant(name, hand.until))

    def _send_again(self, name: str, ticket: int, now: float) -> None:
        """A consumer had no answer in time, and has not begun: somebody else may have the job."""
        hand = self._tickets.get(ticket)
        if hand is not None and not hand.ended and hand.consumer in (None, name):
            hand.consumer, hand.sent = None, now
            if hand.stopped:
                self._end(hand, _STOPPED)
            else:
                self._send_job(hand)

    def _take_event(self, name: str, ticket: int, text: str) -> None:
        event = load_event(text)
        hand = self._tickets.get(ticket)
        if isinstance(event, JobEnded):
            self._order(name, "seen", ticket=ticket)
        if hand is None or hand.ended or hand.consumer != name:
            return
        if isinstance(event, JobEnded):
            self._end(hand, event)
        else:
            self._tell(event)

    def _miss(self, name: str, consumer: _Consumer) -> None:
        """A consumer says what it has: what it was granted before and does not name is lost."""
        # What it said may have been on its way when a job was granted.
        late = consumer.heard - self._silent / 2
        for hand in self._tickets.values():
            if hand.consumer == name and not hand.ended and hand.granted < late and hand.ticket not in consumer.tickets:
                self._lose(hand, "its consumer does not know of it")

    # -- saying

    def _moment(self, until: datetime) -> float:
        return time.monotonic() + (until - self._clock.now()).total_seconds()

    def _grant(self, name: str, until: float) -> dict[str, float]:
        """A lease, told from when the consumer spoke last."""
        return {"t": self._consumers[name].moment, "left": until - time.monotonic()}

    def _order(self, name: str, kind: str, **values: Any) -> None:
        body = {"kind": kind, "scheduler": self._name, **values}
        self._sender.say(self._names.orders(name).name, body, delivery_mode=1)

    def _send_job(self, hand: _Hand) -> None:
        job, text = hand.job, dump_job(hand.job)

        def send(producer: Producer) -> None:
            self._app.send_task(
                TASK,
                args=(self._name, hand.ticket, text),
                queue=self._names.jobs(job.queue),
                producer=producer,
                ignore_result=True,
                retry=False,
            )

        self._sender.put(send)

    def _broker_is_back(self) -> None:
        """It may have lost what waited in it; a job that arrives twice is granted once."""
        with self._lock:
            waiting = [hand for hand in self._hands.values() if hand.consumer is None and not hand.ended]
        for hand in waiting:
            hand.sent = time.monotonic()
            self._send_job(hand)

    # -- ends

    def _tell(self, event: JobEvent) -> None:
        self._told[((event.run_id, event.key, event.number), event.fence, isinstance(event, JobEnded))] = event

    def _end(self, hand: _Hand, how: Outcome | JobEnded | None) -> None:
        job = hand.job
        hand.ended = True
        self._tell(how if isinstance(how, JobEnded) else JobEnded(job.run_id, job.fence, job.key, job.number, how))

    def _lose(self, hand: _Hand, why: str) -> None:
        job = hand.job
        _log.warning("Run %d, task %s, try %d was lost: %s.", job.run_id, job.key[0], job.number, why)
        self._end(hand, _STOPPED if hand.stopped else None)

    def _is_gone(self, consumer: _Consumer, now: float) -> bool:
        return now - consumer.heard > self._silent

    def _tend(self, now: float) -> None:
        """Notice jobs that nobody vouches for, silent consumers, and jobs that nobody has asked for."""
        for hand in self._hands.values():
            if hand.ended:
                continue
            if hand.consumer is None:
                if hand.until <= now:
                    self._lose(hand, "nobody had begun it when its time was over")
                elif now - hand.sent > SEND_AGAIN and self._somebody_waits(hand.job.queue, now):
                    hand.sent = now
                    self._send_job(hand)
            elif self._is_gone(self._consumers[hand.consumer], now):
                self._lose(hand, f"nothing was heard of its consumer {hand.consumer} for {self._silent:g} s")
        wanted = {hand.consumer for hand in self._hands.values()}
        for name in [n for n, c in self._consumers.items() if self._is_gone(c, now) and n not in wanted]:
            del self._consumers[name]

    def _somebody_waits(self, queue: str, now: float) -> bool:
        serving = [c for c in self._consumers.values() if queue in c.queues and not self._is_gone(c, now)]
        return any(c.busy < c.slots for c in serving)
