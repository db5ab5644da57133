"""Streams: the list, one with its topology, lag, dead letters; send letters again. What streams say of themselves is
of any shape that `tidemill stream show --json` has.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow.stream.redrive import Letter
from tidemill.model.errors import UnknownName
from tidemill.model.json_values import jsonable
from tidemill.web.paging import cut, read_cursor
from tidemill.web.problems import bad_request, status_of
from tidemill.web.table import Asked, Body, Cursor, Limit, Query
from tidemill.wiring.stream_care import lag_json
from tidemill.wiring.stream_letters import letters, send


class StreamItem(Struct):
    """A stream in a list: where from and to, who works on it, what waits."""

    stream: str
    pipeline: str
    state: str
    reads: list[str]
    writes: list[str]
    guarantee: str
    members: int
    lag: int | None
    dead_letters: int
    counts: dict[str, Any]
    error: str | None
    place: str


class StreamPage(Struct):
    """Streams by name."""

    streams: list[StreamItem]
    next: str | None


class LagItem(Struct):
    """What waits in a partition; `committed` is how far the stream is."""

    topic: str
    partition: int
    committed: int | None
    first: int
    end: int
    lag: int
    waiting_since: datetime | None
    loads: Any


class LagList(Struct):
    """What waits, in each partition."""

    stream: str
    lag: list[LagItem]


class LetterItem(Struct):
    """A dead letter; content that is no text is `{"base64": ...}`. `redriven`: when it was sent again."""

    offset: int
    at: datetime | None
    kind: str
    step: str
    error: str
    topic: str | None
    partition: int | None
    message_offset: int | None
    key: Any
    value: Any
    headers: list[list[Any]]
    row: dict[str, Any] | None
    redriven: list[datetime]


class LetterPage(Struct):
    """Dead letters, newest first."""

    stream: str
    topic: str
    total: int
    letters: list[LetterItem]
    next: str | None


class RefusedLetter(Struct):
    """Why a letter is not sent."""

    offset: int
    status: int
    error: str


class Redriven(Struct):
    """Letters that were sent again; with `dry_run` that would be. `refused`: those that are left out, with `each`."""

    stream: str
    offsets: list[int]
    refused: list[RefusedLetter]
    dry_run: bool


class StreamsQuery(Query, frozen=True):
    """Which streams."""

    limit: Limit = 50
    cursor: Cursor = None
    pipeline: Annotated[list[str], Meta(description="only of these")] = []


class LettersQuery(Query, frozen=True):
    """Which letters."""

    limit: Limit = 50
    cursor: Cursor = None
    late: Annotated[bool, Meta(description="rows that came too late, instead")] = False


_Offset = Annotated[int, Meta(ge=0, le=2**53)]


class RedriveBody(Body, frozen=True):
    """Letters to send again: these, or all that were not sent yet; `edits` are other values, by offset."""

    offsets: list[_Offset] = []
    all: Annotated[bool, Meta(description="every letter that was not sent again yet")] = False
    again: Annotated[bool, Meta(description="also those that were sent again before")] = False
    edits: Annotated[dict[str, str], Meta(description="offset -> the value to send instead")] = {}
    each: Annotated[bool, Meta(description="leave out those that cannot be sent, instead of sending none")] = False


def of_stream(asked: Asked) -> list[str]:
    """The pipeline of the stream that the path names, `pipeline.stream`."""
    pipeline, dot, _ = asked.path["stream"].partition(".")
    if not dot:
        raise UnknownName(f'There is no stream "{pipeline}".', hint="pipeline.stream")
    return [pipeline]


def list_streams(asked: Asked) -> dict[str, Any]:
    """Streams."""
    query: StreamsQuery = asked.query
    after = read_cursor(query.cursor, str)
    with asked.backend.metadata.read() as tx:
        known = tx.definitions.get_all(record.definition_id for record in tx.definitions.pipelines())
    if not any(made.streams for made in known.values()):
        return {"streams": [], "next": None}  # without reading any of the users' files
    with asked.backend.streams() as care:
        found = sorted(care.overview(), key=lambda one: one.stream)
    shown = [
        one
        for one in found
        if asked.sees(one.pipeline)
        and (not query.pipeline or one.pipeline in query.pipeline)
        and (after is None or one.stream > after)
    ]
    page, further = cut(shown, query.limit, lambda one: one.stream)
    return {"streams": [jsonable(asdict(one)) for one in page], "next": further}


def show_stream(asked: Asked) -> dict[str, Any]:
    """A stream's topology, and what its processes do."""
    with asked.backend.streams() as care:
        found: dict[str, Any] = jsonable(care.show(asked.path["stream"]))
    return found


def show_lag(asked: Asked) -> dict[str, Any]:
    """What waits in each partition, and since when."""
    name = asked.path["stream"]
    with asked.backend.streams() as care:
        ((stream, lags),) = care.lag(name).items()
    return {"stream": stream, "lag": [lag_json(one) for one in lags]}


def list_letters(asked: Asked) -> dict[str, Any]:
    """A stream's dead letters."""
    query: LettersQuery = asked.query
    before = read_cursor(query.cursor, int)
    with asked.backend.streams() as care:
        stream, topic, found = letters(care, asked.path["stream"], late=query.late)
    newest = [one for one in found[::-1] if before is None or one.offset < before]
    page, further = cut(newest, query.limit, lambda one: one.offset)
    listed = [_letter(one) for one in page]
    return {"stream": stream, "topic": topic, "total": len(found), "letters": listed, "next": further}


def redrive(asked: Asked) -> dict[str, Any]:
    """Send dead letters to their topics again, in one commit: all of them, or with `each` those that can be."""
    body: RedriveBody = asked.body
    if bool(body.offsets) == body.all:
        raise bad_request("Name letters by their offsets, or say all.", hint='{"offsets": [3]} or {"all": true}')
    edits, dry = _edits(body), asked.query.dry_run
    with asked.backend.streams() as care:
        stream, found = send(
            care, asked.path["stream"], body.offsets, edits, again=body.again, each=body.each, dry_run=dry
        )
    refused = [
        {"offset": offset, "status": status_of(error), "error": error.what} for offset, error in found.refused.items()
    ]
    return {
        "stream": stream, "offsets": [one.letter.offset for one in found.sent], "refused": refused, "dry_run": dry,
    }  # fmt: skip


def _edits(body: RedriveBody) -> dict[int, bytes]:
    wrong = [text for text in body.edits if not text.isdecimal() or int(text) not in body.offsets]
    if wrong:
        raise bad_request(f'"{wrong[0]}" is not among the offsets.', hint="an edit is for one of `offsets`")
    return {int(offset): value.encode("utf-8", "surrogatepass") for offset, value in body.edits.items()}


def _letter(one: Letter) -> dict[str, Any]:
    return {
        "offset": one.offset, "at": one.at, "kind": one.kind, "step": one.step, "error": one.error,
        "topic": one.origin.topic if one.origin else None,
        "partition": one.origin.number if one.origin else None,
        "message_offset": one.origin_offset,
        "key": _content(one.key), "value": _content(one.value),
        "headers": [[name, _content(value)] for name, value in one.headers],
        "row": jsonable(one.row), "redriven": list(one.redriven),
    }  # fmt: skip


def _content(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": jsonable(content)}
