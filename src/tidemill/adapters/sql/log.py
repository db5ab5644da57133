"""The logs of refs: what moved together, when, and where the pointers were at any moment before."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from tidemill.adapters.sql.schema import commit_changes, commits, ref_bases, refs
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.model.branch import CommitRecord
from tidemill.model.table import TableName

_TICK = timedelta(microseconds=1)


class RefLog:
    """What `SqlRefs` knows about logs."""

    _session: Session

    @abstractmethod
    def _writable(self, name: str) -> int:
        """See `SqlRefs._writable`."""

    @abstractmethod
    def _newest_id(self, name: str) -> Any:
        """See `SqlRefs._newest_id`."""

    def log(
        self,
        name: str,
        kind: str,
        *,
        now: datetime,
        changes: Mapping[TableName, tuple[str | None, str | None]],
        batch_id: int | None = None,
        run_id: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> CommitRecord:
        """Append to the ref's log and raise its head; `at` is later than that of the entry before."""
        session = self._session
        ref_id = self._writable(name)
        last = session.first(
            select(commits.c.seq, commits.c.at)
            .where(commits.c.ref_id == ref_id)
            .order_by(commits.c.seq.desc())
            .limit(1)
        )
        record = CommitRecord(
            ref=name,
            seq=last.seq + 1 if last else 1,
            kind=kind,
            at=max(now, last.at + _TICK) if last else now,
            batch_id=batch_id,
            run_id=run_id,
            changes=dict(changes),
            detail=dict(detail or {}),
        )
        entry = {"ref_id": ref_id, "seq": record.seq}
        session.add(
            session.insert(commits)
            .values(**entry, kind=kind, at=record.at, batch_id=batch_id, run_id=run_id, detail=record.detail)
            .returning(commits.c.seq)
        )
        rows = [
            {**entry, "namespace": table.namespace, "table_name": table.table, "before": before, "after": after}
            for table, (before, after) in changes.items()
        ]
        session.add_all(session.insert(commit_changes), rows)
        session.change(update(refs).where(refs.c.id == ref_id).values(head=record.seq))
        return record

    def commits(
        self, name: str, *, since: int = 0, batch_id: int | None = None, limit: int | None = None
    ) -> list[CommitRecord]:
        """Log entries with seq > since, newest first."""
        c = commits.c
        query = select(commits).where(c.ref_id == self._newest_id(name), c.seq > since)
        if batch_id is not None:
            query = query.where(c.batch_id == batch_id)
        found = self._session.all(query.order_by(c.seq.desc()).limit(limit))
        if not found:
            return []
        changes = self._changes(found[0].ref_id, found[-1].seq, found[0].seq)
        return [_record(name, row, changes[row.seq]) for row in found]

    def pointers_at(self, name: str, at: datetime) -> dict[TableName, str]:
        """The ref's pointers as of a moment.

        Of each table: where the last entry up to then left it, else where the ref was forked.
        """
        ref = self._session.first(select(refs.c.id, refs.c.created_at).where(refs.c.id == self._newest_id(name)))
        if ref is None or at < ref.created_at:
            return {}
        forked = select(ref_bases.c.namespace, ref_bases.c.table_name, ref_bases.c.forked)
        found = {**self._of_tables(forked.where(ref_bases.c.ref_id == ref.id)), **self._left_by_log(ref.id, at)}
        return {table: pointer for table, pointer in sorted(found.items()) if pointer is not None}

    def _left_by_log(self, ref_id: int, at: datetime) -> dict[TableName, str | None]:
        """The pointers of the tables that the log named up to a moment."""
        # Times grow with the numbers of the entries, so one number stands for the moment.
        last_entry = self._session.first(
            select(commits.c.seq)
            .where(commits.c.ref_id == ref_id, commits.c.at <= at)
            .order_by(commits.c.at.desc())
            .limit(1)
        )
        if last_entry is None:
            return {}
        c = commit_changes.c
        last = (
            select(c.namespace, c.table_name, func.max(c.seq).label("seq"))
            .where(c.ref_id == ref_id, c.seq <= last_entry.seq)
            .group_by(c.namespace, c.table_name)
            .subquery()
        )
        same = (c.namespace == last.c.namespace) & (c.table_name == last.c.table_name) & (c.seq == last.c.seq)
        return self._of_tables(select(c.namespace, c.table_name, c.after).join(last, same).where(c.ref_id == ref_id))

    def _of_tables(self, query: Any) -> dict[TableName, str | None]:
        return {TableName(namespace, table): pointer for namespace, table, pointer in self._session.all(query)}

    def _changes(
        self, ref_id: int, first: int, last: int
    ) -> defaultdict[int, dict[TableName, tuple[str | None, str | None]]]:
        c = commit_changes.c
        query = select(commit_changes).where(c.ref_id == ref_id, c.seq.between(first, last))
        changes: defaultdict[int, dict[TableName, tuple[str | None, str | None]]] = defaultdict(dict)
        for row in self._session.all(query.order_by(c.seq, c.namespace, c.table_name)):
            changes[row.seq][TableName(row.namespace, row.table_name)] = (row.before, row.after)
        return changes


def _record(name: str, row: AnyRow, changes: dict[TableName, tuple[str | None, str | None]]) -> CommitRecord:
    return CommitRecord(
        ref=name,
        seq=row.seq,
        kind=row.kind,
        at=row.at,
        batch_id=row.batch_id,
        run_id=row.run_id,
        changes=changes,
        detail=row.detail,
    )
