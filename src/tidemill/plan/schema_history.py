"""How the columns of a table have changed, from one schema to the next."""

from __future__ import annotations

from tidemill.model.table import Column, Schema


def column_changes(before: Schema, after: Schema) -> list[tuple[str | None, str | None]]:
    """What each column was and is: `None` before, it was added; `None` after, it was dropped.

    A column is the same where its field id is, whatever it is called.
    """
    old: dict[int | None, Column] = {column.field_id: column for column in before}
    changes: list[tuple[str | None, str | None]] = []
    for column in after:
        earlier = old.pop(column.field_id, None)
        if earlier is None or str(earlier) != str(column):
            changes.append((None if earlier is None else str(earlier), str(column)))
    return changes + [(str(gone), None) for gone in old.values()]
