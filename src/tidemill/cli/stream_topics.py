"""`tidemill stream topics, feed, peek`: what is in topics, and putting something there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, moment, plain

if TYPE_CHECKING:
    from tidemill.ports.asked import Facts


@click.command(cls=Command, asks=True)
@click.option("--all", "every", is_flag=True, help="Also those that streams have for themselves.")
@pass_invocation
def topics(invocation: Invocation, every: bool) -> None:
    """List topics with their partitions and messages."""
    listed = invocation.installation.streams.topics()
    found = [one for one in listed if every or invocation.json or one["role"] != "own"]
    out = invocation.out
    if invocation.json:
        out.object({"topics": found})
        return
    if not found:
        out.note("no topic yet")
        return
    sources = any(one["source"] is not None for one in found)
    archives = any(one["unarchived"] is not None for one in found)
    columns = [
        Column("topic"), Column("partitions", right=True), Column("messages", right=True),
        *([Column("archived", right=True), Column("to archive", right=True)] if archives else []),
        Column("role"), Column("streams", yields=1),
        *([Column("source", yields=2)] if sources else []),
    ]  # fmt: skip
    out.grid(columns, [
        [one["name"], count(one["partitions"]) if one["partitions"] else Styled("not made", "dim"),
         count(one["messages"]), *(_archive(one) if archives else []), one["role"], ", ".join(one["streams"]) or "-",
         *([one["source"] or "-"] if sources else [])]
        for one in found
    ])  # fmt: skip
    out.next(f"tidemill stream peek {found[0]['name']}")


def _archive(one: Facts) -> list[str]:
    """How many messages are archived, and how many are to be; offsets are in the JSON."""
    if one["unarchived"] is None:
        return ["-", "-"]
    return [count(sum(end - first for first, end in one["archived"])), count(one["unarchived"])]


@click.command(cls=Command, asks=True)
@click.argument("topic")
@click.argument("file", type=click.File("rb"))
@click.option("--key", "keys", multiple=True, metavar="COLUMN",
              help="The message's key; else the one that the topic is declared with.")  # fmt: skip
@click.option("--raw", is_flag=True, help="Send lines as they are, whether they fit or not.")
@pass_invocation
def feed(invocation: Invocation, topic: str, file: Any, keys: tuple[str, ...], raw: bool) -> None:
    """Send JSON lines to a topic, a message each.

    FILE is a path, or - for standard input. A line that does not fit what the topic is declared with is refused, and
    nothing is sent then. A declared topic that is missing is made.
    """
    lines = [line for line in file.read().splitlines() if line.strip()]
    sent = invocation.installation.streams.feed(topic, lines, keys, strict=not raw)
    if invocation.json:
        invocation.out.object({"topic": topic, "messages": sent})
        return
    invocation.out.facts([("sent", count(sent, "messages"), f"to {topic}")])
    invocation.out.next(f"tidemill stream peek {topic}")


@click.command(cls=Command, asks=True)
@click.argument("topic")
@click.option("-n", "last", type=click.IntRange(min=0), default=10, show_default=True, metavar="N",
              help="How many of the last messages.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on as messages come, until Ctrl-C.")
@pass_invocation
def peek(invocation: Invocation, topic: str, last: int, follow: bool) -> None:
    """Show the last messages of a topic; no group's position moves.

    With --server up to 200, of long ones the beginning.
    """
    from tidemill.cli.command import Suggestion

    if follow and invocation.json:
        raise Suggestion("--follow has no end, and --json writes one object.", "leave out one of them")
    found = invocation.installation.streams.peek(topic, last)
    out = invocation.out
    if invocation.json:
        out.object({"topic": topic, "messages": found})
        return
    if not follow:
        columns = [Column("partition", right=True), Column("offset", right=True), Column("time"), Column("key"),
                   Column("value")]  # fmt: skip
        out.grid(columns, [_row(one) for one in found])
        if not found:
            out.note(f"{topic} has no messages")
        return
    for one in found:
        out.line("  ".join(_row(one)))
    for new in invocation.installation.streams.follow(topic):
        if new is not None:
            out.line("  ".join(_row(new)))
        sys.stdout.flush()


def _row(one: Facts) -> list[str]:
    """Its place, key and value; what is no text is shown as its columns, where the topic's codec is known."""
    from tidemill.wiring.stream_rows import as_line

    value, row = one["value"], one["row"]
    is_text = value is None or (isinstance(value, str) and value.isprintable())
    place = [str(one["partition"]), str(one["offset"]), moment(one["at"])]
    return [*place, content(one["key"]), content(value if is_text or row is None else as_line(row).decode())]


def content(value: str | bytes | None) -> str:
    """A key or value on one line: text, or the bytes of what is none."""
    if value is None:
        return Styled("null", "null")
    return plain(value) if isinstance(value, str) else f"0x{value.hex()}"
