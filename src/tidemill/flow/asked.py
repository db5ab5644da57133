"""Port `asked` by the project's own lake: what commands about tables, branches and batches show where it is.

commands -> OwnLake -> facts of tables and batches, `flow/query.py`, `flow/branches.py`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidemill.flow.branches import create_branch, drop_branch, merge_branch, revert_batch
from tidemill.flow.diff import diff_branch
from tidemill.flow.facts.anomalies import anomalies, figures
from tidemill.flow.facts.batches import BatchDetails, batches_facts, check_facts, waiting_batches
from tidemill.flow.facts.rows import head
from tidemill.flow.facts.tables import (
    diff_facts,
    failed_checks,
    failed_facts,
    listed_refs,
    moved_facts,
    ref_facts,
    snapshot_facts,
    table_facts,
)
from tidemill.flow.query import Reading, query, reading
from tidemill.flow.services import Services
from tidemill.model.branch import RefKind
from tidemill.model.errors import UnknownName, UserError
from tidemill.model.table import TableName
from tidemill.plan.sql import quote
from tidemill.ports.asked import Facts, Head
from tidemill.ports.metadata import CheckRecord, Metadata


@dataclass(frozen=True, slots=True)
class OwnLake:
    """Port `AskedLake`.

    Args:
        metadata: the database.
        open_services: tables and engines, for what the database alone does not know.
        kept_rows: the rows that were kept of a failed check.
    """

    metadata: Metadata
    open_services: Callable[[], Services]
    kept_rows: Callable[[Services, CheckRecord, int], Head | None]

    def branches(self, *, everything: bool) -> Facts:
        """As the database has them."""
        with self.metadata.read() as tx:
            listed, hidden = listed_refs(tx, everything=everything)
        return {"branches": listed, "hidden": hidden}

    def create(self, name: str, source: str, *, tag: bool) -> Facts:
        """No data is copied."""
        kind = RefKind.TAG if tag else RefKind.BRANCH
        ref = create_branch(self.open_services(), name, kind=kind, source=source)
        with self.metadata.read() as tx:
            return {**ref_facts(ref), "tables": len(tx.refs.pointers(ref.name))}

    def drop(self, name: str) -> None:
        """Its files go with a later vacuum."""
        drop_branch(self.open_services(), name)

    def diff(self, name: str, table: str | None, limit: int) -> Facts:
        """Row by row."""
        return diff_facts(diff_branch(self.open_services(), name, table, limit=limit))

    def merge(self, name: str) -> Facts:
        """All or nothing."""
        return moved_facts(f"merged {name} into main", merge_branch(self.open_services(), name))

    def revert(self, batch_id: int) -> Facts:
        """On all its tables."""
        return moved_facts(f"reverted batch {batch_id}", revert_batch(self.open_services(), batch_id))

    def tables(self, ref: str) -> list[Facts]:
        """Tables first, then views."""
        services = self.open_services()
        with reading(services, ref) as seen:
            listed = [table_facts(services, seen, name) for name in sorted(seen.pointers)]
            return [*listed, *({"table": str(name), "kind": "view"} for name in sorted(seen.views))]

    def table(self, text: str, ref: str, limit: int) -> tuple[Facts, Head]:
        """Its first rows are in no order."""
        services = self.open_services()
        with reading(services, ref) as seen:
            name = seen.resolve(text)
            is_view = name not in seen.pointers
            about: Facts = {"table": str(name), "kind": "view"} if is_view else table_facts(services, seen, name)
            sql = f"SELECT * FROM {quote(name.namespace)}.{quote(name.table)} LIMIT {limit}"  # noqa: S608 - quoted
            with query(services, sql, seen) as reader:
                found = head(reader, None)
            types = found.columns
            if not is_view:
                types = {c.name: str(c.type) for c in services.catalog.load(name, seen.pointers[name]).schema}
        schema = [{"name": column, "type": kind} for column, kind in types.items()]
        return {"branch": ref, **about, "schema": schema}, found

    def failing(self, text: str, ref: str, limit: int) -> tuple[Facts, list[Head | None]]:
        """On a run's branch of that run, elsewhere of the newest run in which a check failed."""
        services = self.open_services()
        with reading(services, ref) as seen:
            name = seen.resolve(text)
        with services.metadata.read() as tx:
            failed = failed_checks(tx, name, ref)
        kept = [self.kept_rows(services, check, limit) for check in failed]
        return {"branch": ref, "table": str(name), "failed_checks": [failed_facts(one) for one in failed]}, kept

    def history(self, text: str, ref: str, limit: int | None) -> Facts:
        """As its metadata has them."""
        services = self.open_services()
        with reading(services, ref) as seen:
            name = _table(seen, text)
            found = services.catalog.history(name, seen.pointers[name])[::-1]
        shown = [snapshot_facts(one) for one in found[:limit]]
        return {"branch": ref, "table": str(name), "snapshots": shown, "total": len(found)}

    def batches(self, pipeline: str | None, limit: int | None) -> list[Facts]:
        """By the database alone."""
        with self.metadata.read() as tx:
            found = tx.batches.recent(pipeline, limit=limit)
            if pipeline is not None and not found:
                known = {b.pipeline for b in tx.batches.recent()}
                raise UnknownName.of("pipeline with batches", pipeline, known)
            return batches_facts(tx, found)

    def batch(self, batch_id: int) -> Facts:
        """By the database alone."""
        with self.metadata.read() as tx:
            return BatchDetails(tx, batch_id).facts()

    def failed(self) -> list[Facts]:
        """By the database alone."""
        with self.metadata.read() as tx:
            return waiting_batches(tx)

    def results(self, table: str | None, name: str | None, limit: int | None) -> list[Facts]:
        """By the database alone."""
        of = TableName.parse(table) if table is not None else None
        with self.metadata.read() as tx:
            if name is None:
                found = tx.checks.recent(table=of, limit=limit)
            else:
                found = [one for one in tx.checks.recent(table=of) if one.name == name][:limit]
        return [check_facts(one) for one in found]

    def anomalies(self) -> list[Facts]:
        """By the database alone."""
        with self.metadata.read() as tx:
            return [one for one in anomalies(figures(tx)) if one["newest"]]


def _table(seen: Reading, text: str) -> TableName:
    name = seen.resolve(text)
    if name not in seen.pointers:
        raise UserError(f'"{name}" is a view: it has no snapshots.', hint=f"tidemill data show {name}")
    return name
