"""`tidemill stream dlq, redrive`: what could not be taken, and sending it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tidemill.cli.command import Command, Suggestion, limit_option
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.stream_topics import content
from tidemill.cli.text import cell, count, moment, plain

if TYPE_CHECKING:
    from tidemill.ports.asked import Facts

_STREAM = click.argument("name", metavar="STREAM")


@click.command(cls=Command, asks=True)
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
    told = invocation.installation.streams.letters(name, late=late)
    stream, topic, found = told["stream"], told["topic"], told["letters"]
    out = invocation.out
    if offset is not None:
        _show(invocation, stream, topic, found, offset)
        return
    newest = found[::-1][: limit or None]
    if invocation.json:
        out.object({**told, "letters": newest})
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
    if late:
        out.note(
            "Sent again they would be late again. A greater lateness= of the topic, or grace= of the window, and "
            f"tidemill stream reset {stream} count them; a stream of its own may read {topic}."
        )
    out.next(f"tidemill stream dlq {stream} {newest[0]['offset']}{' --late' if late else ''}")


def _row(one: Facts) -> list[str]:
    again = Styled(moment(one["redriven"][-1]), "dim") if one["redriven"] else "-"
    return [str(one["offset"]), one["kind"], one["step"], _origin(one), moment(one["at"]), again, _first(one["error"])]


def _from(one: Facts) -> str:
    return "-" if one["topic"] is None else f"{one['topic']}[{one['partition']}]"


def _origin(one: Facts) -> str:
    return "-" if one["topic"] is None else f"{_from(one)} at {one['message_offset']}"


def _first(error: str) -> str:
    return plain(short(error).split("\n", 1)[0])


def _show(invocation: Invocation, stream: str, topic: str, found: list[Facts], offset: int) -> None:
    from tidemill.model.errors import UnknownName

    letter = next((one for one in found if one["offset"] == offset), None)
    if letter is None:
        raise UnknownName.of("letter", str(offset), (str(one["offset"]) for one in found), where=topic)
    out = invocation.out
    if invocation.json:
        out.object({"stream": stream, "topic": topic, **letter})
        return
    facts = [
        ("letter", f"{offset} of {topic}"), ("kind", letter["kind"]), ("step", letter["step"]),
        ("from", _origin(letter)), ("time", moment(letter["at"])), ("key", content(letter["key"])),
        ("value", content(letter["value"])),
    ]  # fmt: skip
    facts += [("header", f"{name}: {content(value)}") for name, value in letter["headers"]]
    facts += [("column", f"{column} = {cell(value)}") for column, value in (letter["row"] or {}).items()]
    facts += [("redriven", moment(at)) for at in letter["redriven"]]
    out.facts(facts)
    out.line()
    for line in short(letter["error"]).splitlines():
        out.line(plain(line))
    if letter["topic"] is not None and not letter["redriven"]:
        out.next(f"tidemill stream redrive {stream} {offset}")


@click.command(cls=Command, asks=True)
@_STREAM
@click.argument("offsets", nargs=-1, type=click.IntRange(min=0), metavar="[OFFSET]...")
@click.option("--all", "every", is_flag=True, help="Every letter that was not sent again yet.")
@click.option("--edit", metavar="FILE|VALUE", help="Send this value instead: a file's contents, or the text itself.")
@click.option("--again", is_flag=True, help="Also those that were sent again before.")
@click.option("--each", is_flag=True, help="Leave out those that cannot be sent, instead of sending none.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def redrive(
    invocation: Invocation, name: str, offsets: tuple[int, ...], every: bool, edit: str | None, again: bool,
    each: bool, dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    """Send dead letters to their topics again.

    They go to the partitions that they came from.

    The letters stay, marked as sent: without --again none is sent twice. Other streams that read the topic get the
    message once more, too.

    Where one cannot be sent (its message is kept no more, a row came of several messages), none is; with --each all
    others are, and it is told why these are left out.
    """
    if bool(offsets) == every:
        raise Suggestion("Name the letters by their offsets, or say --all.", f"tidemill stream dlq {name}")
    if edit is not None and len(offsets) != 1:
        raise Suggestion("--edit is for one letter.", f"tidemill stream redrive {name} OFFSET --edit VALUE")
    value = _edited(edit)
    edits = {} if value is None else {offsets[0]: value}
    streams, out = invocation.installation.streams, invocation.out
    would = streams.redrive(name, offsets, edits, again=again, each=each, dry_run=True)
    stream, found, refused = would["stream"], would["offsets"], would["refused"]
    if not invocation.json:
        letters = {one["offset"]: one for one in streams.letters(stream, late=False)["letters"]}
        told = [("would send", letters[one], f"to {_from(letters[one])}") for one in found if one in letters]
        out.facts([(verb, str(one["offset"]), where, _first(one["error"])) for verb, one, where in told])
        _tell_refused(invocation, refused)
    if not found:
        out.note("no letter is left to send again")
    if dry_run or not found:
        if invocation.json:
            out.object({"stream": stream, "sent": [], "would_send": found, "refused": refused})
        return
    if not (yes or invocation.json):
        click.confirm(f"Send {count(len(found), 'messages')} again?", abort=True, err=True)
    done = streams.redrive(stream, found, edits, again=again, each=each, dry_run=False)
    if invocation.json:
        out.object({"stream": stream, "sent": done["offsets"], "refused": [*refused, *done["refused"]]})
        return
    _tell_refused(invocation, done["refused"])
    out.facts([("sent", count(len(done["offsets"]), "messages"), "again")])
    out.next(f"tidemill stream dlq {stream}")


def _tell_refused(invocation: Invocation, refused: list[Facts]) -> None:
    invocation.out.facts([("left out", str(one["offset"]), _first(one["error"])) for one in refused])


def _edited(edit: str | None) -> bytes | None:
    if edit is None:
        return None
    file = Path(edit)
    try:
        return file.read_bytes() if file.is_file() else edit.encode()
    except OSError:  # too long for a file's name
        return edit.encode()
