"""The executor of one machine: it has workers forked, gives them jobs, and notices how they end.

    submit -> backlog -> a worker's queue -> its head is performed -> told -> acknowledged
                 ^             |
                 '--- BACK ----'   behind a job that takes its time, or in a worker that has ended

It lives in the scheduler's process, in its only thread: nothing waits, everything is done where `submit`, `events` and
the others are called. The scheduler sleeps on `handles`.

A worker whose jobs are quick gets up to `AHEAD` more than the one it performs, so that it need not wait while the
scheduler writes to its database (some ms). They are given back as soon as a job takes more than 20 ms.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from tidemill.adapters.processes.channel import MOMENT, Frames, Garbled, Kind, frame
from tidemill.adapters.processes.forker import Forked, Forker
from tidemill.adapters.processes.member import Hand, Member
from tidemill.adapters.processes.worker import timed_out
from tidemill.model.graph import TaskKey
from tidemill.model.instance import Failed, Outcome
from tidemill.ports.clock import Clock
from tidemill.ports.executor import Job, JobEnded, JobEvent, JobPlace, JobStarted
from tidemill.ports.jobs import dump_job, load_event

#: Jobs that a worker has beyond the one that it performs, if it is quick.
AHEAD = 2
#: A worker is replaced after so many jobs: what libraries leak, and what tasks leave behind, ends with it.
MOST_JOBS = 200
IDLE = timedelta(seconds=60)
GRACE = timedelta(seconds=5)
#: How long after a fork that failed the next is asked for.
_FORK_AGAIN = 1.0
_RECEIVE = 1 << 18

_log = logging.getLogger("tidemill.executor")

_Told: TypeAlias = tuple[JobPlace, int, bool]


class LocalExecutor:
    """Port `executor` with workers of this machine; every queue is served.

    Args:
        forker: has workers forked. It belongs to this object from now on.
        clock: what the times of jobs are told by.
        workers: the most that there are; None: one for each core, at least four.
        backlog: jobs that are taken beyond those that workers perform; None: two for each worker.
        most_jobs: a worker is replaced after so many.
        idle: a worker that has had nothing to do for so long is ended, except the last.
        grace: how long a task has that was stopped, or has timed out, before it is killed.
        on_lost: called with a job whose worker ended without a word of it, why, and what the worker had written to its
            outputs (`work`) that nobody had read: for the log of the try.
    """

    def __init__(
        self,
        forker: Forker,
        clock: Clock,
        *,
        workers: int | None = None,
        backlog: int | None = None,
        most_jobs: int = MOST_JOBS,
        idle: timedelta = IDLE,
        grace: timedelta = GRACE,
        on_lost: Callable[[Job, str, Sequence[bytes]], None] | None = None,
    ) -> None:
        self._forker = forker
        self._clock = clock
        self._most = max(4, os.cpu_count() or 1) if workers is None else workers
        self._capacity = self._most + (2 * self._most if backlog is None else backlog)
        self._most_jobs = most_jobs
        self._idle = idle.total_seconds()
        self._grace = grace.total_seconds()
        self._on_lost = on_lost
        self._hands: dict[JobPlace, Hand] = {}
        self._backlog: deque[Hand] = deque()
        self._members: dict[int, Member] = {}
        self._told: dict[_Told, JobEvent] = {}
        self._open = 0
        self._ticket = 0
        self._turn = 0
        self._fork_after = 0.0
        self._selector = selectors.DefaultSelector()
        self._selector.register(forker, selectors.EVENT_READ)
        self._hire()

    # -- the port

    def free(self, queues: Collection[str]) -> Mapping[str, int]:
        """Workers and backlog, less what is in hand, shared out evenly; the odd ones go round."""
        room = max(self._capacity - self._open, 0)
        if not queues:
            return {}
        self._turn += 1
        each, odd = divmod(room, len(queues))
        return {queue: each + ((place + self._turn) % len(queues) < odd) for place, queue in enumerate(sorted(queues))}

    def submit(self, job: Job) -> None:
        """Give it to a worker, or put it last in the backlog."""
        place = (job.run_id, job.key, job.number)
        if place in self._hands:
            return
        self._ticket += 1
        hand = self._hands[place] = Hand(job, self._ticket, self._moment(job.until))
        self._open += 1
        self._backlog.append(hand)
        self._feed(time.monotonic())

    def has(self, run_id: int, key: TaskKey, number: int) -> bool:
        """Whether the job is here, or its end has not been acknowledged."""
        return (run_id, key, number) in self._hands

    def renew(self, until: datetime, places: Collection[JobPlace] | None = None) -> None:
        """Let these jobs go on until then, or all that are here; a worker goes on if any of its jobs may."""
        moment = self._moment(until)
        renewed: set[Member] = set()
        for place in self._hands if places is None else places:
            hand = self._hands.get(place)
            if hand is not None and not hand.ended:
                hand.until = moment
                if hand.member is not None:
                    renewed.add(hand.member)
        for member in renewed:
            self._send(member, frame(Kind.RENEW, 0, MOMENT.pack(moment)))

    def stop(self, run_id: int, key: TaskKey) -> None:
        """Stop a job, first politely; it ends like any other."""
        now = time.monotonic()
        for hand in [hand for hand in self._hands.values() if (hand.job.run_id, hand.job.key) == (run_id, key)]:
            if hand.ended or hand.stopped is not None:
                continue
            hand.stopped = now
            if hand.member is None:
                self._backlog.remove(hand)
                self._end(hand, _STOPPED)
            else:
                self._send(hand.member, frame(Kind.STOP, hand.ticket))

    def events(self) -> Sequence[JobEvent]:
        """Hear all workers, give them what there is to do, and tell what was not acknowledged."""
        self._pump()
        return list(self._told.values())

    def acknowledge(self, events: Sequence[JobEvent]) -> None:
        """These need not be told again."""
        for event in events:
            ended = isinstance(event, JobEnded)
            place = (event.run_id, event.key, event.number)
            if self._told.pop((place, event.fence, ended), None) is not None and ended:
                self._hands.pop(place, None)

    def handles(self) -> Sequence[int]:
        """One descriptor that is readable when any worker has said something."""
        return (self._selector.fileno(),)

    def pause(self) -> float | None:
        """Seconds until a time is over that a worker or a job has."""
        now = time.monotonic()
        due = [hand.until for hand in self._backlog]
        due += [member.due(self._grace) for member in self._members.values()]
        due += [member.idle_since + self._idle for member in self._idlers()]
        if self._backlog and self._fork_after > now:
            due.append(self._fork_after)
        first = min(due, default=float("inf"))
        return None if first == float("inf") else max(first - now, 0.0)

    def close(self) -> None:
        """Let go of all workers: each stops what it does, first politely, and ends."""
        for member in self._members.values():
            member.close()
        self._members.clear()
        self._selector.close()
        self._forker.close()

    @property
    def workers(self) -> Mapping[int, int]:
        """How many jobs each worker has in hand, by process id."""
        return {member.pid: len(member.queue) for member in self._members.values() if member.pid is not None}

    # -- hearing

    def _moment(self, until: datetime) -> float:
        """The moment of this machine's monotonic clock that a time is."""
        return time.monotonic() + (until - self._clock.now()).total_seconds()

    def _pump(self) -> None:
        for key, ready in self._selector.select(0):
            member: Member | None = key.data
            if member is None:
                for word in self._forker.heard():
                    self._hear_server(word.number, word.pid if isinstance(word, Forked) else word.why)
            elif member.number in self._members:
                if ready & selectors.EVENT_WRITE:
                    self._send(member, b"")
                if ready & selectors.EVENT_READ:
                    self._hear(member)
        now = time.monotonic()
        self._tend(now)
        self._feed(now)

    def _hear_server(self, number: int, what: int | str) -> None:
        member = self._members.get(number)
        if member is None:
            return
        if isinstance(what, int):
            member.pid = what
            return
        while member.end.fileno() >= 0 and self._hear(member):
            pass
        self._bury(member, what)

    def _hear(self, member: Member) -> bool:
        """Take in what a worker has said; False: it has not said anything more."""
        try:
            data = member.receive(_RECEIVE)
            found = member.frames.feed(data)
        except BlockingIOError:
            return False
        except (OSError, Garbled):
            data, found = b"", []
        now = time.monotonic()
        for kind, ticket, body in found:
            if kind is Kind.ENDED or kind is Kind.LAST:
                self._take_end(member, ticket, body, kind is Kind.LAST, now)
            elif kind is Kind.ALIVE:
                (member.until,) = MOMENT.unpack(body)
            elif kind is Kind.BACK:
                self._take_back(member, ticket)
            elif kind is Kind.STARTED:
                self._take_start(member, ticket)
            elif kind is Kind.READY:
                member.greeted = True
        if not data:
            # It ends, or a task has closed what it did not open: without it the worker is of no use.
            self._retire(member)
            self._forker.kill(member.number)
        return bool(data)

    def _take_start(self, member: Member, ticket: int) -> None:
        member.quick = False
        if member.queue and member.queue[0].ticket == ticket:
            job = member.queue[0].job
            self._tell(JobStarted(job.run_id, job.fence, job.key, job.number))
            member.started = True

    def _take_end(self, member: Member, ticket: int, body: bytes, last: bool, now: float) -> None:
        member.done += 1
        member.quick = not member.started and not last
        if member.queue and member.queue[0].ticket == ticket:
            hand = member.queue.popleft()
            event = load_event(body)
            assert isinstance(event, JobEnded)
            self._end(hand, event)
            member.begin_next(now)
        if last:
            self._retire(member)
            self._take_all_back(member)
        elif not member.queue and member.done >= self._most_jobs:
            self._retire(member)

    def _take_back(self, member: Member, ticket: int) -> None:
        for hand in member.queue:
            if hand.ticket == ticket:
                member.queue.remove(hand)
                self._put_back(hand)
                return

    def _take_all_back(self, member: Member) -> None:
        while member.queue:
            self._put_back(member.queue.pop())

    def _put_back(self, hand: Hand) -> None:
        """It was not begun: somebody else may have it."""
        hand.member = None
        if hand.stopped is not None:
            self._end(hand, _STOPPED)
        else:
            self._backlog.appendleft(hand)

    def _retire(self, member: Member) -> None:
        """Give it nothing more; a worker without a job ends when it hears so."""
        if not member.leaving:
            member.leaving = True
            self._selector.unregister(member.end)
            member.end.close()

    def _bury(self, member: Member, why: str) -> None:
        """A worker has ended: what it performed has no end of its own, what waited behind that was not begun."""
        self._retire(member)
        del self._members[member.number]
        if member.pid is None:
            self._fork_after = time.monotonic() + _FORK_AGAIN
            _log.error("A worker could not be had: %s.", why)
        elif member.queue:
            self._lose(member, member.queue.popleft(), member.why or why)
        member.close()
        self._take_all_back(member)

    def _lose(self, member: Member, hand: Hand, why: str) -> None:
        """A worker has ended in the midst of a job."""
        outcome, job = hand.fate, hand.job
        if outcome is None and hand.stopped is not None:
            outcome = _STOPPED
        if outcome is None:
            place = f"run {job.run_id}, task {job.key[0]}, try {job.number}"
            _log.warning("Worker %d was lost with %s: %s.", member.pid, place, why)
        if self._on_lost is not None:
            self._on_lost(job, f"The worker {member.pid} is gone: {why}.", member.last_words())
        self._end(hand, outcome)

    # -- ends

    def _tell(self, event: JobEvent) -> None:
        self._told[((event.run_id, event.key, event.number), event.fence, isinstance(event, JobEnded))] = event

    def _end(self, hand: Hand, how: Outcome | JobEnded | None) -> None:
        """The job is over."""
        job = hand.job
        hand.ended, hand.member = True, None
        self._open -= 1
        self._tell(how if isinstance(how, JobEnded) else JobEnded(job.run_id, job.fence, job.key, job.number, how))

    def _tend(self, now: float) -> None:
        """Do what is due: jobs that nobody vouches for, tasks that do not end, workers that are silent or idle."""
        for hand in [hand for hand in self._backlog if hand.until <= now]:
            self._backlog.remove(hand)
            self._end(hand, None)
        for member in list(self._members.values()):
            if member.due(self._grace) <= now:
                self._kill(member, now)
        for member in self._idlers():
            if member.idle_since + self._idle <= now:
                self._retire(member)

    def _idlers(self) -> list[Member]:
        """Workers that may go for want of work: all but one of those that are left."""
        staff = [member for member in self._members.values() if not member.leaving]
        return [member for member in staff if not member.queue][: max(len(staff) - 1, 0)]

    def _kill(self, member: Member, now: float) -> None:
        """A worker has had its time."""
        head = member.queue[0]
        if head.overdue(now, self._grace):
            if head.stopped is None:
                head.fate = timed_out(head.job, ", did not end when it was interrupted, and was killed")
        elif member.greeted and not _is_frozen(member.pid):
            # It computes in a library that holds the interpreter's lock, and so does not answer.
            member.until = now + 1.0
            return
        else:
            member.why = "it did not answer"
        member.until = float("inf")
        member.killed = True
        self._forker.kill(member.number)

    # -- giving

    def _hire(self) -> Member | None:
        """Ask for a worker; it can be given jobs before it lives."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number = self._forker.fork(theirs)
        member = self._members[number] = Member(number, ours, Frames(), idle_since=time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, member)
        return member

    def _feed(self, now: float) -> None:
        """Give jobs to workers, as many as they take."""
        while self._backlog and self._backlog[0].until <= now:
            self._end(self._backlog.popleft(), None)
        while self._backlog:
            member = self._taker(now)
            if member is None:
                return
            hand = self._backlog.popleft()
            if not member.queue:
                hand.begun = now
                member.started = False
                member.until = hand.until
            hand.member = member
            member.queue.append(hand)
            text = dump_job(hand.job).encode()
            self._send(member, frame(Kind.JOB, hand.ticket, MOMENT.pack(hand.until) + text))

    def _taker(self, now: float) -> Member | None:
        """Who gets the next job: a worker without one, or a new one, or a quick one."""
        staff = [member for member in self._members.values() if not member.leaving]
        for member in staff:
            if not member.queue:
                return member
        if len(self._members) < self._most and now >= self._fork_after:
            return self._hire()
        ahead = [
            member
            for member in staff
            if member.quick and len(member.queue) <= AHEAD and member.done + len(member.queue) < self._most_jobs
        ]
        return min(ahead, key=lambda member: len(member.queue), default=None)

    def _send(self, member: Member, data: bytes) -> None:
        if member.leaving:
            return
        had = bool(member.out)
        member.send(data)
        if bool(member.out) != had:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.out else 0)
            self._selector.modify(member.end, events, member)


_STOPPED = Failed("It was stopped.", again=False)


def _is_frozen(pid: int | None) -> bool:
    """Whether a process does not run though it could: it was stopped by a signal. True where nobody can say."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in ("T", "t", "Z", "X")
