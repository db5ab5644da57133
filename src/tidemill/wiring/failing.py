"""Rows that failed checks, as the runs that checked them kept them in the archive."""

from __future__ import annotations

from typing import Any

from tidemill.adapters.records.lines import read_lines
from tidemill.flow.services import Services
from tidemill.ports.asked import Head
from tidemill.ports.metadata import CheckRecord


def kept_rows(services: Services, check: CheckRecord, limit: int) -> Head | None:
    """The first rows that were kept of a check; None for checks that are not about rows, and where they are gone."""
    if check.failures is None or services.archive.files.info(check.failures) is None:
        return None
    with services.archive.files.open(check.failures) as stream:
        rows = list(read_lines(stream))
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: "double" if all(_is_number(row.get(name)) for row in rows) else "string" for name in names}
    return Head(columns, [tuple(row.get(name) for name in names) for row in rows[:limit]], len(rows))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
