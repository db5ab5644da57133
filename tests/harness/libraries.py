"""What a process that others are forked from imports: all of Tidemill, and every driver that a run uses.

Imports only: what has run Polars, Arrow or DuckDB owns threads that a fork leaves behind, and its children hang.
"""

from __future__ import annotations

import importlib
import pkgutil

import tidemill

#: What Tidemill imports at first use, or a driver of it by itself: without these a child spends half a second on them.
_DRIVERS = (
    "alembic.command",
    "duckdb.func",
    "numpy.typing",
    "pandas",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "pyarrow.vendored.version",
    "sqlalchemy.dialects.sqlite",
    "sqlglot.dialects.duckdb",
)
#: Alembic runs these; the demo's project is run by its own tests.
_NOT_MODULES = (
    "tidemill.adapters.sql.migrations.",
    "tidemill.demo.project",
    "tidemill.cli.__main__",
    "tidemill.compat.airflow.__main__",
    "tidemill.demo.__",
)


def import_all() -> None:
    """Import them."""
    for name in _DRIVERS:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(tidemill.__path__, "tidemill."):
        if not module.name.startswith(_NOT_MODULES):
            importlib.import_module(module.name)
