"""Pages of lists: a cursor names the last thing of a page, so that what comes new meanwhile moves nothing."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tidemill.web.problems import bad_request

T = TypeVar("T")


def cursor_of(last: int | str) -> str:
    """The cursor behind a thing."""
    return base64.urlsafe_b64encode(json.dumps([last]).encode()).decode().rstrip("=")


def read_cursor(text: str | None, kind: type[Any]) -> Any:
    """What a cursor names; None: the list begins. Raises Unwelcome."""
    if text is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    ok = isinstance(found, list) and len(found) == 1 and type(found[0]) is kind
    if not ok or (kind is int and not 0 <= found[0] < 2**53):
        raise bad_request("The cursor is none.", hint="`next` of the page before, as it is")
    return found[0]


def cut(found: Sequence[T], limit: int, key: Callable[[T], int | str]) -> tuple[list[T], str | None]:
    """The first `limit` of what was found, and the cursor of the next page where there is more."""
    page = list(found[:limit])
    return page, cursor_of(key(page[-1])) if len(found) > limit else None
