"""From page to page of a web service: what to ask next, by what the last page told. Pure; the adapter asks.

A service that gives the same page for ever would fill the archive: a cursor or an address that comes twice, and a
numbered page with the records of the one before, are errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from tidemill.model.errors import DataError
from tidemill.model.rest import ByCursor, ByLink, ByNextUrl, ByOffset, ByPage, Carrier, Pages
from tidemill.plan.jsonpath import Each, Step, compile_path, find

#: Names of members that a message shows.
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """What the next request has beside what all have.

    Args:
        changes: parameters; they go where `carrier` says.
        url: the whole address, which stands for all parameters; None: the declared one.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    carrier: Carrier = "query"
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a page told.

    Args:
        name: how messages call it.
        url: from where it came.
        document: it, decoded; None where it is no JSON.
        records: its records.
        link: the header `Link`.
    """

    name: str
    url: str
    document: Any = None
    records: Sequence[Any] = ()
    link: str = ""


def records_in(document: Any, steps: Sequence[Step], *, where: str, path: str, optional: bool = False) -> list[Any]:
    """The records of a decoded document, as the decoder of archived pages finds them.

    Raises:
        DataError: there is no such place, and it is not optional.
    """
    found: list[Any] = []
    as_it_is = bool(steps) and isinstance(steps[-1], Each)
    if not _gather(document, steps, found, as_it_is) and not optional:
        names = list(document)[:_SHOWN] if isinstance(document, dict) else []
        there = f"there is: {', '.join(names)}; " if names else ""
        raise DataError(f"{where} has nothing at {path}.", hint=f"{there}optional=True, where it may be missing")
    return found


def _gather(value: Any, steps: Sequence[Step], found: list[Any], as_it_is: bool) -> bool:
    """Add the records of a value; whether there is such a place in it."""
    if value is None:
        return True
    if not steps:
        found += value if isinstance(value, list) and not as_it_is else [value]
        return True
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        return isinstance(value, dict) and step in value and _gather(value[step], rest, found, as_it_is)
    if not isinstance(value, list):
        return False
    if isinstance(step, Each):
        if not rest:
            found += value
            return True
        places = [_gather(one, rest, found, as_it_is) for one in value]
        return not places or any(places)
    return step < len(value) and _gather(value[step], rest, found, as_it_is)


class Walk:
    """A way through the pages, as declared."""

    def __init__(self, pages: Pages | None) -> None:
        self._pages = pages
        self._number = pages.start if isinstance(pages, ByPage | ByOffset) else 0
        self._seen: set[str] = set()
        self._before: Sequence[Any] = ()
        paths = {name: getattr(pages, name, None) for name in ("path", "total", "more")}
        self._paths = {name: compile_path(path, name) for name, path in paths.items() if path is not None}

    def first(self) -> Turn:
        """What the first request has."""
        return self._numbered() if isinstance(self._pages, ByPage | ByOffset) else Turn()

    def next(self, told: Told) -> Turn | None:
        """What the request after a page has; None: it was the last.

        Raises:
            DataError: it goes round in circles, or the page tells something that asks for no page.
        """
        pages = self._pages
        if isinstance(pages, ByPage | ByOffset):
            return self._after_numbered(pages, told)
        if isinstance(pages, ByCursor):
            return self._after_cursor(pages, told)
        if isinstance(pages, ByLink):
            return self._to(linked(told.link, pages.rel), told, f'the link "{pages.rel}"')
        if isinstance(pages, ByNextUrl):
            url = find(told.document, self._paths["path"])
            if url is not None and not isinstance(url, str):
                raise DataError(f"{told.name} has no address at {pages.path}, but {url!r:.60}.")
            return self._to(url or None, told, f"the address at {pages.path}")
        return None

    def _numbered(self) -> Turn:
        assert isinstance(self._pages, ByPage | ByOffset)
        return Turn({self._pages.param: self._number}, self._pages.carrier)

    def _after_numbered(self, pages: ByPage | ByOffset, told: Told) -> Turn | None:
        if not told.records:
            return None
        step = 1 if isinstance(pages, ByPage) else len(told.records)
        self._number += step
        if "total" in self._paths:
            total = find(told.document, self._paths["total"])
            if isinstance(total, str) and total.isdigit():
                total = int(total)
            if not isinstance(total, int) or isinstance(total, bool):
                raise DataError(f"{told.name} has no number at {pages.total}, but {total!r:.60}.")
            if self._number - pages.start >= total:
                return None
        elif told.records == self._before:
            raise DataError(
                f"{told.name} has the records of the page before it: the service goes round in circles.",
                hint=f'does it know the parameter "{pages.param}"?',
            )
        self._before = told.records
        return self._numbered()

    def _after_cursor(self, pages: ByCursor, told: Told) -> Turn | None:
        if "more" in self._paths and not find(told.document, self._paths["more"]):
            return None
        value = find(told.document, self._paths["path"])
        if value is None or value is False or value == "":
            return None
        if isinstance(value, dict | list | bool):
            raise DataError(f"{told.name} has no cursor at {pages.path}, but {value!r:.60}.")
        if str(value) in self._seen and not told.records:
            return None  # a feed of changes keeps the cursor where nothing has changed
        self._remember(str(value), told, f"the cursor at {pages.path}")
        return Turn({pages.param: value}, pages.carrier)

    def _to(self, url: str | None, told: Told, what: str) -> Turn | None:
        if not url:
            return None
        address = urljoin(told.url, url)
        if not self._seen:
            self._seen.add(told.url)
        self._remember(address, told, what)
        return Turn(url=address)

    def _remember(self, value: str, told: Told, what: str) -> None:
        if value in self._seen:
            raise DataError(f"{told.name} repeats {what}: the service goes round in circles.")
        self._seen.add(value)


_LINK = re.compile(r"""<([^>]*)>((?:\s*;\s*[^\s=;,]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)""")
_REL = re.compile(r"""(?i);\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""")


def linked(header: str, rel: str) -> str | None:
    """The address of a relation in the header `Link`; None where there is none."""
    for found in _LINK.finditer(header):
        relation = _REL.search(found[2])
        if relation is not None and rel.lower() in (relation[1] or relation[2] or "").lower().split():
            return found[1]
    return None
