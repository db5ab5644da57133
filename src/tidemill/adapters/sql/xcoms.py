"""Store `xcoms`: what tasks of a run hand to each other."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, func, select

from tidemill.adapters.sql.schedule_schema import xcoms
from tidemill.adapters.sql.session import Session
from tidemill.model.graph import WHOLE
from tidemill.ports.xcoms import RETURNED


class SqlXComs:
    """The port's `XComs` in one transaction. Runs are of one project, so that a run's id is enough."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, run_id: int, task: str, key: str = RETURNED, map_index: int = WHOLE) -> str | None:
        """One value; None where there is none."""
        mine = (*_of(run_id, task, key), xcoms.c.map_index == map_index)
        row = self._session.first(select(xcoms.c.value).where(*mine))
        return None if row is None else str(row.value)

    def all(self, run_id: int, task: str, key: str = RETURNED) -> list[tuple[int, str]]:
        """The values of every instance of a mapped task: map index and value, in the order of the indexes."""
        c = xcoms.c
        query = select(c.map_index, c.value).where(*_instances(run_id, task, key)).order_by(c.map_index)
        return [(row.map_index, row.value) for row in self._session.all(query)]

    def count(self, run_id: int, task: str, key: str = RETURNED) -> int:
        """How many instances of a mapped task have a value."""
        row = self._session.first(select(func.count().label("n")).where(*_instances(run_id, task, key)))
        return int(row.n) if row else 0

    def nth(self, run_id: int, task: str, at: int, key: str = RETURNED) -> str | None:
        """One of the values that `all` gives, counted from 0; None beyond the last."""
        c = xcoms.c
        query = select(c.value).where(*_instances(run_id, task, key)).order_by(c.map_index).offset(at).limit(1)
        row = self._session.first(query)
        return None if row is None else str(row.value)

    def put(self, run_id: int, task: str, map_index: int, values: Iterable[tuple[str, str]]) -> None:
        """Keep keys and values; a key that is there already is replaced."""
        insert = self._session.insert(xcoms)
        keep = insert.on_conflict_do_update(
            index_elements=["run_id", "task", "map_index", "key"], set_={"value": insert.excluded.value}
        )
        place = {"run_id": run_id, "task": task, "map_index": map_index}
        self._session.add_all(keep, [{**place, "key": key, "value": value} for key, value in dict(values).items()])

    def clear(self, run_id: int, task: str, map_index: int | None = None) -> None:
        """Forget what a task handed over, or one instance of it."""
        c = xcoms.c
        mine = [c.run_id == run_id, c.task == task]
        if map_index is not None:
            mine.append(c.map_index == map_index)
        self._session.change(delete(xcoms).where(*mine))


def _of(run_id: int, task: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return xcoms.c.run_id == run_id, xcoms.c.task == task, xcoms.c.key == key


def _instances(run_id: int, task: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (*_of(run_id, task, key), xcoms.c.map_index != WHOLE)
