"""SQL of people over the lake: the first rows of a result, or all of it as a file. It only reads."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response, StreamingResponse

from tidemill.web.asking import Running
from tidemill.web.problems import Unwelcome
from tidemill.web.table import Asked
from tidemill.web.tables import ColumnItem, RefQuery
from tidemill.wiring.console import Question, see_that_it_reads

#: Form of a file -> its media type.
_MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


class QueryQuery(RefQuery, frozen=True, kw_only=True):
    """What is asked."""

    sql: Annotated[str, Meta(min_length=1, max_length=20_000, description="one SELECT, in DuckDB's dialect")]
    limit: Annotated[int, Meta(ge=1, le=100_000, description="rows, at most; the settings may say less")] = 1000


class FileQuery(RefQuery, frozen=True, kw_only=True):
    """What is asked, and as what."""

    sql: Annotated[str, Meta(min_length=1, max_length=20_000, description="one SELECT, in DuckDB's dialect")]
    format: Literal["csv", "jsonl", "parquet"] = "csv"


class QueryResult(Struct):
    """The first rows of a result. Values that JSON cannot hold are text, and long ones are cut (…); files have all."""

    columns: list[ColumnItem]
    rows: list[list[Any]]
    more: Annotated[bool, Meta(description="there are more rows than these")]
    seconds: Annotated[float, Meta(description="that it took")]


def everywhere(asked: Asked) -> Iterable[Any]:
    """About all pipelines: SQL may name any table."""
    return (None, *asked.principal.pipelines)


async def run_query(asked: Asked) -> dict[str, Any]:
    """Run one SELECT, and give its first rows. Whoever leaves before it has ended, ends it."""
    limits, wanted = asked.backend.asking.limits, asked.query
    began = time.monotonic()
    running = await _begun(asked, "rows", limits.seconds, min(wanted.limit, limits.rows))
    made = bytearray()
    async for part in running.parts(asked.request):
        made += part
    return {**msgspec.json.decode(made), "seconds": round(time.monotonic() - began, 3)}


async def download(asked: Asked) -> Response:
    """Run one SELECT, and give all of its rows as a file, while they are made."""
    form = asked.query.format
    running = await _begun(asked, form, asked.backend.asking.limits.download_seconds)
    parts = running.parts(asked.request)
    # An error before the first row is told as one; after it, the connection breaks off, and no file looks whole.
    first = await anext(parts, b"")
    headers = {"Content-Disposition": f'attachment; filename="query.{form}"', "Cache-Control": "no-store"}
    return _File(_with(first, parts), running, headers=headers, media_type=_MEDIA[form])


async def _begun(asked: Asked, form: str, seconds: float, rows: int = 0) -> Running:
    request, wanted = asked.request, asked.query
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Unwelcome(403, "Another site's page cannot ask here.", kind="cross-site")
    see_that_it_reads(wanted.sql)
    question = Question(asked.backend.settings, wanted.sql, form, None, wanted.branch, wanted.at, rows)
    return await asked.backend.asking.begin(question, seconds)


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


class _File(StreamingResponse):
    """A file whose query ends with it, however that is."""

    def __init__(self, parts: AsyncIterator[bytes], running: Running, **given: Any) -> None:
        super().__init__(parts, **given)
        self._running = running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.stop()
