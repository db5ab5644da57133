"""Store `bookmarks`: where the next batch of a bookmark source goes on. They move only in a publish (rule 6)."""

from __future__ import annotations

from sqlalchemy import select, update

from tidemill.adapters.sql.schema import bookmarks
from tidemill.adapters.sql.session import Session
from tidemill.model.batch import Bookmark
from tidemill.model.errors import Conflict
from tidemill.ports.metadata import BookmarkRecord


class SqlBookmarks:
    """The port's `Bookmarks` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, pipeline: str, source: str) -> BookmarkRecord:
        """The current one; value None and version 0 where there is none."""
        c = bookmarks.c
        query = select(bookmarks).where(c.project == self._session.project, c.pipeline == pipeline, c.source == source)
        row = self._session.first(query)
        return BookmarkRecord(row.value, row.version, row.batch_id) if row else BookmarkRecord(None, 0, None)

    def swap(self, pipeline: str, source: str, version: int, value: Bookmark, batch_id: int) -> None:
        """Compare-and-set. Raises Conflict where the version is not `version`."""
        session, c = self._session, bookmarks.c
        key = {"project": session.project, "pipeline": pipeline, "source": source}
        new = {"value": value, "version": version + 1, "batch_id": batch_id}
        if version == 0:
            insert = session.insert(bookmarks).values(**key, **new).on_conflict_do_nothing()
            met = session.add(insert.returning(c.version)) is not None
        else:
            mine = (c.project == session.project, c.pipeline == pipeline, c.source == source, c.version == version)
            met = session.change(update(bookmarks).where(*mine).values(**new)) == 1
        if not met:
            now = self.get(pipeline, source)
            raise Conflict(
                f"The bookmark of {pipeline}.{source} was moved by another batch.",
                where=f"it is at version {now.version} (batch {now.batch_id}), expected {version}",
                hint="run again: it goes on from the new bookmark",
            )
