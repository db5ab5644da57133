"""What a function of `map_with_state` remembers of a key: a small mapping of plain values, kept between its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

#: Kept as they are, by their exact type.
_PLAIN = (str, int, float, bool, bytes, type(None), date, time, timedelta, Decimal)


class State(MutableMapping[str, Any]):
    """The values of one key, in the hands of a function for one row.

    Values are text, numbers, bool, None, bytes, dates and times, Decimal, and lists and dicts of these: what a file
    can keep. What the function changes counts when it has returned; if it raises, nothing has changed.
    """

    __slots__ = ("_before", "_lent", "_now", "_set")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._before = values
        self._now = dict(values)
        #: Lists and dicts that were handed out, as copies: the function may have changed them in place.
        self._lent: set[str] = set()
        self._set: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._now[name]
        if (type(value) is list or type(value) is dict) and name not in self._lent and name not in self._set:
            value = self._now[name] = plain(value)
            self._lent.add(name)
        return value

    # Mapping's own, by raising and catching KeyError, take 1 us each.

    def __contains__(self, name: object) -> bool:
        return name in self._now

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or another one where there is none."""
        return self[name] if name in self._now else default

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a state's names are text, not {name!r}")
        self._now[name] = value
        self._set.add(name)

    def __delitem__(self, name: str) -> None:
        del self._now[name]
        self._set.add(name)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._now))

    def __len__(self) -> int:
        return len(self._now)

    def __repr__(self) -> str:
        return f"State({self._now!r})"

    def written(self) -> Mapping[str, Any] | None:
        """All values, as they are to be kept; None: the function has written nothing.

        Raises:
            TypeError: a value is not plain.
        """
        touched = self._set
        if self._lent:
            touched = touched | {name for name in self._lent - touched if self._now[name] != self._before[name]}
        if not touched:
            return None
        for name in touched:
            if name in self._now:
                self._now[name] = plain(self._now[name])
        return self._now


def plain(value: Any) -> Any:
    """A copy of a value as it is after it was kept: tuples are lists, times with a zone are in UTC.

    Raises:
        TypeError: it is of a kind that is not kept.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is datetime:
        return value if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        wrong = next((name for name in value if type(name) is not str or name.startswith("__tm")), None)
        if wrong is not None:
            raise TypeError(f"a dict in a state has text as names, not {wrong!r}")
        return {name: plain(one) for name, one in value.items()}
    raise TypeError(f"a state holds plain values (text, numbers, times, lists, dicts), not {kind.__name__}")
