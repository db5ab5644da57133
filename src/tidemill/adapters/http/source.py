"""Port `source` over web services: pages, kept as they came, and one answer for each record where details are asked.

Replays read what is kept: the server is not needed again. So a page is checked before it is kept: it is JSON, the
records are where they are declared to be.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from tidemill.adapters.http.ahead import begun
from tidemill.adapters.http.asking import Asker, Passing, unpacked
from tidemill.adapters.http.details import DetailCalls
from tidemill.adapters.http.who import Who
from tidemill.adapters.http.wire import Reply, Request, Wire, origin_of
from tidemill.model.batch import Bookmark
from tidemill.model.errors import DataError, DecodeError, LimitError, Refused, RunFailed, TidemillError
from tidemill.model.pipeline import SourceSpec
from tidemill.model.rest import Rest, shown_url
from tidemill.plan.asking import Greatest, fill, is_beyond, shown_moments
from tidemill.plan.jsonpath import compile_path, find
from tidemill.plan.pages import Told, Turn, Walk, records_in
from tidemill.plan.template import variables_of
from tidemill.ports.clock import Clock
from tidemill.ports.source import ExtractRequest, Piece, RawFile
from tidemill.ports.tasks import Connections

#: Codes in a GraphQL error that pass: the service is asked too much.
_THROTTLED = ("THROTTLED", "RATE_LIMITED", "RATELIMITED", "RATE_LIMIT_EXCEEDED", "TOO_MANY_REQUESTS")


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, and what it told."""

    reply: Reply
    told: Told


class RestSource:
    """A declared web service.

    Args:
        spec: the feed.
        rest: its origin.
        connections: the project's.
        secret: the value of `env:NAME`.
        clock: waits, and tells the time.
    """

    def __init__(
        self, spec: SourceSpec, rest: Rest, connections: Connections, secret: Callable[[str], str], clock: Clock
    ) -> None:
        self._spec = spec
        self._rest = rest
        self._connections = connections
        self._secret = secret
        self._clock = clock

    def extract(self, request: ExtractRequest) -> RestExtraction:
        """Fill the request for the batch; nothing is asked before the pieces are."""
        rest, where = self._rest, self._spec.place
        bookmark = request.bookmark if request.bookmark is not None else rest.initial
        variables = shown_moments(variables_of(request.batch, request.parameters))
        if rest.cursor is not None:
            variables |= {"bookmark": _none_as_empty(bookmark), "until": _none_as_empty(request.until)}
        try:
            who = Who(rest, self._connections, self._secret, self._clock.monotonic)
            filled = replace(
                rest,
                url=fill(who.url, variables, where),
                params=fill(rest.params, variables, where),
                headers=fill(rest.headers, variables, where),
                body=fill(rest.body, variables, where),
            )
            if origin_of(filled.url) != who.origin:
                raise Refused("A template changed the host.", hint="the host is fixed: secrets go to it")
        except TidemillError as error:
            error.where = error.where or where
            raise
        asker = Asker(who, Wire(self._clock.monotonic, who.ca_files), self._clock, rest.patience, where)
        return RestExtraction(self._spec, filled, asker, request)


def _none_as_empty(value: Bookmark) -> Bookmark:
    return "" if value is None else value


