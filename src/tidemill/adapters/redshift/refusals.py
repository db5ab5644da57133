"""What COPY refused, read back from the system tables: file, line, column, value, reason."""

from __future__ import annotations

from typing import Any

from tidemill.adapters.redshift.connection import Cluster
from tidemill.model.errors import DataError, TidemillError
from tidemill.ports.destination import TableLoad

_ERRORS = (
    "SELECT filename, line_number, colname, type, col_length, raw_field_value, err_reason FROM stl_load_errors"
    " WHERE query = pg_last_copy_id() ORDER BY filename, line_number LIMIT 10"
)
#: Serverless has this one only; it does not show values.
_SERVERLESS = (
    "SELECT file_name, line_number, column_name, column_type, column_length, '', error_message"
    " FROM sys_load_error_detail WHERE query_id = pg_last_copy_id() ORDER BY file_name, line_number LIMIT 10"
)


def refused_rows(
    cluster: Cluster, table: TableLoad, count: int | None, otherwise: TidemillError | None = None
) -> TidemillError:
    """The error for rows that the last COPY refused.

    Args:
        cluster: on which it ran.
        table: what was loaded.
        count: how many rows are missing; None: COPY gave up.
        otherwise: the error, where the system tables tell nothing.
    """
    found = _found(cluster)
    if not found:
        told = f"{count} rows for {table.table} did not arrive in Redshift, which does not say why."
        return otherwise or DataError(told)
    lines = [_line(table, row) for row in found]
    first = f"Redshift refuses {'rows' if count is None else f'{count} rows'} for {table.table}: {lines[0]}"
    return DataError("\n  ".join([first, *lines[1:]]))


def _found(cluster: Cluster) -> list[tuple[Any, ...]]:
    for query in (_ERRORS, _SERVERLESS):
        try:
            return cluster.rows(query)
        except Exception:  # noqa: S112 - the other view may exist; if none does, the first error is what is told
            continue
    return []


def _line(table: TableLoad, row: tuple[Any, ...]) -> str:
    file, line, staged, kind, length, value, reason = (str(part or "").strip() for part in row)
    column = _named(table, staged)
    shown = f"{kind}({length})" if length else kind
    told = f'column "{column}" ({shown}), value {value[:80]!r}: ' if column else ""
    return f"{told}{reason}, in {file} line {line}"


def _named(table: TableLoad, staged: str) -> str:
    """The user's name of a staged column."""
    number = staged.removeprefix("c")
    names = table.columns.names
    return names[int(number)] if number.isdecimal() and int(number) < len(names) else staged
