"""What tries of tasks have said: lines, a search over all of them, and the whole as a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response, StreamingResponse

from tidemill.flow.facts.runs import listed_run
from tidemill.model.errors import UnknownName
from tidemill.model.graph import WHOLE
from tidemill.model.run import RUN_ENDS
from tidemill.ports.tasklogs import LEVELS, LogLine, TaskLogs, TryPlace, Wanted
from tidemill.web.raw import disposition
from tidemill.web.table import LARGEST_ID, Asked, Query

_LEVELS = "|".join(LEVELS)
#: Lines that are read at once for a download.
_AT_ONCE = 2000
#: Characters of a found line; where it is longer, those around what was found.
_EXCERPT = 2000
#: What a terminal obeys, or what turns the direction of a line, is written out in a download.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Line(Struct):
    """Something that a try has said; the text is as it was: whoever shows it escapes it."""

    at: datetime
    level: str
    source: str
    text: str


class TryLog(Struct):
    """A try that has said something."""

    task: str
    map_index: int
    number: int


class Logs(Struct):
    """Lines of one try: `offset` is where the next ones begin, `begin` where those before them end.

    `tries` are all that have said something in the run.
    """

    run_id: int
    task: str | None
    map_index: int
    number: int | None
    lines: list[Line]
    begin: int
    offset: int
    ended: bool
    tries: list[TryLog]


class Found(Struct):
    """A line that fits, and the offset at which it begins; a long text is cut around what was found."""

    offset: int
    at: datetime
    level: str
    source: str
    text: str


class FoundLines(Struct):
    """Lines that fit. The search goes on at `offset`, until it is `whole`: it has come to the log's end.

    `ended`: the run has ended, so no more lines will come.
    """

    run_id: int
    task: str | None
    map_index: int
    number: int | None
    lines: list[Found]
    offset: int
    whole: bool
    ended: bool


class TryQuery(Query, frozen=True):
    """Which try: without `number` the newest, without `task` the only one that has said something."""

    task: Annotated[str, Meta(description="the task's id")] | None = None
    index: Annotated[int, Meta(ge=-1, le=LARGEST_ID, description="which instance of a mapped task")] = WHOLE
    number: Annotated[int, Meta(ge=1, le=LARGEST_ID, description="which try")] | None = None


class LogsQuery(TryQuery, frozen=True):
    """Which lines of which try."""

    offset: Annotated[int, Meta(ge=0, le=LARGEST_ID, description="`offset` of the answer before")] = 0
    tail: Annotated[int, Meta(ge=1, le=10_000, description="the last lines instead")] | None = None
    before: Annotated[int, Meta(ge=0, le=LARGEST_ID, description="the last lines before this `begin`")] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="lines at most")] = 1000


class FindQuery(TryQuery, frozen=True):
    """Which lines of which try to look for."""

    text: Annotated[str, Meta(max_length=1000, description="lines that have it, in small or capital letters")] = ""
    level: Annotated[str, Meta(pattern=f"^({_LEVELS})$", description="of this level or a louder one")] | None = None
    offset: Annotated[int, Meta(ge=0, le=LARGEST_ID, description="`offset` of the answer before")] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000, description="lines at most")] = 1000


def show_logs(asked: Asked) -> dict[str, Any]:
    """Lines of what a try of a task has said."""
    query: LogsQuery = asked.query
    about, place, tries = _of(asked)
    answer = {**about, "lines": [], "begin": 0, "offset": 0, "tries": [_try(one) for one in tries]}
    if place is None:
        return answer
    logs = asked.backend.logs
    if query.before is not None:
        page = logs.tail(place, query.limit, query.before)
    elif query.tail is not None:
        page = logs.tail(place, query.tail)
    else:
        page = logs.read(place, query.offset, query.limit)
    return {**answer, "lines": page.lines, "begin": page.begin, "offset": page.offset}


def find(asked: Asked) -> dict[str, Any]:
    """Lines of the whole log that have a text, or a level."""
    query: FindQuery = asked.query
    about, place, _ = _of(asked)
    if place is None:
        return {**about, "lines": [], "offset": 0, "whole": True}
    wanted = Wanted(query.text, query.level)
    page = asked.backend.logs.find(place, wanted, query.offset, query.limit)
    lines = [
        {
            "offset": one.offset, "at": one.line.at, "level": one.line.level, "source": one.line.source,
            "text": _excerpt(one.line.text, query.text),
        }
        for one in page.lines
    ]  # fmt: skip
    return {**about, "lines": lines, "offset": page.offset, "whole": page.whole}


def download(asked: Asked) -> Response:
    """The whole log as a text file; what a terminal would obey is written out."""
    about, place, _ = _of(asked)
    if place is None:
        raise UnknownName(f"Run {about['run_id']} has no such log.", hint="name one of its tasks: `task`")
    instance = f"-{place.index}" if place.index != WHOLE else ""
    name = f"{place.pipeline}-{place.run_id}-{place.task}{instance}-{place.number}.log"
    headers = {"Content-Disposition": disposition(name)}
    return StreamingResponse(_written(asked.backend.logs, place), headers=headers, media_type="text/plain")


def _written(logs: TaskLogs, place: TryPlace) -> Iterator[bytes]:
    offset = 0
    while True:
        page = logs.read(place, offset, _AT_ONCE)
        if page.offset == offset:
            return
        offset = page.offset
        yield "".join(map(_plain, page.lines)).encode("utf-8", "replace")


def _plain(line: LogLine) -> str:
    said = _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), f"{line.source}: {line.text}")
    return f"{line.at.isoformat(timespec='milliseconds')} {line.level:<8} {said}\n"


def _excerpt(text: str, wanted: str) -> str:
    if len(text) <= _EXCERPT:
        return text
    at = max(0, text.lower().find(wanted.lower()) - _EXCERPT // 4)
    before, after = "… " if at else "", " …" if at + _EXCERPT < len(text) else ""
    return f"{before}{text[at : at + _EXCERPT]}{after}"


def _of(asked: Asked) -> tuple[dict[str, Any], TryPlace | None, list[TryPlace]]:
    """What every answer says of the try that is asked for; where its log is, if there is one; and all of the run."""
    run_id, query = asked.path["run_id"], asked.query
    with asked.backend.metadata.read() as tx:
        # In this order: what was said before the end is read after it.
        found = listed_run(tx, run_id)
    tries = asked.backend.logs.tries(found.pipeline, run_id)
    if query.task is not None and all(one.task != query.task for one in tries):
        with asked.backend.metadata.read() as tx:
            known = {task.task for task in tx.runs.tasks(run_id)}
        if query.task not in known:
            raise UnknownName.of("task", query.task, known, where=f"run {run_id}")
    mine = [one for one in tries if query.task in (None, one.task) and one.index == query.index]
    about = {
        "run_id": run_id, "task": query.task, "map_index": query.index, "number": query.number,
        "ended": found.run.state in RUN_ENDS,
    }  # fmt: skip
    if query.task is None and len({one.task for one in mine}) != 1:
        return about, None, tries
    number = query.number or max((one.number for one in mine), default=None)
    if number is None:
        return about, None, tries
    place = TryPlace(found.pipeline, run_id, query.task or mine[0].task, query.index, number)
    return {**about, "task": place.task, "number": number}, place, tries


def _try(one: TryPlace) -> dict[str, Any]:
    return {"task": one.task, "map_index": one.index, "number": one.number}
