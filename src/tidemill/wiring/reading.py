"""`tm.read` and `tm.query`: published tables as frames, in scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tidemill.adapters.polars.result import Result
from tidemill.model.branch import MAIN
from tidemill.wiring.runner import services_of
from tidemill.wiring.settings import load_settings


def query(
    sql: str, *, branch: str = MAIN, at: str | datetime | None = None, project: str | Path | None = None
) -> Result:
    """Run one SELECT over the project's tables.

    Args:
        sql: DuckDB SQL; tables are `pipeline.table`, or a bare name that only one pipeline has; Tidemill's own are
            `tidemill.batches, runs, tasks, checks, files, stream_checks`.
        branch: the branch or tag to read.
        at: a time, or a snapshot id where the query reads one table.
        project: the project's folder; None: the one at or above the current folder.

    Raises:
        UnknownName, UserError: the query names what is not there, or cannot be read.
    """
    from tidemill.flow import query as flow

    services = services_of(load_settings(Path(project) if project else None))
    with flow.reading(services, branch, at) as seen, flow.query(services, sql, seen) as reader:
        return Result(reader.read_all(), "query")


def read(
    table: str,
    *,
    branch: str = MAIN,
    at: str | datetime | None = None,
    project: str | Path | None = None,
    decrypt: Mapping[str, str] | None = None,
) -> Result:
    """Read a whole table.

    Args:
        table: its name.
        branch: as of `query`.
        at: as of `query`.
        project: as of `query`.
        decrypt: columns that a policy has encrypted, each with the name of its key: `{"name": "pii-key"}`; they come as
            text.

    Raises:
        UnknownName: there is no such table.
        SettingsError, DataError: there is no such key, or a value was not encrypted by it.
    """
    from tidemill.plan.sql import quote

    name = ".".join(quote(part) for part in table.split("."))
    found = query(f"SELECT * FROM {name}", branch=branch, at=at, project=project)  # noqa: S608 - quoted above
    rows = found.to_arrow()
    if decrypt:
        services = services_of(load_settings(Path(project) if project else None))
        rows = services.policies.decrypt(rows, decrypt)
    return Result(rows, table)