class RestExtraction:
    """A running extraction."""

    def __init__(self, spec: SourceSpec, rest: Rest, asker: Asker, request: ExtractRequest) -> None:
        self._spec = spec
        self._rest = rest
        self._asker = asker
        self._until = request.until
        self._records = compile_path(rest.records or "$", "records")
        self._cursor = None if rest.cursor is None else compile_path(rest.cursor, "cursor")
        self._greatest = Greatest(request.bookmark, rest.cursor or "$")

    def __enter__(self) -> RestExtraction:
        return self

    def __exit__(self, *exit_: object) -> None:
        self._asker.close()

    @property
    def bookmark_after(self) -> Bookmark:
        """The greatest value of the cursor."""
        return self._greatest.value if self._cursor is not None else None

    def __iter__(self) -> Iterator[Piece]:
        try:
            yield from self._pieces()
        except TidemillError as error:
            error.what = self._asker.who.masker.mask(error.what)
            error.args = (error.what,)
            error.where = error.where or self._spec.place
            raise

    def _pieces(self) -> Iterator[Piece]:
        rest, walk, number = self._rest, Walk(self._rest.paginate), 0
        details = None if rest.details is None else DetailCalls(rest.details, self._asker, rest)
        coming: Future[Page] | None = self._coming(walk.first(), 1)
        while coming is not None:
            number += 1
            page = coming.result()
            self._advance(page.told)
            turn = walk.next(page.told)
            coming = None if turn is None else self._coming(turn, number + 1)
            packed = "" if page.reply.headers.get("content-encoding", "identity") in ("", "identity") else ".gz"
            yield RawFile(page.told.name + packed, partial(io.BytesIO, page.reply.body))
            if details is not None:
                yield from details.of(number, page.told.records)

    def _coming(self, turn: Turn, number: int) -> Future[Page]:
        """A page that is being asked for while the one before it is archived; never more than one.

        Raises:
            LimitError: there are too many.
        """
        rest = self._rest
        if number > rest.patience.most_pages:
            raise LimitError(
                f"{rest} has more than {rest.patience.most_pages:,} pages.", hint="raise max_pages if that is right"
            )
        name = f"{rest.PAGE}{number:06d}{'.json' if rest.format == 'json' else '.' + rest.format}"
        return begun(partial(self._asker.ask, self._request(turn), name, partial(self._read, name)), name)

    def _request(self, turn: Turn) -> Request:
        """What is asked for a page."""
        rest = self._rest
        headers = {"User-Agent": "tidemill", "Accept-Encoding": "gzip", **rest.headers}
        if rest.format == "json":
            headers.setdefault("Accept", "application/json")
        body = rest.body
        if turn.carrier == "body":
            body = {**(body or {}), **turn.changes}
        elif turn.carrier == "variables":
            body = {**body, "variables": {**body["variables"], **turn.changes}}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        url = self._own(turn.url) if turn.url is not None else rest.url
        if turn.url is None:
            changes = turn.changes if turn.carrier == "query" else {}
            given = {name: value for name, value in {**rest.params, **changes}.items() if value not in ("", None)}
            url = with_query(url, given)
        return Request(rest.method, url, headers, None if body is None else json.dumps(body).encode())

    def _own(self, url: str) -> str:
        """The next page's address, which must be the service's own.

        Raises:
            Refused: it is another host's.
        """
        own, (scheme, host, port) = self._asker.who.origin, origin_of(url)
        if (scheme, host, port) == ("http", own[1], 80) and own[0] == "https":
            # A service behind a proxy often does not know that it is asked by https.
            url, (scheme, host, port) = "https" + url[4:], own
        if (scheme, host, port) != own:
            raise Refused(
                f"The next page is said to be at {shown_url(url)}, which is another host.",
                where=self._spec.place,
                hint="page by_cursor or by_page with a parameter, or declare that host's address",
            )
        return url

    def _read(self, name: str, reply: Reply) -> Page:
        """An answer as a page. Raises Passing, DataError."""
        data = unpacked(reply, self._rest.patience.largest, name)
        if reply.status == 204 and not data:
            data = b"null"  # no content is no records; so it is to the decoder
        link = reply.headers.get("link", "")
        if self._rest.format != "json":
            return Page(reply, Told(name, reply.url, link=link))
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            beginning = " ".join(data[:200].decode("utf-8", errors="replace").split())
            raise Passing(
                DecodeError(
                    f"{name} is no JSON: {_json_says(error)}; it begins with {beginning[:80]!r}",
                    where=f"{name} of {self._rest}",
                    hint="a web page: is the address right, and does it ask for a login?" if data[:1] == b"<" else None,
                )
            ) from None
        if self._rest.technology == "graphql":
            _check_graphql(document, name)
        path = self._rest.records or "$"
        try:
            records = records_in(document, self._records, where=name, path=path, optional=self._rest.optional)
        except DataError as error:
            error.where = f"{name} of {self._rest}"
            raise
        return Page(reply, Told(name, reply.url, document, records, link))

    def _advance(self, told: Told) -> None:
        """Take a page's cursors in. Raises DataError, Refused."""
        if self._cursor is None:
            return
        for position, record in enumerate(told.records, 1):
            value, where = find(record, self._cursor), f"{told.name}, record {position}"
            path = str(self._rest.cursor)
            if self._until is not None and is_beyond(value, self._until, path, where):
                raise Refused(
                    f"{told.name} goes beyond {self._until!r}, where this batch ended when it was extracted first: "
                    f"{value!r} belongs to a later one.",
                    where=self._spec.place,
                    hint='a parameter such as "until": "{{ until }}" lets the service stop there',
                )
            self._greatest.add(value, where)


def with_query(url: str, given: Mapping[str, Any]) -> str:
    """An address with further parameters; a list gives several of one name, true and false are written small."""
    if not given:
        return url
    parts = urlsplit(url)
    small = {name: str(v).lower() if isinstance(v, bool) else v for name, v in given.items()}
    query = "&".join(filter(None, (parts.query, urlencode(small, doseq=True))))
    return urlunsplit(parts._replace(query=query))


def _json_says(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ").removeprefix("Input data was ")


def _check_graphql(document: Any, name: str) -> None:
    """Errors come with code 200. Raises Passing, RunFailed."""
    errors = document.get("errors") if isinstance(document, dict) else None
    if not errors:
        return
    told = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    messages = "; ".join(str(one.get("message", one)) for one in told[:3]) or str(errors)
    failure = RunFailed(f"{name} tells of errors: {messages[:300]}", hint="the query, or what its variables say")
    codes = {str((one.get("extensions") or {}).get("code", one.get("type", ""))).upper() for one in told}
    if codes & set(_THROTTLED):
        raise Passing(failure)
    raise failure
