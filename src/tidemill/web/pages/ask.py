"""Pages ask what programs ask: the routes of the API, in the same process, as the same principal."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from starlette.requests import Request

from tidemill.model.access import Principal
from tidemill.web.backend import Backend
from tidemill.web.routes import TABLE
from tidemill.web.table import Asked, Endpoint, admit

_ENDPOINTS = {re.sub(r":\w+}", "}", one.path): one for one in TABLE if one.method == "GET"}


class Api:
    """Asks routes of the API for one request of a page.

    Args:
        request: of the page.
        backend: the project.
        principal: who asks.
    """

    def __init__(self, request: Request, backend: Backend, principal: Principal) -> None:
        self.request = request
        self.backend = backend
        self.principal = principal

    def get(self, path: str, /, **given: Any) -> Any:
        """The answer of a route: a value of the type that it declares.

        Args:
            path: as in the table of routes: `/pipelines/{pipeline}`.
            given: parts of the path and of the query, by name. None: not given.

        Raises:
            TidemillError: what the API would answer as a problem.
        """
        endpoint = _ENDPOINTS[path]
        parts = re.findall(r"{(\w+)}", path)
        query = {name: value for name, value in given.items() if name not in parts and value is not None}
        asked = Asked(
            self.request, self.backend, self.principal, {name: given[name] for name in parts},
            msgspec.convert(query, endpoint.query, strict=False),
        )  # fmt: skip
        admit(endpoint, asked)
        return _typed(endpoint, asked)

    def every(self, path: str, items: str, /, most: int = 2000, **given: Any) -> list[Any]:
        """The items of all pages of a list, at most so many."""
        found: list[Any] = []
        cursor: str | None = None
        while len(found) < most:
            page = self.get(path, **{"limit": 500, **given, "cursor": cursor})
            found += getattr(page, items)
            cursor = page.next
            if cursor is None:
                break
        return found[:most]


def _typed(endpoint: Endpoint, asked: Asked) -> Any:
    found = endpoint.handler(asked)
    return found if endpoint.gives is dict else msgspec.convert(found, endpoint.gives, from_attributes=True)
