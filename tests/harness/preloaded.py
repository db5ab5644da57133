"""What the server that processes are forked from has imported: all of Tidemill, and every driver that a run uses.

Imports only: what has run Polars, Arrow or DuckDB owns threads that a fork leaves behind, and its children hang.
"""

from __future__ import annotations

import atexit
import gc
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
    "tidemill.demo.__",
)

for _name in _DRIVERS:
    importlib.import_module(_name)
for _module in pkgutil.walk_packages(tidemill.__path__, "tidemill."):
    if not _module.name.startswith(_NOT_MODULES):
        importlib.import_module(_module.name)
for _name in ("harness.crashing", "harness.racing"):
    importlib.import_module(_name)

# A child's collector would else walk over everything imported, and so copy its pages.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)
