"""`tidemill data slots, drop-slot`: what a PostgreSQL server keeps for those who follow its changes."""

from __future__ import annotations

from dataclasses import asdict

import click

from tidemill.cli.command import Command
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import size
from tidemill.model.cdc import lsn_text


@click.command(cls=Command)
@click.argument("connection")
@pass_invocation
def slots(invocation: Invocation, connection: str) -> None:
    """List a server's replication slots, and how far behind each is.

    A server keeps its log from where a slot stands. One that nobody reads any more fills its disk.
    """
    from tidemill.wiring.databases import open_slots

    found = open_slots(connection, invocation.known_settings()).listed()
    out = invocation.out
    if invocation.json:
        out.object({"slots": [{**asdict(one), "lsn": lsn_text(one.lsn)} for one in found]})
        return
    if not found:
        out.note(f"the server of {connection} has no logical replication slot")
        return
    columns = [
        Column("slot"), Column("database"), Column("plugin"), Column("state"), Column("confirmed"),
        Column("kept", right=True),
    ]  # fmt: skip
    states = [
        ("lost", "bad") if one.is_lost else ("read", "good") if one.is_active else ("idle", "dim") for one in found
    ]
    out.grid(columns, [
        [one.name, one.database, one.plugin, Styled(*state), lsn_text(one.lsn),
         "-" if one.lag is None else size(one.lag)]
        for one, state in zip(found, states, strict=True)
    ])  # fmt: skip
    out.next(f"tidemill data drop-slot {connection} SLOT")


@click.command("drop-slot", cls=Command)
@click.argument("connection")
@click.argument("slot")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def drop_slot(invocation: Invocation, connection: str, slot: str, yes: bool) -> None:
    """Remove a replication slot that nobody reads any more.

    A source that still goes on from it begins with a new snapshot then, under another slot's name.
    """
    from tidemill.wiring.databases import open_slots

    if not (yes or invocation.json):
        click.confirm(f"Remove the slot {slot}?", abort=True, err=True)
    open_slots(connection, invocation.known_settings()).drop(slot)
    if invocation.json:
        invocation.out.object({"dropped": slot})
        return
    invocation.out.facts([("dropped", slot, connection)])
    invocation.out.next(f"tidemill data slots {connection}")
