"""Answers that are still right: kept while nothing is committed, so that an idle project's pages cost next to nothing.

Only answers that are made of the database alone are kept: neither of the time, nor of files, nor of a broker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tidemill.model.access import Principal

#: Answers, and bytes of the largest that is kept.
_MOST = 256
_LARGEST = 256 << 10


class Kept:
    """For the loop's thread alone.

    Args:
        stir: says by another value that something was committed; None where that is not known.
    """

    def __init__(self, stir: Any) -> None:
        self._stir = stir
        self._version: object | None = None
        self._answers: OrderedDict[Hashable, tuple[str, bytes]] = OrderedDict()

    def version(self) -> object | None:
        """That of the database; answers of an older one are forgotten."""
        found: object | None = self._stir.version()
        if found != self._version:
            self._answers.clear()
            self._version = found
        return found

    def find(self, key: Hashable) -> tuple[str, bytes] | None:
        """Tag and content of an answer; ask for the version first."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def keep(self, key: Hashable, version: object | None, response: Response) -> None:
        """Keep an answer that was begun when the database had that version."""
        tag, content = response.headers.get("etag"), bytes(response.body)
        if version is None or version != self._version or tag is None or not content or len(content) > _LARGEST:
            return
        self._answers[key] = (tag, content)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)

    def close(self) -> None:
        """Let go of the database."""
        self._stir.close()


def key_of(request: Request, who: Principal) -> Hashable:
    """What an answer depends on beside the database."""
    rights = (who.name, who.role, tuple(sorted(who.pipelines.items())))
    return request.url.path, request.url.query, rights
