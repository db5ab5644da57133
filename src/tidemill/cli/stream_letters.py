"""`tidemill stream dlq, redrive`: what could not be taken, and sending it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Suggestion, limit_option
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.stream_topics import content, text_or_bytes
from tidemill.cli.text import cell, count, moment, plain

if TYPE_CHECKING:
    from tidemill.flow.stream.redrive import Letter

_STREAM = click.argument("name", metavar="STREAM")


@click.command(cls=Command)
@_STREAM
@click.argument("offset", type=click.IntRange(min=0), required=False)
@click.option("--late", is_flag=True, help="Rows that came too late, instead.")
@limit_option(20, "How many, newest first; 0: all.")
@pass_invocation
def dlq(invocation: Invocation, name: str, offset: int | None, late: bool, limit: int) -> None:
    """List a stream's dead letters; with OFFSET show one whole.

    The newest come first.

    A dead letter is a message, or a row, that a step could not take: `errors=` of the stream says which step lets such
    go. It stays until its topic's retention ends.
    """
    from tidemill.wiring.stream_letters import letters

    stream, topic, found = letters(invocation.streams, name, late=late)
    out = invocation.out
    if offset is not None:
        _show(invocation, stream, topic, found, offset)
        return
    newest = found[::-1][: limit or None]
    if invocation.json:
        out.object({"stream": stream, "topic": topic, "letters": [_object(one) for one in newest]})
        return
    if not newest:
        out.note(f"{topic} is empty")
        return
    columns = [
        Column("offset", right=True), Column("kind"), Column("step"), Column("from"), Column("time", yields=2),
        Column("redriven", yields=1), Column("error", wraps=True),
    ]  # fmt: skip
    out.grid(columns, [_row(one) for one in newest])
    if len(found) > len(newest):
        out.note(f"{count(len(newest))} of {count(len(found), 'letters')} shown")
    out.next(f"tidemill stream dlq {stream} {newest[0].offset}{' --late' if late else ''}")


def _row(one: Letter) -> list[str]:
    again = Styled(moment(one.redriven[-1]), "dim") if one.redriven else "-"
    return [str(one.offset), one.kind, one.step, _origin(one), moment(one.at), again, _first(one.error)]


def _origin(one: Letter) -> str:
    return "-" if one.origin is None else f"{one.origin} at {one.origin_offset}"


def _first(error: str) -> str:
    return plain(short(error).split("\n", 1)[0])


def _show(invocation: Invocation, stream: str, topic: str, found: list[Letter], offset: int) -> None:
    from tidemill.model.errors import UnknownName

    letter = next((one for one in found if one.offset == offset), None)
    if letter is None:
        raise UnknownName.of("letter", str(offset), (str(one.offset) for one in found), where=topic)
    out = invocation.out
    if invocation.json:
        out.object({"stream": stream, "topic": topic, **_object(letter)})
        return
    facts = [
        ("letter", f"{offset} of {topic}"), ("kind", letter.kind), ("step", letter.step), ("from", _origin(letter)),
        ("time", moment(letter.at)), ("key", content(letter.key)), ("value", content(letter.value)),
    ]  # fmt: skip
    facts += [("header", f"{name}: {content(value)}") for name, value in letter.headers]
    facts += [("column", f"{column} = {cell(value)}") for column, value in (letter.row or {}).items()]
    facts += [("redriven", moment(at)) for at in letter.redriven]
    out.facts(facts)
    out.line()
    for line in short(letter.error).splitlines():
        out.line(plain(line))
    if letter.origin is not None:
        out.next(f"tidemill stream redrive {stream} {offset}")


def _object(one: Letter) -> dict[str, Any]:
    return {
        "offset": one.offset, "at": one.at, "kind": one.kind, "step": one.step, "error": one.error,
        "topic": one.origin.topic if one.origin else None,
        "partition": one.origin.number if one.origin else None,
        "message_offset": one.origin_offset,
        "key": text_or_bytes(one.key), "value": text_or_bytes(one.value),
        "headers": [[name, text_or_bytes(value)] for name, value in one.headers],
        "row": one.row, "redriven": list(one.redriven),
    }  # fmt: skip


@click.command(cls=Command)
@_STREAM
@click.argument("offsets", nargs=-1, type=click.IntRange(min=0), metavar="[OFFSET]...")
@click.option("--all", "every", is_flag=True, help="Every letter that was not sent again yet.")
@click.option("--edit", metavar="FILE|VALUE", help="Send this value instead: a file's contents, or the text itself.")
@click.option("--again", is_flag=True, help="Also those that were sent again before.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def redrive(
    invocation: Invocation, name: str, offsets: tuple[int, ...], every: bool, edit: str | None, again: bool,
    dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    """Send dead letters to their topics again.

    They go to the partitions that they came from.

    The letters stay, marked as sent: without --again none is sent twice. Other streams that read the topic get the
    message once more, too.
    """
    from tidemill.wiring.stream_letters import preview, send

    if bool(offsets) == every:
        raise Suggestion("Name the letters by their offsets, or say --all.", f"tidemill stream dlq {name}")
    if edit is not None and len(offsets) != 1:
        raise Suggestion("--edit is for one letter.", f"tidemill stream redrive {name} OFFSET --edit VALUE")
    value = _edited(edit)
    stream, found = preview(invocation.streams, name, offsets, again=again)
    out = invocation.out
    if not invocation.json:
        out.facts([("would send", str(one.offset), f"to {one.origin}", _first(one.error)) for one in found])
    if not found:
        out.note("no letter is left to send again")
    if dry_run or not found:
        if invocation.json:
            out.object({"stream": stream, "sent": [], "would_send": [one.offset for one in found]})
        return
    if not (yes or invocation.json):
        click.confirm(f"Send {count(len(found), 'messages')} again?", abort=True, err=True)
    edits = {} if value is None else {offsets[0]: value}
    sent = send(invocation.streams, stream, [one.offset for one in found], edits, again=again)
    if invocation.json:
        out.object({"stream": stream, "sent": [one.letter.offset for one in sent]})
        return
    out.facts([("sent", count(len(sent), "messages"), "again")])
    out.next(f"tidemill stream dlq {stream}")


def _edited(edit: str | None) -> bytes | None:
    if edit is None:
        return None
    file = Path(edit)
    try:
        return file.read_bytes() if file.is_file() else edit.encode()
    except OSError:  # too long for a file's name
        return edit.encode()
