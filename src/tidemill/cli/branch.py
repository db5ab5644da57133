"""`tidemill branch`: versions of the whole lake, compared, merged, tagged and dropped; and batches undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group, limit_option
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, moment

if TYPE_CHECKING:
    from tidemill.flow.publish import PublishPlan
    from tidemill.model.branch import Ref
    from tidemill.ports.metadata import Tx


@click.group(cls=Group)
def branch() -> None:
    """Compare, merge, tag and drop versions; undo a batch.

    A branch is a version of the whole lake, made without copying data. `query --branch NAME` reads it.
    """


_NAME = click.argument("name")
_FROM = click.option("--from", "source", default="main", show_default=True, metavar="NAME", help="What to start from.")


@branch.command(cls=Command)
@_NAME
@_FROM
@pass_invocation
def create(invocation: Invocation, name: str, source: str) -> None:
    """Make a branch of main as it is now.

    --from names another branch, or a tag, to start from.
    """
    from tidemill.flow.branches import create_branch

    ref = create_branch(invocation.services, name, source=source)
    _made(invocation, "created", ref, f"tidemill branch diff {name}")


@branch.command(cls=Command)
@_NAME
@_FROM
@pass_invocation
def tag(invocation: Invocation, name: str, source: str) -> None:
    """Name the present state for good: a tag never moves.

    It is that of main, or of what --from names.
    """
    from tidemill.flow.branches import create_branch
    from tidemill.model.branch import RefKind

    ref = create_branch(invocation.services, name, kind=RefKind.TAG, source=source)
    _made(invocation, "tagged", ref, f'tidemill query "select ..." --branch {name}')


def _made(invocation: Invocation, verb: str, ref: Ref, command: str) -> None:
    with invocation.metadata.read() as tx:
        tables = len(tx.refs.pointers(ref.name))
    if invocation.json:
        invocation.out.object({**_ref_object(ref), "tables": tables})
        return
    invocation.out.facts([(verb, f"{ref.kind} {ref.name}", f"from {ref.parent}", count(tables, "tables"))])
    invocation.out.next(command)


@branch.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Also the branches of runs, which failed runs leave behind.")
@pass_invocation
def ls(invocation: Invocation, everything: bool) -> None:
    """List branches and tags."""
    from tidemill.model.branch import RefKind, RefState

    with invocation.metadata.read() as tx:
        refs = tx.refs.all(states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED])
        hidden = [r for r in refs if r.kind is RefKind.RUN and not everything]
        unresolved = [r.name for r in hidden if r.state is RefState.FAILED and _is_last_word(tx, r)]
        listed = [
            {**_ref_object(r), **_counts(tx.refs.pointers(r.name), tx.refs.bases(r.name))}
            for r in refs
            if everything or r.kind is not RefKind.RUN
        ]
    out = invocation.out
    if invocation.json:
        out.object({"branches": listed, "hidden": len(hidden)})
        return
    columns = [Column("name"), Column("kind"), Column("state"), Column("tables", right=True),
               Column("changed", right=True), Column("from", yields=1), Column("created"),
               Column("expires", yields=2)]  # fmt: skip
    rows = [
        [r["name"], r["kind"], _state(r["state"]), count(r["tables"]),
         count(r["changed"]) if r["kind"] in ("branch", "run") else "-", r["parent"] or "-",
         moment(r["created_at"]), moment(r["expires_at"])]
        for r in listed
    ]  # fmt: skip
    out.grid(columns, rows)
    if hidden:
        out.note(f"{count(len(hidden), 'branches of runs', 'branch of a run')} not listed: --all")
    if unresolved:
        out.next(f"tidemill branch diff {unresolved[-1]}")


def _is_last_word(tx: Tx, ref: Ref) -> bool:
    """True where no later attempt at the batch has mended what failed on the branch."""
    run = tx.runs.get(ref.run_id) if ref.run_id is not None else None
    last = tx.runs.last(run.batch_id) if run is not None else None
    return run is not None and last is not None and last.id == run.id


def _state(state: str) -> str:
    return Styled(state, "bad") if state == "failed" else state


def _counts(pointers: dict[Any, str], bases: dict[Any, str]) -> dict[str, int]:
    changed = sum(1 for name in {*pointers, *bases} if pointers.get(name) != bases.get(name))
    return {"tables": len(pointers), "changed": changed}


def _ref_object(ref: Ref) -> dict[str, Any]:
    return {
        "name": ref.name,
        "kind": ref.kind.value,
        "state": ref.state.value,
        "parent": ref.parent,
        "created_at": ref.created_at,
        "expires_at": ref.expires_at,
        "run_id": ref.run_id,
    }


@branch.command(cls=Command)
@_NAME
@click.argument("table", required=False)
@limit_option(5, "Rows of each kind to show for a table; counts are always of all.")
@pass_invocation
def diff(invocation: Invocation, name: str, table: str | None, limit: int) -> None:
    """Show what a branch changed: tables, columns, rows.

    Rows are added, removed, or changed, then with their values before and after.
    Rows are matched by the table's key. In a table without one, or whose key is not unique, a changed row is one
    removed and one added.
    """
    from tidemill.cli.difference import diff_object, print_diff
    from tidemill.flow.diff import diff_branch

    found = diff_branch(invocation.services, name, table, limit=limit)
    if invocation.json:
        invocation.out.object(diff_object(found))
    else:
        print_diff(invocation.out, found, limit)


@branch.command(cls=Command)
@_NAME
@pass_invocation
def merge(invocation: Invocation, name: str) -> None:
    """Put what a branch changed onto main, all or nothing.

    Where main changed the same table since, rows of different batches are joined; what cannot be joined is a conflict,
    and nothing moves.
    """
    from tidemill.flow.branches import merge_branch

    _moved(invocation, f"merged {name} into main", merge_branch(invocation.services, name))


@branch.command(cls=Command)
@click.argument("batch", type=click.IntRange(min=1))
@pass_invocation
def revert(invocation: Invocation, batch: int) -> None:
    """Undo a published batch on all its tables.

    It is one transaction. `tidemill replay BATCH` brings the batch back.
    """
    from tidemill.flow.branches import revert_batch

    plan = revert_batch(invocation.services, batch)
    _moved(invocation, f"reverted batch {batch}", plan, f"tidemill replay {batch}")


@branch.command(cls=Command)
@_NAME
@pass_invocation
def drop(invocation: Invocation, name: str) -> None:
    """Drop a branch or a tag.

    Files that nothing else needs go with a later `tidemill data vacuum`.
    """
    from tidemill.flow.branches import drop_branch

    drop_branch(invocation.services, name)
    if invocation.json:
        invocation.out.object({"dropped": name})
    else:
        invocation.out.facts([("dropped", name)])


def _moved(invocation: Invocation, what: str, plan: PublishPlan, command: str = "tidemill data ls") -> None:
    """What a merge or a revert moved."""
    from tidemill.cli.report import is_inner

    verbs = {name: "rebased" if name in plan.rebased else _verb(*pointers) for name, pointers in plan.moves.items()}
    if invocation.json:
        moved = [{"table": str(name), "change": verb} for name, verb in verbs.items()]
        invocation.out.object({"done": what, "tables": moved, "views": [str(v) for v in plan.views]})
        return
    verb, _, subject = what.partition(" ")
    facts: list[tuple[str, ...]] = [(verb, subject, count(len([n for n in verbs if not is_inner(n)]), "tables"))]
    facts += [(verb, str(name)) for name, verb in verbs.items() if not is_inner(name)]
    facts += [("changed", str(view), "view") for view in plan.views]
    invocation.out.facts(facts)
    invocation.out.next(command)


def _verb(before: str | None, after: str | None) -> str:
    if before is None:
        return "created"
    return "dropped" if after is None else "changed"
