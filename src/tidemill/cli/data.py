"""`tidemill data`: tables, their rows and snapshots, the batches that wrote them, and the files nobody needs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from tidemill.cli.command import Command, Group, limit_option
from tidemill.cli.crawl import crawl
from tidemill.cli.data_slots import drop_slot, slots
from tidemill.cli.deliver import deliver, deliveries
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.lineage import lineage
from tidemill.cli.reading import tell_ref
from tidemill.cli.text import count, cut, moment, plain, size


class Age(click.ParamType[timedelta]):
    """How old something is: `0`, `30m`, `24h`, `7d`."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        from tidemill.model.errors import DefinitionError
        from tidemill.model.timetable import parse_duration

        if isinstance(value, timedelta):
            return value
        try:
            return timedelta(0) if value == "0" else parse_duration(value)
        except DefinitionError:
            self.fail(f'"{value}" is no age such as 30m, 24h or 7d', param, ctx)


@click.group(cls=Group)
def data() -> None:
    """Look at tables, their history and their batches."""


@data.command(cls=Command, reads=True, asks=True)
@click.option("--all", "everything", is_flag=True, help="Also the input tables behind upsert and history tables.")
@pass_invocation
def ls(invocation: Invocation, everything: bool) -> None:
    """List the tables with their rows, write mode and last batch."""
    from tidemill.model.table import INPUT_SUFFIX

    out, ref = invocation.out, tell_ref(invocation)
    found = invocation.installation.lake.tables(ref)
    tables = [one for one in found if everything or not one["table"].endswith(INPUT_SUFFIX)]
    inner = len(found) - len(tables)
    if invocation.json:
        out.object({"branch": ref, "tables": tables})
        return
    if not tables:
        out.note(f"no table is on {ref} yet; try: tidemill run PIPELINE")
        return
    columns = [Column("table"), Column("rows", right=True), Column("write"), Column("key", yields=1),
               Column("last batch", right=True), Column("changed", yields=2)]  # fmt: skip
    rows = [
        [t["table"], count(t.get("rows")), t.get("write", "view"), ", ".join(t.get("key", ())),
         str(t.get("last_batch") or "-"), moment(t.get("changed_at"))]
        for t in tables
    ]  # fmt: skip
    out.grid(columns, rows)
    if inner:
        out.note(f"{count(inner, 'input tables')} of upsert and history tables not listed: --all")


@data.command(cls=Command, reads=True, asks=True)
@click.argument("table")
@limit_option(20, "Rows to show.")
@click.option("--failing", is_flag=True, help="The rows that failed the table's checks, instead of the table.")
@pass_invocation
def show(invocation: Invocation, table: str, limit: int, failing: bool) -> None:
    """Show a table: its columns and some of its rows.

    TABLE is pipeline.table, or a bare name that only one pipeline has.
    """
    from tidemill.cli.failing import show_failing
    from tidemill.cli.rows import print_rows

    out, ref = invocation.out, tell_ref(invocation)
    if failing:
        show_failing(invocation, table, ref, limit)
        return
    about, found = invocation.installation.lake.table(table, ref, limit)
    if invocation.json:
        out.object({**about, "shown": found.objects()})
        return
    facts = [("table", about["table"]), ("branch", ref)]
    if about["kind"] == "table":
        facts += [("rows", count(about["rows"])), ("write", " by ".join([about["write"], *_keys(about)]))]
        facts += [("last batch", str(about["last_batch"] or "-"))]
    if about.get("doc"):
        facts.append(("about", cut(plain(about["doc"]), (out.width or 120) - 12)))
    out.facts(facts)
    out.line()
    out.grid([Column("column"), Column("type")], [[one["name"], one["type"]] for one in about["schema"]], longest=60)
    out.line()
    print_rows(out, found, total=about.get("rows"))


def _keys(about: dict[str, Any]) -> list[str]:
    return [f"({', '.join(about['key'])})"] if about["key"] else []


