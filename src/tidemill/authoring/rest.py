"""`sources.rest(...)` and what goes with it: how a user declares a web service as a source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from tidemill.authoring.options import records_path
from tidemill.authoring.place import here, placed
from tidemill.authoring.rest_parts import details as make_details
from tidemill.model.duration import Duration, read_duration
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.rest import (
    ApiKey,
    Auth,
    Basic,
    Bearer,
    ByCursor,
    ByLink,
    ByNextUrl,
    ByOffset,
    ByPage,
    Details,
    OAuth2,
    Pages,
    Patience,
    Rest,
    shown_url,
)
from tidemill.plan.jsonpath import compile_path

_AUTHS = (Basic, Bearer, ApiKey, OAuth2)
_PAGES = (ByPage, ByOffset, ByCursor, ByLink, ByNextUrl)
_FORMATS = ("json", "csv", "jsonl", "avro", "parquet")
_COMMON = ("auth", "connection", "headers", "rate", "retries", "patience", "timeout", "max_pages", "largest")
_RATE = re.compile(r"(\d+)/(s|m|h|d)")
_PER = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Names of headers and parameters that hold secrets, which belong into connections.
_SECRET = ("authorization", "api-key", "api_key", "apikey", "token", "secret", "password")


def rest(
    url: str,
    *,
    params: Mapping[str, Any] | None = None,
    records: str | None = None,
    optional: bool = False,
    paginate: Pages | None = None,
    auth: Auth | None = None,
    connection: str | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    details: str | Details | None = None,
    cursor: str | None = None,
    initial: str | int | float | None = None,
    format: str = "json",
    rate: str | None = None,
    retries: int = 5,
    patience: Duration = "5m",
    timeout: Duration = "60s",
    max_pages: int = 10_000,
    largest: int = 64 << 20,
) -> Rest:
    """The records of a web service. Its answers are archived as they come, and the records cut out when loading.

    Args:
        url: `https://host/path`, or a path at the connection's address; like `params`, `headers` and `body` it may
            have templates: `{{ ds }}`, `{{ data_interval_start }}`, and with a cursor `{{ bookmark }}`, `{{ until }}`.
        params: of the query. One that becomes empty is left out; a list is given several times.
        records: JSONPath of the records in an answer, `$.data[*]`; None: an array's elements, or the answer itself.
        optional: an answer without that place has no records; otherwise it is an error.
        paginate: `by_page`, `by_offset`, `by_cursor`, `by_link` or `by_next_url`; None: one answer is all.
        auth: `basic`, `bearer`, `api_key` or `oauth2`; None: the connection's login, if it has one.
        connection: `TIDEMILL_CONN_<NAME>=https://login:password@host/base?Header=value`.
        method: GET or POST.
        headers: without secrets.
        body: what is sent, as JSON.
        details: `/orders/{id}`, or `sources.details(...)`: a call for each record, whose answer is loaded.
        cursor: JSONPath within a record of a number, time or text that only grows: the source goes on from there.
        initial: where the first batch begins, with a cursor.
        format: of answers: "json", or "csv", "jsonl", "avro", "parquet".
        rate: the most requests in a time, evenly: "5/s", "600/m".
        retries: further tries of a request that failed in passing: 429, 5xx, no or half an answer.
        patience: how long one request's waits may be together; a service that asks for more fails the task.
        timeout: the time without a byte that ends a try.
        max_pages: more are an error.
        largest: bytes of one answer, unpacked.

    Raises:
        DefinitionError: two of these do not fit, or a secret stands in the code.
    """
    place = here()
    if method.upper() not in ("GET", "POST"):
        raise UnknownName.of("method", method, ("GET", "POST"), where=place)
    if format not in _FORMATS:
        raise UnknownName.of("format", format, _FORMATS, where=place)
    if format != "json":
        needs_json = {"records": records, "details": details, "cursor": cursor}
        for name, given in needs_json.items():
            if given is not None:
                raise DefinitionError(f"{name} needs answers in JSON, and these are {format}.", where=place)
        if paginate is not None and not isinstance(paginate, ByLink):
            raise DefinitionError(
                f"Pages in {format} tell of the next one in a header only.", where=place, hint="by_link"
            )
    if initial is not None and cursor is None:
        raise DefinitionError("initial is a bookmark's, and there is no cursor.", where=place, hint='cursor="$.id"')
    if cursor is not None:
        placed(compile_path, cursor, "cursor")
        texts = repr([url, params, headers, body])
        if "bookmark" not in texts:
            raise DefinitionError(
                "The request does not say where it goes on: each batch would have all records again.",
                where=place,
                hint='params={"since": "{{ bookmark }}"}',
            )
    if isinstance(details, str):
        details = make_details(details)
    if body is not None and method.upper() == "GET":
        raise DefinitionError("A GET has no body.", where=place, hint='method="POST"')
    _check_pages(paginate, method.upper(), body)
    return _made(
        url=url, params=params, records=records, optional=optional, paginate=paginate, auth=auth, connection=connection,
        method=method.upper(), headers=headers, body=body, details=details, cursor=cursor, initial=initial,
        format=format, patience=_patience(rate, retries, patience, timeout, max_pages, largest), technology="rest",
    )  # fmt: skip


def graphql(
    url: str,
    *,
    query: str,
    records: str,
    variables: Mapping[str, Any] | None = None,
    paginate: ByCursor | ByOffset | ByPage | None = None,
    cursor: str | None = None,
    initial: str | int | float | None = None,
    **options: Any,
) -> Rest:
    """The records of a GraphQL query. An answer with errors is an error, whatever its code.

    Args:
        url: of the service.
        query: the query, as it is; what changes from batch to batch belongs into variables.
        records: JSONPath of the records, `$.data.orders.nodes[*]`.
        variables: texts in them may have templates.
        paginate: `by_cursor("$.data.orders.pageInfo.endCursor", param="after",
            more="$.data.orders.pageInfo.hasNextPage")`; the parameter is a variable of the query.
        cursor: as for `rest`.
        initial: as for `rest`.
        options: `auth, connection, headers, rate, retries, patience, timeout, max_pages, largest` of `rest`.
    """
    if not query.strip():
        raise DefinitionError("There is no query.", where=here())
    if isinstance(paginate, ByLink | ByNextUrl):
        raise DefinitionError("GraphQL has no addresses of pages.", where=here(), hint="by_cursor")
    if paginate is not None:
        kept = {name: getattr(paginate, name) for name in paginate.__dataclass_fields__}
        paginate = type(paginate)(**{**kept, "carrier": "variables"})
    # The query is no template: its braces are its own.
    body = {"query": _verbatim(query), "variables": dict(variables or {})}
    if cursor is not None:
        placed(compile_path, cursor, "cursor")
    return _made(
        url=url, records=records, paginate=paginate, method="POST", body=body, cursor=cursor, initial=initial,
        technology="graphql", **_common(options),
    )  # fmt: skip


def html_table(
    url: str,
    *,
    match: str | None = None,
    number: int = 0,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> Rest:
    """A table of a web page. The page is archived as it comes, and the rows cut out when loading.

    The names of columns are those of its header; cells are texts, unless `columns={"price": "decimal(10,2)"}` of the
    source says what they are. Cells that span several rows or columns are repeated.

    Args:
        url: of the page.
        match: a text that is in the table, or its id; None: any table.
        number: which of those, from 0.
        params: of the query.
        options: `auth, connection, headers, rate, retries, patience, timeout, largest` of `rest`.
    """
    if number < 0:
        raise DefinitionError(f"number={number} is no table.", where=here(), hint="number=0 is the first")
    html = {name: value for name, value in (("match", match), ("number", number)) if value}
    return _made(url=url, params=params, format="html", html=html, technology="html", **_common(options))


def _common(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that all kinds have. Raises UnknownName."""
    for name in options:
        if name not in _COMMON:
            raise UnknownName.of("option", name, _COMMON, where=here())
    taken = {name: options[name] for name in ("auth", "connection", "headers") if name in options}
    return {**taken, "patience": _patience(**{n: v for n, v in options.items() if n not in taken})}


