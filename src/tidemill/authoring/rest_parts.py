"""What goes with `sources.rest(...)`: how pages follow each other, calls for details, who asks."""

from __future__ import annotations

import re
from typing import Literal

from tidemill.authoring.options import records_path
from tidemill.authoring.place import here, placed
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.rest import (
    ApiKey,
    Basic,
    Bearer,
    ByCursor,
    ByLink,
    ByNextUrl,
    ByOffset,
    ByPage,
    Carrier,
    Details,
    OAuth2,
)
from tidemill.plan.jsonpath import compile_path

# -- how pages follow each other


def by_page(param: str = "page", *, start: int = 1, total: str | None = None, carrier: Carrier = "query") -> ByPage:
    """Numbered pages: until one is empty, or as many as `total`, a JSONPath, says.

    Args:
        param: what the number is called; its size is a parameter like others.
        start: the first number.
        total: JSONPath of how many pages there are; it saves the last, empty request.
        carrier: "query", or "body" of a POST.
    """
    _check_path(total, "total")
    return ByPage(param, start, total, carrier)


def by_offset(
    param: str = "offset", *, start: int = 0, total: str | None = None, carrier: Carrier = "query"
) -> ByOffset:
    """By how many records were given: until there are no more, or as many as `total`, a JSONPath, says."""
    _check_path(total, "total")
    return ByOffset(param, start, total, carrier)


def by_cursor(path: str, *, param: str = "cursor", more: str | None = None, carrier: Carrier = "query") -> ByCursor:
    """By what a page says: until it says nothing there, or that there is no more.

    Args:
        path: JSONPath in the answer: `$.next`, or `$.data[-1].id`.
        param: what it is called in the next request.
        more: JSONPath of true while there are more pages.
        carrier: "query", or "body" of a POST.
    """
    _check_path(path, "path")
    _check_path(more, "more")
    return ByCursor(path, param, more, carrier)


def by_link(rel: str = "next") -> ByLink:
    """By the header `Link: <https://...>; rel="next"`."""
    return ByLink(rel)


def by_next_url(path: str) -> ByNextUrl:
    """By the next page's address, at a JSONPath of the answer."""
    _check_path(path, "path")
    return ByNextUrl(path)


def _check_path(path: str | None, name: str) -> None:
    if path is not None:
        placed(compile_path, path, name)


def details(url: str, *, parallel: int = 4, records: str = "$", gone: Literal["error", "skip"] = "error") -> Details:
    """A call for each record of a page; its answers are loaded, and the pages only archived.

    Args:
        url: `/orders/{id}` at the service's host, with fields of the record; without the slash it goes on from the
            list's address.
        parallel: how many calls at a time, up to 64.
        records: JSONPath of the record in an answer.
        gone: "skip" takes an answer 404 or 410 for a record that was deleted meanwhile.
    """
    place = here()
    if not re.search(r"\{[^{}]+\}", url):
        raise DefinitionError(f'details="{url}" has no field of the record.', where=place, hint='"/orders/{id}"')
    for name in re.findall(r"\{([^{}]+)\}", url):
        placed(compile_path, f"$.{name}", "details")
    if not 1 <= parallel <= 64:
        raise DefinitionError(f"parallel={parallel!r} is no number from 1 to 64.", where=place)
    if gone not in ("error", "skip"):
        raise UnknownName.of("way to take a missing record", gone, ("error", "skip"), where=place)
    placed(records_path, records)
    return Details(url, parallel, records, gone)


# -- who asks


def basic(connection: str) -> Basic:
    """A connection's login and password."""
    return Basic(connection)


def bearer(connection: str | None = None, *, token: str | None = None) -> Bearer:
    """A token: a connection's password, `https://:TOKEN@host`, or `token="env:SHOP_TOKEN"`."""
    _one_secret(connection, token, "token")
    return Bearer(connection, token)


def api_key(
    name: str,
    connection: str | None = None,
    *,
    key: str | None = None,
    where: Literal["header", "query"] = "header",
) -> ApiKey:
    """A key in the header (or the parameter of the query) `name`: a connection's password, or `key="env:SHOP_KEY"`."""
    _one_secret(connection, key, "key")
    if where not in ("header", "query"):
        raise UnknownName.of("place of a key", where, ("header", "query"), where=here())
    return ApiKey(name, connection, key, where)


def oauth2(
    connection: str,
    *,
    scope: str | None = None,
    audience: str | None = None,
    client: Literal["header", "body"] = "header",
) -> OAuth2:
    """OAuth 2 client credentials: `TIDEMILL_CONN_<NAME>=https://client:secret@host/oauth/token` gives the tokens.

    Args:
        connection: whose address is that of the tokens, and whose login and password are the client's.
        scope: what is asked for.
        audience: for whom.
        client: whether the client's credentials go into the header or into the body.
    """
    if client not in ("header", "body"):
        raise UnknownName.of("place of a client's credentials", client, ("header", "body"), where=here())
    return OAuth2(connection, scope, audience, client)


def _one_secret(connection: str | None, given: str | None, name: str) -> None:
    if (connection is None) == (given is None):
        raise DefinitionError(f"Either a connection or a {name}.", where=here(), hint='connection="shop_api"')
    if given is not None and not given.startswith("env:"):
        raise DefinitionError(
            f"A {name} in code is no secret.", where=here(), hint=f'connection="shop_api", or {name}="env:SHOP_SECRET"'
        )