@data.command(cls=Command, reads=True, asks=True)
@click.argument("table")
@limit_option(20, "Snapshots; 0: all.")
@pass_invocation
def history(invocation: Invocation, table: str, limit: int) -> None:
    """Show the snapshots of a table, newest first.

    `tidemill query ... --at SNAPSHOT` reads one of them.
    """
    out = invocation.out
    found = invocation.installation.lake.history(table, tell_ref(invocation), limit or None)
    shown, name = found["snapshots"], found["table"]
    if invocation.json:
        out.object(found)
        return
    columns = [Column("snapshot"), Column("at"), Column("change"), Column("batch", right=True),
               Column("added", right=True), Column("removed", right=True), Column("rows", right=True)]  # fmt: skip
    rows = [
        [str(s["snapshot_id"]), moment(s["committed_at"]), s["kind"] or s["operation"], str(s["batch_id"] or "-"),
         count(s["added_rows"]), count(s["removed_rows"]), count(s["rows"])]
        for s in shown
    ]  # fmt: skip
    out.grid(columns, rows)
    if len(shown) < found["total"]:
        out.note(f"{found['total'] - len(shown)} older snapshots not shown: --limit 0")
    if shown:
        out.next(f'tidemill query "from {name}" --at {shown[-1]["snapshot_id"]}')


@data.command(cls=Command, asks=True)
@click.argument("which", required=False, metavar="[PIPELINE|BATCH]")
@limit_option(20, "Batches; 0: all.")
@pass_invocation
def batches(invocation: Invocation, which: str | None, limit: int) -> None:
    """List batches; or show all about one, by its id.

    The list has each batch's state, attempts, rows and times: later steps as time after the extraction. One batch is
    shown with its archived files, tasks, checks, tables and branch.
    """
    from tidemill.cli.batches import list_batches, show_batch

    if which is not None and which.isdigit():
        show_batch(invocation, int(which))
    else:
        list_batches(invocation, which, limit or None)


@data.command(cls=Command)
@click.option("--grace", type=Age(), default="24h", show_default=True, metavar="AGE",
              help="How long a file stays after it was found to be garbage.")  # fmt: skip
@click.option("--keep", type=Age(), default="7d", show_default=True, metavar="AGE",
              help="How far back --at <time> reaches.")  # fmt: skip
@click.option("--compact", is_flag=True, help="Join small data files of the tables on main first.")
@pass_invocation
def vacuum(invocation: Invocation, grace: timedelta, keep: timedelta, compact: bool) -> None:
    """Delete files that nothing needs any more.

    Branches of failed runs go after 14 days. A file is deleted when it was found to be garbage a grace ago, and still
    is. With --compact, small data files are joined (in append tables those of one batch), and snapshots older than
    --keep are forgotten; rows, and runs that are under way, stay as they are.
    """
    from tidemill.flow import maintain
    from tidemill.flow.compact import compact_tables

    joined = compact_tables(invocation.services, keep=keep) if compact else []
    done = maintain.vacuum(invocation.services, grace=grace, keep=keep)
    if invocation.json:
        compacted = [{"table": str(c.table), "files_before": c.before, "files_after": c.after} for c in joined]
        invocation.out.object({f: getattr(done, f) for f in done.__dataclass_fields__} | {"compacted": compacted})
        return
    facts = [
        *(("compacted", str(c.table), f"{count(c.before, 'files')} -> {c.after}") for c in joined),
        ("kept", count(done.live, "files"), "in use"),
        ("marked", count(done.doomed, "files"), "garbage that waits for its grace"),
        ("deleted", count(done.deleted, "files"), size(done.bytes)),
        *(("expired", f"branch {name}") for name in done.expired),
    ]
    invocation.out.facts(facts)


for _other in (deliver, deliveries, crawl, slots, drop_slot, lineage):
    data.add_command(_other)