def _made(**given: Any) -> Rest:
    """The source, of what all kinds have. Raises DefinitionError."""
    place = here()
    url = given["url"]
    if "://" not in url and given.get("connection") is None and getattr(given.get("auth"), "connection", None) is None:
        raise DefinitionError(
            f'"{url}" is no address.', where=place, hint='"https://host/path", or a path and connection="shop_api"'
        )
    parts = urlsplit(url)
    if "://" in url and parts.scheme not in ("http", "https"):
        raise DefinitionError(f'"{shown_url(url)}" is no address of the web.', where=place, hint="https://host/path")
    if parts.username or parts.password:
        raise _in_code("the address")
    if "{" in parts.netloc:
        raise DefinitionError("The host of an address is no template.", where=place, hint="its path may have templates")
    for kind in ("params", "headers"):
        given[kind] = dict(given.get(kind) or {})
        for name, value in given[kind].items():
            if kind == "headers" and any(word in str(name).lower() for word in _SECRET) and "{" not in str(value):
                raise _in_code(f'the header "{name}"')
    if given.get("records") is not None:
        placed(records_path, given["records"])
    if given.get("auth") is not None and not isinstance(given["auth"], _AUTHS):
        raise DefinitionError(
            f"auth={given['auth']!r:.60} is none.", where=place, hint="sources.bearer(connection=...)"
        )
    if given.get("paginate") is not None and not isinstance(given["paginate"], _PAGES):
        raise DefinitionError(
            f"paginate={given['paginate']!r:.60} is no way to paginate.",
            where=place,
            hint='sources.by_cursor("$.next")',
        )
    return Rest(**given)


