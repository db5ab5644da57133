"""Web services as sources, as declared: what is asked, who asks, how pages follow each other, what is done on failure.

`adapters/http/source.py` extracts by these; `plan/pages.py` goes from page to page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceKind

#: Where a request carries what changes from page to page.
Carrier = Literal["query", "body", "variables"]


@dataclass(frozen=True, slots=True)
class Basic:
    """Basic authentication by a connection's login and password."""

    connection: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token in the header `Authorization`: a connection's password, or `env:NAME`."""

    connection: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in a header or in the query: a connection's password, or `env:NAME`."""

    name: str
    connection: str | None = None
    key: str | None = None
    where: Literal["header", "query"] = "header"


@dataclass(frozen=True, slots=True)
class OAuth2:
    """OAuth 2 client credentials: a connection's login and password buy a token at its address.

    Args:
        connection: whose address is that of the tokens.
        scope, audience: what is asked for.
        client: whether login and password go into the header (basic authentication) or into the body.
    """

    connection: str
    scope: str | None = None
    audience: str | None = None
    client: Literal["header", "body"] = "header"


Auth: TypeAlias = Basic | Bearer | ApiKey | OAuth2


@dataclass(frozen=True, slots=True)
class ByPage:
    """Numbered pages, until one has no records, or their number is reached.

    Args:
        param: what the number is called.
        start: the first page's number.
        total: JSONPath of how many pages there are.
        carrier: where the number goes.
    """

    param: str = "page"
    start: int = 1
    total: str | None = None
    carrier: Carrier = "query"


@dataclass(frozen=True, slots=True)
class ByOffset:
    """The number of records that were given already, until there are no more, or their number is reached."""

    param: str = "offset"
    start: int = 0
    total: str | None = None
    carrier: Carrier = "query"


@dataclass(frozen=True, slots=True)
class ByCursor:
    """A value of one page that asks for the next.

    Args:
        path: JSONPath of it; where there is none, or it is null, empty or false, the page was the last.
        param: what it is called in the next request.
        more: JSONPath of whether there are more pages.
        carrier: where it goes.
    """

    path: str
    param: str = "cursor"
    more: str | None = None
    carrier: Carrier = "query"


@dataclass(frozen=True, slots=True)
class ByLink:
    """The header `Link` (RFC 8288) has the next page's address."""

    rel: str = "next"


@dataclass(frozen=True, slots=True)
class ByNextUrl:
    """The next page's address stands in the page, at a JSONPath."""

    path: str


Pages: TypeAlias = ByPage | ByOffset | ByCursor | ByLink | ByNextUrl


@dataclass(frozen=True, slots=True)
class Details:
    """A call for each record of a page; its answer is loaded in the record's place.

    Args:
        url: where, with fields of the record: `/orders/{id}`.
        parallel: how many calls at a time.
        records: JSONPath of the record in an answer.
        gone: what an answer 404 or 410 means: an error, or that there is no such record any more.
    """

    url: str
    parallel: int = 4
    records: str = "$"
    gone: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Patience:
    """What is done when a service does not answer as it should.

    Args:
        retries: further tries of a request after its first.
        total: the waits of one request together are no longer.
        timeout: seconds without a byte that end a try.
        every: the time from one request to the next at the least; none: as fast as it goes.
        most_pages: more is an error.
        largest: bytes of one answer, unpacked; more is an error.
    """

    retries: int = 5
    total: timedelta = timedelta(minutes=5)
    timeout: float = 60.0
    every: timedelta = timedelta(0)
    most_pages: int = 10_000
    largest: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Rest(Connector):
    """A web service's answers.

    Args:
        url: the address, or a path at the connection's; a template.
        method: GET or POST.
        params, headers: of each request; templates. A parameter that becomes empty is left out.
        body: what is sent as JSON; texts in it are templates.
        records: JSONPath of the records in an answer; None: the elements of an array, or the answer itself.
        optional: an answer without that place has no records; otherwise it is an error.
        paginate: how pages follow each other; None: there is one.
        connection: whose address, login and headers are used.
        auth: who asks.
        details: a call for each record.
        cursor: JSONPath within a record of what only grows; its greatest value is where the next batch goes on.
        initial: the bookmark of the first batch.
        format: what answers are: "json", or what the decoder reads.
        html: which table of a web page, see `DecodeOptions.html`.
        patience: what is done on failure.
        technology: what lists call it.
    """

    url: str
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    records: str | None = None
    optional: bool = False
    paginate: Pages | None = None
    connection: str | None = None
    auth: Auth | None = None
    details: Details | None = None
    cursor: str | None = None
    initial: str | int | float | None = None
    format: str = "json"
    html: Mapping[str, Any] = field(default_factory=dict)
    patience: Patience = Patience()
    technology: str = "rest"

    #: Before the names of archived parts.
    PAGE: ClassVar[str] = "page-"
    DETAILS: ClassVar[str] = "details-"

    @property
    def kind(self) -> SourceKind:
        """By bookmark where there is a cursor."""
        return SourceKind.INTERVAL if self.cursor is None else SourceKind.BOOKMARK

    @property
    def keeps_files(self) -> bool:
        """Answers are kept as they came."""
        return True

    @property
    def decode(self) -> Mapping[str, Any]:
        """Where the records are in what is kept."""
        if self.format != "json":
            return {"format": self.format, **({"html": dict(self.html)} if self.html else {})}
        if self.details is not None:
            return {"format": "jsonl", "records": self.details.records, "parts": f"{self.DETAILS}*"}
        optional = {"records_optional": True} if self.optional else {}
        return {"format": "jsonl", "records": self.records or "$", **optional}

    def __str__(self) -> str:
        return f"{self.technology} {shown_url(self.url)}"


def shown_url(url: str) -> str:
    """An address for messages: without login and query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else parts.path
