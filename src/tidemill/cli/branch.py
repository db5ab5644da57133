"""`tidemill branch`: versions of the whole lake, compared, merged, tagged and dropped; and batches undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tidemill.cli.command import Command, Group, limit_option
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, moment

if TYPE_CHECKING:
    from tidemill.ports.asked import Facts


@click.group(cls=Group)
def branch() -> None:
    """Compare, merge, tag and drop versions; undo a batch.

    A branch is a version of the whole lake, made without copying data. `query --branch NAME` reads it.
    """


_NAME = click.argument("name")
_FROM = click.option("--from", "source", default="main", show_default=True, metavar="NAME", help="What to start from.")


@branch.command(cls=Command, asks=True)
@_NAME
@_FROM
@pass_invocation
def create(invocation: Invocation, name: str, source: str) -> None:
    """Make a branch of main as it is now.

    --from names another branch, or a tag, to start from.
    """
    made = invocation.installation.lake.create(name, source, tag=False)
    _made(invocation, "created", made, f"tidemill branch diff {name}")


@branch.command(cls=Command, asks=True)
@_NAME
@_FROM
@pass_invocation
def tag(invocation: Invocation, name: str, source: str) -> None:
    """Name the present state for good: a tag never moves.

    It is that of main, or of what --from names.
    """
    made = invocation.installation.lake.create(name, source, tag=True)
    _made(invocation, "tagged", made, f'tidemill query "select ..." --branch {name}')


def _made(invocation: Invocation, verb: str, made: Facts, command: str) -> None:
    if invocation.json:
        invocation.out.object(made)
        return
    tables = count(made["tables"], "tables")
    invocation.out.facts([(verb, f"{made['kind']} {made['name']}", f"from {made['parent']}", tables)])
    invocation.out.next(command)


@branch.command(cls=Command, asks=True)
@click.option("--all", "everything", is_flag=True, help="Also the branches of runs, which failed runs leave behind.")
@pass_invocation
def ls(invocation: Invocation, everything: bool) -> None:
    """List branches and tags."""
    lake = invocation.installation.lake
    found = lake.branches(everything=everything)
    listed, hidden = found["branches"], found["hidden"]
    # What no later attempt has mended.
    unresolved = [one["branch"] for one in lake.failed() if one["branch"]] if hidden else []
    out = invocation.out
    if invocation.json:
        out.object(found)
        return
    columns = [Column("name"), Column("kind"), Column("state"), Column("tables", right=True),
               Column("changed", right=True), Column("from", yields=1), Column("created"),
               Column("expires", yields=2)]  # fmt: skip
    rows = [
        [r["name"], r["kind"], _state(r["state"]), count(r["tables"]),
         count(r["changed"]), r["parent"] or "-",
         moment(r["created_at"]), moment(r["expires_at"])]
        for r in listed
    ]  # fmt: skip
    out.grid(columns, rows)
    if hidden:
        out.note(f"{count(hidden, 'branches of runs', 'branch of a run')} not listed: --all")
    if unresolved:
        out.next(f"tidemill branch diff {unresolved[0]}")


def _state(state: str) -> str:
    return Styled(state, "bad") if state == "failed" else state


@branch.command(cls=Command, asks=True)
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
    from tidemill.cli.difference import print_diff

    found = invocation.installation.lake.diff(name, table, limit)
    if invocation.json:
        invocation.out.object(found)
    else:
        print_diff(invocation.out, found, limit)


@branch.command(cls=Command, asks=True)
@_NAME
@pass_invocation
def merge(invocation: Invocation, name: str) -> None:
    """Put what a branch changed onto main, all or nothing.

    Where main changed the same table since, rows of different batches are joined; what cannot be joined is a conflict,
    and nothing moves.
    """
    _moved(invocation, invocation.installation.lake.merge(name))


@branch.command(cls=Command, asks=True)
@click.argument("batch", type=click.IntRange(min=1))
@pass_invocation
def revert(invocation: Invocation, batch: int) -> None:
    """Undo a published batch on all its tables.

    It is one transaction. `tidemill replay BATCH` brings the batch back.
    """
    _moved(invocation, invocation.installation.lake.revert(batch), f"tidemill replay {batch}")


@branch.command(cls=Command, asks=True)
@_NAME
@pass_invocation
def drop(invocation: Invocation, name: str) -> None:
    """Drop a branch or a tag.

    Files that nothing else needs go with a later `tidemill data vacuum`.
    """
    invocation.installation.lake.drop(name)
    if invocation.json:
        invocation.out.object({"dropped": name})
    else:
        invocation.out.facts([("dropped", name)])


def _moved(invocation: Invocation, found: Facts, command: str = "tidemill data ls") -> None:
    """What a merge or a revert moved."""
    if invocation.json:
        invocation.out.object(found)
        return
    verb, _, subject = found["done"].partition(" ")
    facts: list[tuple[str, ...]] = [(verb, subject, count(len(found["tables"]), "tables"))]
    facts += [(one["change"], one["table"]) for one in found["tables"]]
    facts += [("changed", view, "view") for view in found["views"]]
    invocation.out.facts(facts)
    invocation.out.next(command)
