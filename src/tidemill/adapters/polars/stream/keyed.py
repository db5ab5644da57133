"""Python values by keys: the states of `reduce` and of keyed functions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from tidemill.ports.stream_engine import Keeper

#: What MessagePack has no type for, by a letter: how it is written, and read again.
_WRITTEN: dict[type, tuple[str, Any]] = {
    datetime: ("t", datetime.isoformat),
    date: ("d", date.isoformat),
    time: ("c", time.isoformat),
    timedelta: ("i", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("n", str),
}
_READ: dict[str, Any] = {
    "t": datetime.fromisoformat,
    "d": date.fromisoformat,
    "c": time.fromisoformat,
    "i": lambda parts: timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
    "n": Decimal,
    "z": int,
}
#: The name under which a value that MessagePack does not have is written.
_TAG = "__tm"


class Keyed:
    """Values by keys, read when they are first asked for. Changes are put into the keeper by `save`."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self._prefix = f"{name}/".encode()
        self._values: dict[tuple[Any, ...], Any] = {}
        self._changed: set[tuple[Any, ...]] = set()

    def get(self, key: tuple[Any, ...]) -> Any:
        """A key's value; None: it has none."""
        if key not in self._values:
            found = self._keeper.get([self._key(key)])[0]
            self._values[key] = None if found is None else read(found)
        return self._values[key]

    def put(self, key: tuple[Any, ...], value: Any) -> None:
        """Set a key's value; None removes it."""
        self._values[key] = value
        self._changed.add(key)

    def save(self) -> None:
        """Put what has changed into the keeper; forget what it can be asked for."""
        for key in self._changed:
            value = self._values[key]
            self._keeper.put(self._key(key), None if value is None else written(value))
        self._changed.clear()
        self._values.clear()

    def _key(self, key: tuple[Any, ...]) -> bytes:
        return self._prefix + written(list(key))


def written(value: Any) -> bytes:
    """A value of plain Python types as bytes."""
    return msgspec.msgpack.encode(_tagged(value))


def read(data: bytes) -> Any:
    """What `written` made bytes of."""
    return _untagged(msgspec.msgpack.decode(data, strict=False))


def _tagged(value: Any) -> Any:
    kind = type(value)
    if kind in (str, float, bool, bytes, type(None)):
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else {_TAG: "z", "v": str(value)}
    if isinstance(value, Mapping):
        return {name: _tagged(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(one) for one in value]
    for known, (letter, write) in _WRITTEN.items():
        if isinstance(value, known):
            return {_TAG: letter, "v": write(value)}
    raise TypeError(f"a state holds plain values, not {kind.__name__}: {value!r:.80}")


def _untagged(value: Any) -> Any:
    if isinstance(value, dict):
        if _TAG in value:
            return _READ[value[_TAG]](value["v"])
        return {name: _untagged(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_untagged(one) for one in value]
    return value
