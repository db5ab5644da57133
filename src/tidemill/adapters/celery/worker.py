"""The consumer: it takes jobs from a broker, asks their scheduler, and has an executor of its own machine do them.

    Celery worker (a thread a job) -> taken -> go -> executor.submit -> ... -> JobEnded -> the thread returns: ack
                                                          ^
                       one thread owns the executor ------'

Time-outs, isolation, logs and stops are the executor's: a job behaves as it does on one machine.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

import celery.signals
from celery.apps.worker import Worker as CeleryWorker
from kombu import Queue

from tidemill.adapters.celery.app import TASK, Names, make_app
from tidemill.adapters.celery.link import Receiver, Sender
from tidemill.ports.clock import Clock
from tidemill.ports.executor import Executor, Job, JobEnded, JobEvent, JobPlace
from tidemill.ports.jobs import dump_event, load_job

#: How often it says that it lives.
ALIVE_EVERY = 3.0
#: How long it waits for a scheduler's answer. A job without one is left: its scheduler is gone, or sends it again.
ANSWER_WAIT = 5.0
#: How often the end of a job is told to a scheduler that does not say that it has seen it.
_TELL_EVERY, _TELL_TIMES = 3.0, 200

_Ticket: TypeAlias = tuple[str, int]

_log = logging.getLogger("tidemill.consumer")


@dataclass(eq=False, slots=True)
class _Work:
    """A job in hand; `granted` is the moment until which it may go on, None if it was refused."""

    ticket: _Ticket
    job: Job
    answered: threading.Event = field(default_factory=threading.Event)
    granted: float | None = None
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False, slots=True)
class _Untold:
    """An end that its scheduler has not seen yet."""

    body: dict[str, Any]
    due: float
    left: int = _TELL_TIMES


class Consumer:
    """A Celery worker whose tasks are done by an executor.

    Args:
        url: the broker's.
        project: only jobs of this project are taken.
        executor: does the jobs. It is used by one thread of this object only.
        clock: what the executor's times are told by.
        queues: the queues of tasks to serve.
        slots: how many jobs at the same time; not more than the executor has workers.
        alive_every: seconds between signs of life.
        answer_wait: seconds that it waits for a scheduler's answer.
    """

    def __init__(
        self,
        url: str,
        project: str,
        executor: Executor,
        clock: Clock,
        *,
        queues: Collection[str],
        slots: int,
        alive_every: float = ALIVE_EVERY,
        answer_wait: float = ANSWER_WAIT,
    ) -> None:
        self._app = make_app(url)
        self._names = Names(project)
        self._answer_wait = answer_wait
        self._executor = executor
        self._clock = clock
        self._queues = tuple(queues)
        self._slots = slots
        self._alive_every = alive_every
        self._name = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._open = False
        self._lock = threading.Lock()
        self._works: dict[_Ticket, _Work] = {}
        self._places: dict[JobPlace, _Work] = {}
        self._untold: dict[_Ticket, _Untold] = {}
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)

    def run(self) -> int:
        """Consume until SIGTERM, and then until what was begun has ended; returns the exit code."""
        self._sender = Sender(self._app)
        receiver = Receiver(self._app, [self._names.orders(self._name)], self._hear)
        threading.Thread(target=self._pump, name="tidemill-pump", daemon=True).start()
        self._app.task(name=TASK, acks_late=True, ignore_result=True)(self._perform)
        names = [self._names.jobs(name) for name in self._queues]
        self._app.conf.task_queues = [Queue(name, durable=True) for name in names]
        worker = CeleryWorker(
            app=self._app,
            hostname=f"tidemill@{self._name}",
            pool="threads",
            concurrency=self._slots,
            queues=names,
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        celery.signals.worker_ready.connect(self._begin_taking, weak=False)
        celery.signals.worker_shutting_down.connect(self._end_taking, weak=False)
        worker.start()
        self._say_alive()
        self._sender.close()
        receiver.close()
        return int(worker.exitcode or 0)

    def _begin_taking(self, **_: Any) -> None:
        """Celery takes jobs from now on: schedulers may count on this consumer."""
        self._open = True
        self._do(self._say_alive)

    def _end_taking(self, **_: Any) -> None:
        self._open = False

    # -- a job, in a thread of Celery's pool

    def _perform(self, scheduler: str, number: int, text: str) -> None:
        work = _Work((scheduler, number), load_job(text))
        job = work.job
        place = (job.run_id, job.key, job.number)
        with self._lock:
            if work.ticket in self._works or work.ticket in self._untold or place in self._places:
                return  # it was delivered twice
            self._works[work.ticket] = self._places[place] = work
        try:
            self._say(scheduler, "taken", ticket=number)
            if not work.answered.wait(self._answer_wait):
                self._say(scheduler, "left", ticket=number)
            elif work.granted is not None:
                self._do(lambda: self._begin(work))
                work.ended.wait()
        finally:
            with self._lock:
                del self._works[work.ticket], self._places[place]

    def _begin(self, work: _Work) -> None:
        self._executor.submit(_with_until(work.job, self._clock, work.granted or 0.0))

    # -- orders, in the receiver's thread

    def _hear(self, said: dict[str, Any]) -> None:
        kind, scheduler = said["kind"], said["scheduler"]
        if kind == "renew":
            until = said["t"] + said["left"]
            self._do(lambda: self._renew([(scheduler, number) for number in said["tickets"]], until))
            return
        ticket = (scheduler, said["ticket"])
        if kind == "seen":
            with self._lock:
                self._untold.pop(ticket, None)
            return
        with self._lock:
            work = self._works.get(ticket)
        if work is None:
            return
        if kind == "go":
            work.granted = said["t"] + said["left"]
            work.answered.set()
        elif kind == "no":
            work.answered.set()
        elif kind == "stop":
            self._do(lambda: self._executor.stop(work.job.run_id, work.job.key))

    # -- the executor, in one thread

    def _do(self, order: Callable[[], None]) -> None:
        """Have the thread that owns the executor do something."""
        self._orders.put(order)
        try:
            os.write(self._waker, b"!")
        except BlockingIOError:  # it has not looked yet: it will
            return

    def _pump(self) -> None:
        selector = selectors.DefaultSelector()
        for handle in (self._wake, *self._executor.handles()):
            selector.register(handle, selectors.EVENT_READ)
        alive = 0.0
        while True:
            now = time.monotonic()
            if now >= alive:
                self._say_alive()
                self._tell_again(now)
                alive = now + self._alive_every
            pause = self._executor.pause()
            selector.select(min(alive - now, self._alive_every if pause is None else pause))
            try:
                self._turn()
            except Exception:
                _log.exception("The consumer cannot go on: its executor is gone")
                os._exit(1)

    def _turn(self) -> None:
        try:
            while os.read(self._wake, 4096):
                pass
        except BlockingIOError:
            pass
        while not self._orders.empty():
            self._orders.get()()
        events = self._executor.events()
        for event in events:
            self._tell(event)
        self._executor.acknowledge(events)

    def _renew(self, tickets: Collection[_Ticket], until: float) -> None:
        with self._lock:
            jobs = [self._works[ticket].job for ticket in tickets if ticket in self._works]
        moment = self._clock.now() + timedelta(seconds=until - time.monotonic())
        self._executor.renew(moment, [(job.run_id, job.key, job.number) for job in jobs])

    def _tell(self, event: JobEvent) -> None:
        with self._lock:
            work = self._places.get((event.run_id, event.key, event.number))
            if work is None:
                return
            scheduler, number = work.ticket
            ended = isinstance(event, JobEnded)
            body = {"ticket": number, "event": dump_event(event)}
            if ended:
                self._untold[work.ticket] = _Untold(body, time.monotonic() + _TELL_EVERY)
        # Only then the thread returns and Celery acknowledges: while the broker is gone it could not, and would take
        # the message for unacknowledged, and so itself for busy, ever after.
        self._say(scheduler, "event", work.ended.set if ended else None, **body)

    def _tell_again(self, now: float) -> None:
        with self._lock:
            due = [(ticket, untold) for ticket, untold in self._untold.items() if untold.due <= now]
            for ticket, untold in due:
                untold.due, untold.left = now + _TELL_EVERY, untold.left - 1
                if not untold.left:
                    del self._untold[ticket]
        for (scheduler, _), untold in due:
            self._say(scheduler, "event", **untold.body)

    # -- saying

    def _say(self, scheduler: str, kind: str, sent: Callable[[], None] | None = None, /, **values: Any) -> None:
        body = {"kind": kind, "consumer": self._name, "t": time.monotonic(), **values}
        self._sender.say(self._names.replies(scheduler).name, body, sent=sent)

    def _say_alive(self) -> None:
        tickets: dict[str, list[int]] = {}
        with self._lock:
            busy = len(self._works)
            for scheduler, number in (*self._works, *self._untold):
                tickets.setdefault(scheduler, []).append(number)
        queues, slots = (self._queues, self._slots) if self._open else ((), 0)
        body = {
            "kind": "alive",
            "consumer": self._name,
            "t": time.monotonic(),
            "queues": queues,
            "slots": slots,
            "busy": busy,
            "tickets": tickets,
        }
        self._sender.say("", body, exchange=self._names.alive, declare=[self._names.alive], delivery_mode=1)


def _with_until(job: Job, clock: Clock, moment: float) -> Job:
    """The job with the lease that was granted, by this machine's clock."""
    return replace(job, until=clock.now() + timedelta(seconds=moment - time.monotonic()))
