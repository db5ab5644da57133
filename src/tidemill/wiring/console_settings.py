"""Section `[console]` of a project's settings: what a query of somebody's own SQL may take, in pages and in the API.

[console]
rows = 1000               rows of a result that are shown; a download has all
seconds = 30              a query may take; then it is stopped
download_seconds = 600    a download may take
memory = "1GB"            of one query; what it needs beyond that, it keeps on disk
disk = "10GB"             for that
at_once = 4               queries at the same time
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tidemill.model.errors import SettingsError

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(MB|GB|TB)", re.IGNORECASE)
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
#: DuckDB does nothing useful with less.
_LEAST = 64 * 10**6
#: Key -> the most that can be asked for.
_MOST = {"rows": 100_000, "seconds": 86_400, "download_seconds": 86_400, "at_once": 100}


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """What a query may take; see the module's text. `memory` and `disk` are bytes."""

    rows: int = 1000
    seconds: int = 30
    download_seconds: int = 600
    memory: int = 10**9
    disk: int = 10**10
    at_once: int = 4


CONSOLE_KEYS = tuple(one.name for one in fields(ConsoleSettings))


def read_console_settings(data: Mapping[str, Any], where: str) -> ConsoleSettings:
    """The section. Raises SettingsError."""
    given = data.get("console", {})
    made = {name: _number(name, value, where) for name, value in given.items() if name in _MOST}
    made |= {name: _bytes(name, value, where) for name, value in given.items() if name in ("memory", "disk")}
    return ConsoleSettings(**made)


def said_size(value: int) -> str:
    """Bytes as the settings say them."""
    return f"{value / 10**9:g}GB" if value >= 10**9 else f"{value / 10**6:g}MB"


def _number(name: str, value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST[name]:
        raise SettingsError(
            f"console.{name} = {value!r} is no number from 1 to {_MOST[name]}.",
            where=where,
            hint=f"{name} = {getattr(ConsoleSettings(), name)}",
        )
    return value


def _bytes(name: str, value: Any, where: str) -> int:
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < _LEAST:
        hint = f'{name} = "{said_size(getattr(ConsoleSettings(), name))}"; at least {said_size(_LEAST)}'
        raise SettingsError(f"console.{name} = {value!r} is no size.", where=where, hint=hint)
    return size
