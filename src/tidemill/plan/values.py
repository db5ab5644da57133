"""Values that tasks hand to each other, as JSON text that knows their types: they come back as what they were.

What JSON has no word for is an object with one key, `$`, that names the type: `{"$": "date", "v": "2026-01-31"}`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from pathlib import PurePath, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tidemill.model.errors import DataError

_TYPE, _VALUE = "$", "v"
#: Deeper than that is most often a value that holds itself.
_DEEPEST = 200


def dump_value(value: Any, *, what: str = "The value") -> str:
    """A value as JSON text.

    Args:
        value: None, bool, numbers, text, bytes, dates, times, lengths of time, Decimal, UUID, paths, enumerations,
            lists, tuples, sets, dictionaries, dataclasses, named tuples.
        what: names it in messages.

    Raises:
        DataError: something in it is of another type.
    """
    return json.dumps(_encoded(value, what, 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def load_value(text: str) -> Any:
    """What `dump_value` wrote.

    Raises:
        DataError: a class of it is no longer there, or was changed.
    """
    return json.loads(text, object_hook=_decoded)


def _encoded(value: Any, what: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is str:
        return value
    if kind is float:
        return value if math.isfinite(value) else {_TYPE: "float", _VALUE: repr(value)}
    if depth > _DEEPEST:
        raise DataError(f"{what} is nested more than {_DEEPEST} deep, or holds itself.")
    if kind is list:
        return [_encoded(one, what, depth + 1) for one in value]
    if kind is dict:
        return _dictionary(value, what, depth)
    if kind in (tuple, set, frozenset):
        return {_TYPE: kind.__name__, _VALUE: [_encoded(one, what, depth + 1) for one in value]}
    for known, (name, encode) in _SIMPLE.items():
        if kind is known:
            return {_TYPE: name, _VALUE: encode(value)}
    return _instance(value, what, depth)


def _dictionary(value: dict[Any, Any], what: str, depth: int) -> Any:
    if all(type(key) is str for key in value) and _TYPE not in value:
        return {key: _encoded(one, what, depth + 1) for key, one in value.items()}
    pairs = [[_encoded(key, what, depth + 1), _encoded(one, what, depth + 1)] for key, one in value.items()]
    return {_TYPE: "dict", _VALUE: pairs}


def _instance(value: Any, what: str, depth: int) -> Any:
    """An object of a class: one that can be named and made again, or of a subclass of a plain type."""
    kind = type(value)
    if isinstance(value, Enum):
        return {_TYPE: "enum", "class": _named(kind, what), _VALUE: value.name}
    if dataclasses.is_dataclass(value):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        inside = {name: _encoded(one, what, depth + 1) for name, one in fields.items()}
        return {_TYPE: "dataclass", "class": _named(kind, what), _VALUE: list(inside.items())}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        inside_ = [_encoded(one, what, depth + 1) for one in value]
        return {_TYPE: "namedtuple", "class": _named(kind, what), _VALUE: inside_}
    if isinstance(value, datetime):  # pendulum's, pandas' Timestamp
        return _encoded(_plain_datetime(value), what, depth)
    if isinstance(value, PurePath):
        return {_TYPE: "path", _VALUE: str(value)}
    for plain in (bool, int, float, str, dict, list, bytes, timedelta, date):
        if isinstance(value, plain):
            return _encoded(_as_plain(plain, value), what, depth + 1)
    if isinstance(value, Mapping):
        return _encoded(dict(value), what, depth + 1)
    if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "shape", None) == ():  # NumPy's scalars
        return _encoded(value.item(), what, depth + 1)
    raise DataError(
        f"{what} is or holds a {kind.__module__}.{kind.__qualname__}, which cannot be handed to another task.",
        hint=_hint(value),
    )


def _as_plain(plain: Any, value: Any) -> Any:
    if plain is timedelta:
        return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    return date(value.year, value.month, value.day) if plain is date else plain(value)


def _plain_datetime(value: datetime) -> datetime:
    made = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return made.replace(tzinfo=value.tzinfo, fold=value.fold)


def _hint(value: Any) -> str:
    if any(hasattr(value, name) for name in ("to_pandas", "to_parquet", "iter_rows", "collect")):
        return 'write it to a table: context.table("name").write(frame), and read it there'
    return "numbers, texts, dates, bytes, lists, dictionaries, sets, dataclasses; or the address of what was stored"


def _named(kind: type, what: str) -> str:
    if "<locals>" in kind.__qualname__:
        raise DataError(
            f"{what} is or holds a {kind.__qualname__}, which another process cannot find.",
            hint=f"define the class {kind.__name__} at the top of a module",
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _moment(value: datetime) -> Any:
    zone = getattr(value.tzinfo, "key", None)
    return value.isoformat() if zone is None else [value.isoformat(), str(zone), value.fold]


def _read_moment(found: Any) -> datetime:
    if isinstance(found, str):
        return datetime.fromisoformat(found)
    text, zone, fold = found
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


#: Type -> its name, and what of it is written.
_SIMPLE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", _moment),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("decimal", str),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode()),
    UUID: ("uuid", str),
    complex: ("complex", lambda value: [value.real, value.imag]),
}
_READ: dict[str, Callable[[Any], Any]] = {
    "datetime": _read_moment,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda found: timedelta(*found),
    "decimal": Decimal,
    "bytes": base64.b64decode,
    "uuid": UUID,
    "complex": lambda found: complex(*found),
    "float": float,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": lambda found: {key: one for key, one in found},  # noqa: C416  # keys were lists of JSON
    "path": PurePosixPath,
}


def _decoded(found: dict[str, Any]) -> Any:
    name = found.get(_TYPE)
    if name is None:
        return found
    if name in _READ:
        return _READ[name](found[_VALUE])
    kind = _class(str(found.get("class", "")))
    try:
        if name == "enum" and issubclass(kind, Enum):
            return kind[found[_VALUE]]
        if name == "namedtuple" and issubclass(kind, tuple):
            return kind(*found[_VALUE])
        if name == "dataclass" and dataclasses.is_dataclass(kind):
            return _dataclass(kind, dict(found[_VALUE]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"A {found['class']} of another task cannot be made again: {error}.") from None
    raise DataError(f'A value of another task is of the unknown kind "{name}".')


def _dataclass(kind: type, values: dict[str, Any]) -> Any:
    """An object with these values: `__init__` is not asked, for some fields it does not take, or would change."""
    made: Any = object.__new__(kind)
    known = {one.name for one in dataclasses.fields(kind)}
    if known != values.keys():
        raise TypeError(f"its fields were {', '.join(values)} and are {', '.join(sorted(known))}")
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _class(path: str) -> type:
    module, _, name = path.partition(":")
    found: Any = None
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not isinstance(found, type):
        raise DataError(f"A value of another task is a {path}, which is no longer there.")
    return found
