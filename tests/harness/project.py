"""A project in a temporary folder for tests of whole runs: real stores, real files, a clock that the test moves.

project = Project(tmp_path)
p = project.pipeline("shop")                       # a Pipeline on a daily schedule from 2026-01-01
...declare...
project.run(p, "2026-01-01")                       # a RunReport; raises nothing, look at `.ok`
project.rows("select * from shop.orders")          # what readers of main see
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.observe import RunReport
from tidemill.flow.query import query, reading
from tidemill.flow.services import Services
from tidemill.model.branch import MAIN
from tidemill.model.table import BATCH_ID, LOADED_AT
from tidemill.ports.files import Files
from tidemill.ports.metadata import Metadata
from tidemill.wiring.runner import keys_of, run_pipeline
from tidemill.wiring.services import connect
from tidemill.wiring.settings import FILE, Settings, load_settings

START = datetime(2026, 1, 1, tzinfo=UTC)


def without_system_columns(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that a user wrote."""
    return {name: value for name, value in row.items() if name not in (BATCH_ID, LOADED_AT)}


class Project:
    """A project and its services.

    Args:
        root: its folder; a `tidemill.toml` in it is read.
        metadata_url: where the metadata lives; a SQLite file in the folder by default.
        wrap_files: around the files of lake and archive.
        wrap_metadata: around the metadata store.
    """

    def __init__(
        self,
        root: Path,
        *,
        metadata_url: str | None = None,
        wrap_files: Callable[[Files], Files] | None = None,
        wrap_metadata: Callable[[Metadata], Metadata] | None = None,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        # A settings file, where a test has written one, says where lake and archive are.
        defaults = load_settings(root, {}) if (root / FILE).is_file() else Settings(root, "test")
        self.settings = replace(defaults, metadata_url=metadata_url or defaults.metadata_url)
        self.root = root
        self.services: Services = connect(self.settings, wrap_files=wrap_files, wrap_metadata=wrap_metadata)
        registry.clear()

    def close(self) -> None:
        """Let go of connections."""
        self.services.metadata.close()

    def pipeline(self, name: str = "shop", **options: Any) -> Pipeline:
        """A pipeline on a daily schedule."""
        registry.clear()
        return Pipeline(name, **{"schedule": "@daily", "start": START, **options})

    def run(self, pipeline: Pipeline, when: str | None = None, **options: Any) -> RunReport:
        """Run it once; the report says how it ended."""
        spec = pipeline.spec()
        return run_pipeline(self.services, spec, keys_of(spec, when, self.services), **options)[-1]

    def rows(self, sql: str, *, branch: str = MAIN, at: Any = None) -> list[dict[str, Any]]:
        """The rows of a query, without the system columns."""
        with reading(self.services, branch, at) as seen, query(self.services, sql, seen) as reader:
            found = reader.read_all().to_pylist()
        return [without_system_columns(row) for row in found]

    def table(self, name: str, *, branch: str = MAIN) -> list[tuple[Any, ...]]:
        """All rows of a table as tuples, sorted."""
        rows = [tuple(r.values()) for r in self.rows(f"select * from {name}", branch=branch)]
        return sorted(rows, key=repr)

    def tables(self, branch: str = MAIN) -> set[str]:
        """The names of the tables on a ref."""
        with self.services.metadata.read() as tx:
            return {str(name) for name in tx.refs.pointers(branch)}

    def pointers(self, branch: str = MAIN) -> dict[str, str]:
        """The pointers of a ref."""
        with self.services.metadata.read() as tx:
            return {str(name): pointer for name, pointer in tx.refs.pointers(branch).items()}
