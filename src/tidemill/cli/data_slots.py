"""`tidemill data slots, drop-slot`: what a PostgreSQL server keeps for those who follow its changes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tidemill.cli.command import Command
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import size
from tidemill.model.cdc import lsn_text

if TYPE_CHECKING:
    from tidemill.ports.slots import Slot


@click.command(cls=Command)
@click.argument("connection")
@pass_invocation
def slots(invocation: Invocation, connection: str) -> None:
    """List a server's replication slots, and how far behind each is.

    A server keeps its log from where a slot stands. One that nobody reads any more fills its disk, or, where
    max_slot_wal_keep_size bounds what is kept, is lost: "left" is what may still be written before that.
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
        Column("kept", right=True), Column("left", right=True),
    ]  # fmt: skip
    states = [_state(one) for one in found]
    out.grid(columns, [
        [one.name, one.database, one.plugin, Styled(*state), lsn_text(one.lsn),
         "-" if one.lag is None else size(one.lag), "-" if one.left is None else size(max(one.left, 0))]
        for one, state in zip(found, states, strict=True)
    ])  # fmt: skip
    out.next(f"tidemill data drop-slot {connection} SLOT")


def _state(slot: Slot) -> tuple[str, str]:
    """In a word, and how it looks."""
    if slot.is_lost:
        return "lost", "bad"
    if slot.left is not None and slot.left <= 0:
        return "nearly lost", "warn"
    return ("read", "good") if slot.is_active else ("idle", "dim")


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
