"""`tidemill stream sources, refeed`: what feeds topics, how far it is, and having it begin anew."""

from __future__ import annotations

import json
from typing import Any

import click

from tidemill.cli.command import Command
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, moment, plain

_STYLES = {"running": "good", "failed": "bad", "stopped": "dim"}
#: Characters of a position that are shown.
_MOST = 60


@click.command(cls=Command, asks=True)
@pass_invocation
def sources(invocation: Invocation) -> None:
    """List what feeds topics, and how far it is."""
    found = invocation.installation.streams.sources()
    out = invocation.out
    if invocation.json:
        out.object({"sources": found})
        return
    if not found:
        out.note('no topic that a stream reads has a source; see tm.topic(..., source=live.tail("..."))')
        return
    columns = [
        Column("topic"), Column("source"), Column("state"), Column("messages", right=True), Column("last"),
        Column("position", yields=1),
    ]  # fmt: skip
    out.grid(columns, [
        [one["topic"], one["source"], Styled(one["state"], _STYLES[one["state"]]), count(one["messages"]),
         moment(one["at"]), _position(one["position"])]
        for one in found
    ])  # fmt: skip
    for one in found:
        if one["error"] is not None:
            out.line()
            head, *more = short(one["error"]).splitlines()
            out.line(f"{out.styled('error:', 'bad')} {one['topic']}: {head}  ({moment(one['error_at'])})")
            for line in more:
                out.line(line)
    out.next(f"tidemill stream peek {found[0]['topic']}")


@click.command(cls=Command, asks=True)
@click.argument("topic")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def refeed(invocation: Invocation, topic: str, yes: bool) -> None:
    """Have a topic's source begin anew.

    The topic keeps what it has, so messages that the source gives again are in it twice. Who feeds the topic now goes
    on from the beginning.
    """
    if invocation.remote is None:
        from tidemill.wiring.stream_sources import see_source

        see_source(invocation.streams, topic)
    if not (yes or invocation.json):
        click.confirm(f"Have what feeds {topic} begin anew?", abort=True, err=True)
    found = invocation.installation.streams.refeed(topic)
    if invocation.json:
        invocation.out.object({"topic": topic, "messages": 0 if found is None else found["messages"]})
        return
    if found is None:
        invocation.out.note(f"nothing has fed {topic} yet")
        return
    invocation.out.facts([("forgotten", found["source"], f"after {count(found['messages'], 'messages')}")])
    invocation.out.next("tidemill stream sources")


def _position(position: Any) -> str:
    text = "-" if position is None else plain(json.dumps(position, ensure_ascii=False))
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
