"""`tidemill data lineage`: which columns come from which."""

from __future__ import annotations

import click

from tidemill.cli.command import Command
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.reading import tell_ref


@click.command(cls=Command, reads=True)
@click.argument("what", metavar="TABLE|TABLE.COLUMN")
@click.option("--depth", type=click.IntRange(1, 12), default=1, show_default=True, help="Steps each way.")
@click.option("--up", "direction", flag_value="up", help="Only what it comes from.")
@click.option("--down", "direction", flag_value="down", help="Only what comes from it.")
@pass_invocation
def lineage(invocation: Invocation, what: str, depth: int, direction: str | None) -> None:
    """Show which columns a column comes from, and which come from it.

    Of each pair it is told how: copied, computed, decides (which rows there are, how they are grouped), or unknown,
    where Python is in between. It is looked up in the code as it is now; table functions are called with frames that
    have no rows, and no row is read.
    """
    from tidemill.flow.query import reading
    from tidemill.model.errors import UnknownName
    from tidemill.model.lineage import ColumnName
    from tidemill.wiring.lineage import column_graph
    from tidemill.wiring.project import load_pipelines

    services, out = invocation.services, invocation.out
    specs = [made.spec() for made in load_pipelines(invocation.known_settings()).values()]
    with reading(services, tell_ref(invocation)) as seen:
        graph = column_graph(specs, services, seen)
        try:
            one = graph.table(what)
            starts = [ColumnName(one.name, name) for name, _ in one.columns]
        except UnknownName:
            starts = [graph.column(what)]
            one = graph.table(starts[0].table)
        near = graph.near(starts, depth, direction or "both")  # type: ignore[arg-type]  # click gives one of these
    unknown = {table.name: table.unknown for table in (near.tables or (one,)) if table.unknown}
    if invocation.json:
        edges = [{"from": str(e.source), "to": str(e.target), "kind": e.kind.value} for e in near.edges]
        out.object({"branch": seen.ref, "of": [str(s) for s in starts], "edges": edges, "unknown": unknown,
                    "cut": near.cut})  # fmt: skip
        return
    if near.edges:
        types = {(t.name, name): kind for t in near.tables for name, kind in t.columns}
        rows = [
            [str(e.source), e.kind.value, str(e.target), types.get((e.target.table, e.target.column), "") or "-"]
            for e in near.edges
        ]
        out.grid([Column("from"), Column("is"), Column("to"), Column("type", yields=1)], rows)
    else:
        none = {"up": "it comes from no column", "down": "no column comes from it"}
        out.note(f"{what}: {none.get(direction or '', ', and '.join(none.values()))} that is known")
    for table, why in unknown.items():
        out.note(f"{table}: what its columns come from is unknown. {why}")
    if near.cut:
        out.note("there is more than is shown: a smaller --depth, --up or --down")
