"""What is told of tables and branches: rows, columns, versions, what differs, which rows failed a check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.flow.diff import BranchDiff
from tidemill.flow.publish import PublishPlan
from tidemill.flow.query import Reading
from tidemill.flow.services import Services
from tidemill.flow.stage import spec_from
from tidemill.model.branch import Ref, RefKind, RefState
from tidemill.model.table import INPUT_SUFFIX, TableName
from tidemill.ports.metadata import CheckRecord, Tx

#: Records looked through for the newest run in which a check of the table failed.
_LOOKED_AT = 500


def is_inner(name: TableName) -> bool:
    """True for tables that only Tidemill reads: the inputs of upsert and history tables."""
    return name.table.endswith(INPUT_SUFFIX)


def table_facts(services: Services, seen: Reading, name: TableName) -> dict[str, Any]:
    """One table, from its own metadata."""
    version = services.catalog.load(name, seen.pointers[name])
    spec = spec_from(name, version.properties)
    batches = [s.batch_id for s in services.catalog.history(name, seen.pointers[name]) if s.batch_id is not None]
    return {
        "table": str(name),
        "kind": "table",
        "rows": version.rows,
        "write": spec.write.value,
        "key": list(spec.key),
        "partition": list(version.partition),
        "last_batch": batches[-1] if batches else None,
        "changed_at": version.committed_at,
        "doc": spec.doc,
    }


def ref_facts(ref: Ref) -> dict[str, Any]:
    """One branch or tag."""
    return {
        "name": ref.name,
        "kind": ref.kind.value,
        "state": ref.state.value,
        "parent": ref.parent,
        "created_at": ref.created_at,
        "expires_at": ref.expires_at,
        "run_id": ref.run_id,
    }


def ref_counts(pointers: Mapping[TableName, str], bases: Mapping[TableName, str]) -> dict[str, int]:
    """How many tables it has, and how many of them are not as they were when it was made."""
    changed = sum(1 for name in {*pointers, *bases} if pointers.get(name) != bases.get(name))
    return {"tables": len(pointers), "changed": changed}


def listed_refs(tx: Tx, *, everything: bool) -> tuple[list[dict[str, Any]], int]:
    """Branches and tags, of runs only with `everything`; and how many are not listed."""
    refs = tx.refs.all(states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED])
    listed = [ref for ref in refs if everything or ref.kind is not RefKind.RUN]
    return [counted_ref(tx, ref) for ref in listed], len(refs) - len(listed)


def counted_ref(tx: Tx, ref: Ref) -> dict[str, Any]:
    """One with its counts; main and tags were changed by nobody since they were made."""
    found: dict[str, Any] = {**ref_facts(ref), **ref_counts(tx.refs.pointers(ref.name), tx.refs.bases(ref.name))}
    return found if ref.kind in (RefKind.BRANCH, RefKind.RUN) else {**found, "changed": None}


def moved_facts(done: str, plan: PublishPlan) -> dict[str, Any]:
    """What a merge or a revert has moved; inner tables go with theirs."""
    verbs = moved_tables(plan.moves, plan.rebased)
    tables = [{"table": str(name), "change": verb} for name, verb in verbs.items() if not is_inner(name)]
    return {"done": done, "tables": tables, "views": [str(view) for view in plan.views]}


def snapshot_facts(snapshot: Any) -> dict[str, Any]:
    """One snapshot of a table."""
    found = {name: getattr(snapshot, name) for name in snapshot.__dataclass_fields__}
    return {**found, "batches": sorted(found["batches"])}


def failed_facts(check: CheckRecord) -> dict[str, Any]:
    """A check that failed, and the file in which its rows were kept."""
    return {
        "name": check.name, "severity": check.severity, "batch_id": check.batch_id, "run_id": check.run_id,
        "failed": check.failed, "of": check.rows, "observed": check.observed, "file": check.failures,
    }  # fmt: skip


def diff_facts(found: BranchDiff) -> dict[str, Any]:
    """What a branch changed; every value whole."""
    return {
        "branch": found.ref.name,
        "kind": found.ref.kind.value,
        "against": found.against,
        "tables": [
            {
                "table": str(t.name),
                "change": t.change,
                "key": list(t.key),
                "types": dict(t.types),
                "columns": [{"before": c.before, "after": c.after} for c in t.columns],
                "added": t.added,
                "removed": t.removed,
                "changed": t.changed,
                "moved_on_main": t.moved,
                "rows": [
                    {"kind": r.kind, "key": dict(r.key), "before": r.before, "after": r.after} for r in t.rows
                ],
            }
            for t in found.tables
        ],
        "views": [{"view": str(v.name), "before": v.before, "after": v.after} for v in found.views],
    }  # fmt: skip


def failed_checks(tx: Tx, name: TableName, ref: str) -> list[CheckRecord]:
    """Checks of a table that failed: on a run's branch in that run, elsewhere in the newest run in which one did."""
    record = tx.refs.get(ref)
    if record is not None and record.run_id is not None:
        found = tx.checks.recent(run_id=record.run_id, table=name)
    else:
        found = tx.checks.recent(table=name, limit=_LOOKED_AT)
    failed = [c for c in found if not c.passed]
    return [c for c in failed if c.run_id == failed[0].run_id]


def moved_tables(moves: Mapping[TableName, tuple[str | None, str | None]], rebased: Any) -> dict[TableName, str]:
    """What a merge or a revert does to each table: created, dropped, changed, or rebased onto what main has now."""
    return {name: "rebased" if name in rebased else _verb(*pointers) for name, pointers in moves.items()}


def _verb(before: str | None, after: str | None) -> str:
    if before is None:
        return "created"
    return "dropped" if after is None else "changed"
