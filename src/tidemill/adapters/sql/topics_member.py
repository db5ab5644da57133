"""Members of groups that share embedded topics: processes that meet in the database's rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, select, update

from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.topics_schema import topic_groups, topic_members, topic_tasks
from tidemill.model.errors import Fenced
from tidemill.plan.sharing import Part, share
from tidemill.ports.topic import Partition, Position, TaskInputs

if TYPE_CHECKING:
    from tidemill.adapters.sql.topics import SqlTopics

#: Seconds between two looks at the group: at first, and at most while nothing changes.
_LOOK, _REST = 0.1, 0.5
#: A rest of a wait that is no more than what clocks round off.
_LEAST = 1e-5
#: No session is longer, where it is not known how long those of the group are.
LONGEST = timedelta(minutes=10)
_m, _t = topic_members.c, topic_tasks.c


def live_members(
    session: Session, group: str, now: datetime, alive: Callable[[str], bool], most: timedelta = LONGEST
) -> dict[str, datetime]:
    """The members of a group with the ends of their sessions; those that are over are left out, and those whose
    process is known to be gone: nobody need wait for them.

    One that ends later than `most` from now was written before the clock went back: its member may be dead for long.
    """
    query = select(_m.member, _m.until).where(_m.project == session.project, _m.group_name == group)
    return {
        row.member: row.until
        for row in session.all(query)
        if now < row.until <= now + most and alive(holder_of(row.member))
    }


def holder_of(member: str) -> str:
    """The process of a member, as its name begins."""
    return member.rpartition("/")[0]


class SqlMember:
    """The port's `Member`."""

    def __init__(self, topics: SqlTopics, group: str, tasks: TaskInputs, session: timedelta) -> None:
        self._topics = topics
        self.group = group
        self._inputs = tasks
        self._session = session
        self._longest = 2 * session
        self._mine: frozenset[int] = frozenset()
        self._step = _LOOK
        self._look_at = 0.0
        self._join()

    def poll(
        self, taken: Callable[[frozenset[int]], None], given_up: Callable[[frozenset[int]], None], timeout: float
    ) -> None:
        """Take part; waits up to `timeout` for something to change. Raises Unreachable."""
        clock = self._topics.clock
        until = clock.monotonic() + timeout
        while not (clock.monotonic() >= self._look_at and self._turn(taken, given_up)):
            left = until - clock.monotonic()
            if left < _LEAST:
                return
            clock.sleep(min(left, max(self._look_at - clock.monotonic(), _LEAST)))

    @property
    def tasks(self) -> frozenset[int]:
        """The member's tasks."""
        return self._mine

    def committed(self, partitions: Sequence[Partition], timeout: float | None = None) -> Mapping[Partition, Position]:
        """How far the group has come."""
        return self._topics.committed(self.group, partitions)

    def close(self) -> None:
        """Leave."""
        with self._topics.metadata.session(writing=True) as session:
            self._lock(session)
            session.change(delete(topic_tasks).where(self._of_group(_t), _t.member == self._name))
            session.change(delete(topic_members).where(self._me()))
        self._mine = frozenset()

    def check(self, session: Session, positions: Collection[Partition]) -> None:
        """Raise Fenced where the member has lost its place, or a position's task; else it has it until the transaction
        ends.
        """
        self._inputs.see(positions, self._mine)
        row = session.first(select(_m.until).where(self._me()), lock=True)
        if row is None or row.until <= self._topics.now(session):
            raise Fenced("This member's session is over: its tasks may be another one's.")

    def _join(self) -> None:
        self._name = f"{self._topics.holder}/{uuid.uuid4().hex}"
        with self._topics.metadata.session(writing=True) as session:
            group = session.insert(topic_groups).on_conflict_do_nothing()
            session.add_all(group, [{"project": session.project, "name": self.group}])
            until = self._topics.now(session) + self._session
            row = {"project": session.project, "group_name": self.group, "member": self._name, "until": until}
            session.add_all(session.insert(topic_members), [row])

    def _turn(self, taken: Callable[[frozenset[int]], None], given_up: Callable[[frozenset[int]], None]) -> bool:
        """One look at the group; whether anything changed for this member."""
        self._look_at = self._topics.clock.monotonic() + self._step
        if self._is_quiet():
            self._step = min(self._step * 2, _REST)
            return False
        self._step = _LOOK
        part = self._part()
        if part is None:
            return self._begin_anew(given_up)
        if part.give_up:
            given_up(part.give_up)
            with self._topics.metadata.session(writing=True) as session:
                self._lock(session)
                gone = _t.task.in_(sorted(part.give_up))
                session.change(delete(topic_tasks).where(self._of_group(_t), _t.member == self._name, gone))
            self._mine -= part.give_up
            self._look_at = 0.0
        if part.take:
            self._mine |= part.take
            taken(part.take)
        return bool(part.take or part.give_up)

    def _is_quiet(self) -> bool:
        """Whether there is nothing to write: seen without a lock, so that a member at rest hinders nobody."""
        with self._topics.metadata.session(writing=False) as session:
            now = self._topics.now(session)
            members = live_members(session, self.group, now, self._topics.alive, self._longest)
            until = members.get(self._name)
            if until is None or until - now < self._session * 2 / 3:
                return False
            part = share(self._inputs.number, members, self._owners(session), self._name)
            return part == Part(frozenset(), frozenset())

    def _part(self) -> Part | None:
        """Stay in the group, and write down what is taken from it; None: this member's session is over."""
        with self._topics.metadata.session(writing=True) as session:
            self._lock(session)
            now = self._topics.now(session)
            # The clock may have gone back: this member is there, and of the others nobody knows.
            session.change(update(topic_members).where(self._me(), _m.until > now).values(until=now + self._session))
            members = live_members(session, self.group, now, self._topics.alive, self._longest)
            # What a process that is gone has not committed can count no more: it has no place.
            session.change(delete(topic_members).where(self._of_group(_m), _m.member.not_in(sorted(members))))
            if self._name not in members:
                return None
            part = share(self._inputs.number, members, self._owners(session), self._name)
            mine = {"project": session.project, "group_name": self.group, "member": self._name}
            key = ["project", "group_name", "task"]
            statement = session.insert(topic_tasks)
            statement = statement.on_conflict_do_update(index_elements=key, set_={"member": statement.excluded.member})
            session.add_all(statement, [{**mine, "task": task} for task in sorted(part.take)])
            return part

    def _begin_anew(self, given_up: Callable[[frozenset[int]], None]) -> bool:
        lost = self._mine
        try:
            if lost:
                given_up(lost)
        finally:
            self._mine = frozenset()
            self._look_at = 0.0
            self._join()
        return bool(lost)

    def _owners(self, session: Session) -> dict[int, str]:
        query = select(_t.task, _t.member).where(self._of_group(_t))
        return {row.task: row.member for row in session.all(query)}

    def _lock(self, session: Session) -> None:
        c = topic_groups.c
        query = select(c.name).where(c.project == session.project, c.name == self.group)
        session.first(query, lock=True)

    def _of_group(self, columns: Any) -> Any:
        return and_(
            columns.project == self._topics.metadata.project,
            columns.group_name == self.group,
        )

    def _me(self) -> Any:
        return and_(self._of_group(_m), _m.member == self._name)