def _in_code(what: str) -> DefinitionError:
    return DefinitionError(
        f"A secret in {what} would stand in the code, and in logs.",
        where=here(),
        hint='connection="shop_api" and TIDEMILL_CONN_SHOP_API=https://login:password@host?Header=value',
    )


def _verbatim(text: str) -> str:
    """A text that, as a template, becomes itself."""
    return text.replace("{{", "{{ '{{' }}").replace("{%", "{{ '{%' }}").replace("{#", "{{ '{#' }}")


def _check_pages(paginate: Pages | None, method: str, body: Any) -> None:
    if isinstance(paginate, ByPage | ByOffset | ByCursor):
        if paginate.carrier == "body" and (method != "POST" or not isinstance(body, Mapping | None)):
            raise DefinitionError(
                'carrier="body" needs a POST whose body is an object.', where=here(), hint='method="POST", body={}'
            )
        if paginate.carrier == "variables":
            raise DefinitionError("Only sources.graphql has variables.", where=here(), hint='carrier="query"')


def _patience(
    rate: str | None = None,
    retries: int = 5,
    patience: Duration = "5m",
    timeout: Duration = "60s",
    max_pages: int = 10_000,
    largest: int = 64 << 20,
) -> Patience:
    place = here()
    every = timedelta(0)
    if rate is not None:
        found = _RATE.fullmatch(rate.replace(" ", ""))
        if found is None or not int(found[1]):
            raise DefinitionError(f'rate="{rate}" is no rate.', where=place, hint='"5/s" or "600/m"')
        every = timedelta(seconds=_PER[found[2]] / int(found[1]))
    for name, value, least in (("retries", retries, 0), ("max_pages", max_pages, 1), ("largest", largest, 1)):
        if value < least:
            raise DefinitionError(f"{name}={value!r} is no number from {least} on.", where=place)
    total = read_duration(patience, "patience", where=place, zero=True)
    seconds = read_duration(timeout, "timeout", where=place).total_seconds()
    return Patience(retries, total, seconds, every, max_pages, largest)
