"""Branches and tags that people make, and drop: what `tidemill branch create, tag, drop` do."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow.branches import create_branch, drop_branch, preview_branch, preview_drop
from tidemill.flow.facts.tables import counted_ref
from tidemill.model.branch import MAIN, RefKind
from tidemill.web.branches import BranchItem
from tidemill.web.table import Asked, Body

_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class NewRef(Body, frozen=True):
    """What to make, and of what: `source` is a branch or a tag."""

    name: _Name
    source: Annotated[_Name, Meta(description="as it is now")] = MAIN
    tag: Annotated[bool, Meta(description="a tag, which never moves")] = False


class MadeRef(Struct):
    """What was made; with `dry_run` null, and `done` and `why` tell what would be."""

    done: str
    why: str
    branch: BranchItem | None
    dry_run: bool


class DroppedRef(Struct):
    """What was dropped; with `dry_run` what would be."""

    done: str
    why: str
    dry_run: bool


def create(asked: Asked) -> dict[str, Any]:
    """Make a branch, or a tag, of what another one has now: no data is copied."""
    body: NewRef = asked.body
    dry = asked.query.dry_run
    kind = RefKind.TAG if body.tag else RefKind.BRANCH
    backend, made = asked.backend, None
    if dry:
        tables = preview_branch(backend, body.name, source=body.source)
    else:
        ref = create_branch(backend, body.name, kind=kind, source=body.source)
        with backend.metadata.read() as tx:
            made = counted_ref(tx, ref)
        tables = made["tables"]
    done = f"{'would make' if dry else 'made'} {kind} {body.name} of {body.source}"
    why = f"It has what {body.source} has now: {_tables(tables)}. No data is copied."
    return {"done": done, "why": why, "branch": made, "dry_run": dry}


def drop(asked: Asked) -> DroppedRef:
    """Drop a branch or a tag: what only it has can be read no more."""
    name, dry = asked.path["branch"], asked.query.dry_run
    ref = preview_drop(asked.backend, name)
    with asked.backend.metadata.read() as tx:
        changed = counted_ref(tx, ref)["changed"]
    if not dry:
        drop_branch(asked.backend, name)
    lost = f"What it changed in {_tables(changed)} is lost." if changed else "No change is lost."
    why = f"{lost} Files that nothing else needs go with a later vacuum."
    return DroppedRef(f"{'would drop' if dry else 'dropped'} {ref.kind} {name}", why, dry)


def _tables(number: int) -> str:
    return f"{number} table{'' if number == 1 else 's'}"
