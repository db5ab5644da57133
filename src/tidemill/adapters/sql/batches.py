"""Store `batches`: one record a batch, unique by its key (rule 1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, not_, select, update

from tidemill.adapters.sql.columns import interval_columns, interval_from
from tidemill.adapters.sql.schema import batches
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.model.batch import BATCH_TRANSITIONS, Batch, BatchKey, BatchState, Interval
from tidemill.model.errors import Refused, UnknownName

_MAY_CHANGE = frozenset({"state", "extracted_at", "archived_at", "loaded_at", "published_at", "code_version"})


class SqlBatches:
    """The port's `Batches` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def open(self, key: BatchKey, now: datetime) -> Batch:
        """The batch of that key, made on first use. Raises Refused where it overlaps a published one."""
        if found := self.find(key):
            if not _has_left_its_key(found):
                return found
            passed = update(batches).where(self._own(), batches.c.id == found.id)
            self._session.change(passed.values(run_key=f"{key.run_key} (batch {found.id})"))
        self._refuse_overlap(key)
        session = self._session
        made = session.add(
            session.insert(batches)
            .values(
                project=session.project,
                pipeline=key.pipeline,
                run_key=key.run_key,
                state=BatchState.OPEN,
                created_at=now,
                **interval_columns(key.interval),
            )
            .on_conflict_do_nothing()
            .returning(batches)
        )
        if made is not None:
            return _batch(made)
        found = self.find(key)  # another process made it between our look and our insert
        assert found is not None
        return found

    def get(self, batch_id: int) -> Batch | None:
        """The batch of that id."""
        row = self._session.first(select(batches).where(self._own(), batches.c.id == batch_id))
        return _batch(row) if row else None

    def find(self, key: BatchKey) -> Batch | None:
        """The batch of that key, without making it."""
        query = select(batches).where(self._own(), batches.c.pipeline == key.pipeline)
        if key.interval is None:
            query = query.where(batches.c.run_key == key.run_key)
        else:
            query = query.where(_is(key.interval))
        row = self._session.first(query)
        return _batch(row) if row else None

    def recent(
        self,
        pipeline: str | None = None,
        *,
        state: BatchState | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Batch]:
        """Batches, newest id first; with `before` only those with smaller ids."""
        query = select(batches).where(self._own()).order_by(batches.c.id.desc()).limit(limit)
        if pipeline is not None:
            query = query.where(batches.c.pipeline == pipeline)
        if state is not None:
            query = query.where(batches.c.state == state)
        if before is not None:
            query = query.where(batches.c.id < before)
        return [_batch(row) for row in self._session.all(query)]

    def update(self, batch_id: int, **values: Any) -> None:
        """Set fields; a new state must follow the old one by BATCH_TRANSITIONS. Raises Refused, UnknownName."""
        if unknown := values.keys() - _MAY_CHANGE:
            raise TypeError(f"a batch has no field to set called {', '.join(sorted(unknown))}")
        guard = and_(self._own(), batches.c.id == batch_id)
        if "state" in values:
            to = BatchState(values["state"])
            if to is BatchState.PUBLISHED and (batch := self.get(batch_id)):
                # Looked at again here: two overlapping batches may both have been opened before either published.
                self._refuse_overlap(batch.key)
            before = [state for state, after in BATCH_TRANSITIONS.items() if to in after or state is to]
            guard = and_(guard, batches.c.state.in_(before))
        if values and not self._session.change(update(batches).where(guard).values(**values)):
            raise self._why_not(batch_id, values.get("state"))

    def _why_not(self, batch_id: int, to: str | None) -> Exception:
        batch = self.get(batch_id)
        if batch is None:
            return UnknownName(f"There is no batch {batch_id}.", hint="tidemill data batches")
        return Refused(f"Batch {batch_id} ({batch.key}) is {batch.state}: it cannot become {to}.")

    def _refuse_overlap(self, key: BatchKey) -> None:
        if key.interval is None:
            return
        # Published intervals of a pipeline do not overlap each other, so only the last one that starts before our
        # end can reach into ours: one step in an index, however many batches there are.
        row = self._session.first(
            select(batches)
            .where(
                self._own(),
                batches.c.pipeline == key.pipeline,
                batches.c.state == BatchState.PUBLISHED,
                batches.c.interval_start < key.interval.end,
                not_(_is(key.interval)),
            )
            .order_by(batches.c.interval_start.desc())
            .limit(1)
        )
        if row is None or row.interval_end <= key.interval.start.astimezone(UTC):
            return
        other = _batch(row)
        raise Refused(
            f"The interval {key.interval} of {key.pipeline} overlaps {other.key.interval}, "
            f"which batch {other.id} published.",
            hint="keep the schedule, or give the changed one a new pipeline name",
        )

    def _own(self) -> Any:
        return batches.c.project == self._session.project


def _is(interval: Interval) -> Any:
    return and_(batches.c.interval_start == interval.start, batches.c.interval_end == interval.end)


def _has_left_its_key(batch: Batch) -> bool:
    """Whether a later batch went on in its place, and it had taken nothing. An interval stays the batch's: a later one
    brought what was due then.
    """
    return batch.state is BatchState.ABSORBED and batch.took_nothing and batch.key.interval is None


def _batch(row: AnyRow) -> Batch:
    return Batch(
        id=row.id,
        key=BatchKey(row.pipeline, interval_from(row), row.run_key),
        state=BatchState(row.state),
        created_at=row.created_at,
        extracted_at=row.extracted_at,
        archived_at=row.archived_at,
        loaded_at=row.loaded_at,
        published_at=row.published_at,
        code_version=row.code_version,
    )
