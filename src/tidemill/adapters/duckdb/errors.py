"""DuckDB's errors as ours: what happened, the place in the user's SQL, and what to try."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tidemill.adapters.duckdb.statement import Where, place
from tidemill.model.errors import DataError, NeedsMemory, TidemillError, UnknownName, Unreachable, UserError

#: Errors that are no fault of the statement: they pass as they are.
_DEFECTS = ("INTERNAL", "FATAL")
_NO_COLUMN = re.compile(r'does not have a column named "(?P<name>.*?)"')
_PREFIX = re.compile(r"^[A-Za-z ]+ Error: ")


@dataclass(frozen=True, slots=True)
class Names:
    """What the query can see; `columns` is asked only when an error needs it."""

    columns: Callable[[], Iterable[str]]
    functions: Iterable[str]
    #: The data files of the query.
    files: Iterable[str]
    #: The folder where rows wait that find no room in memory; None: the engine limits how many.
    spills_to: str | None = None


def has_no_room(message: str) -> bool:
    """Whether an error says that a disk is full: as the system calls it, or as DuckDB does where it counts by itself
    what is left for rows that wait.
    """
    return any(text in message for text in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "failed to offload"))


def translated(error: Exception, sql: str, where: Where, names: Names, *, offset: int = 0) -> TidemillError | None:
    """The error to raise for `error`, which came from `sql`; None where it is a defect of the engine or of ours.

    `offset`: bytes that stood before `sql` in what DuckDB ran.
    """
    text = str(error)
    details = _details(text)
    message = str(details.get("exception_message", _PREFIX.sub("", text)))
    kind = str(details.get("exception_type", text.split(" Error: ", 1)[0]))
    if kind.upper() in _DEFECTS:
        return None
    position = int(details.get("position", -1)) - offset
    at = place(sql, position, where) if position >= 0 else None
    if names.spills_to is not None and has_no_room(message):
        return Unreachable(
            f"The disk has no room left for the rows that a query lets wait there: {_first(message)}",
            where=names.spills_to,
            hint="make room there, or name another folder: TMPDIR",
        )
    broken = next((file for file in names.files if file in message), None)
    if broken or kind == "IO":
        return DataError(f"A data file cannot be read: {_first(message)}", where=broken, hint="tidemill doctor")
    if kind == "Out of Memory":
        return NeedsMemory("The query needs more memory than it may have.", where=at, hint="raise the engine's memory")
    unknown = _unknown_name(message, details, at, names)
    if unknown:
        return unknown
    what, hint = _sentences(message)
    return UserError(what, where=at, hint=hint)


def _details(text: str) -> dict[str, Any]:
    """The JSON that DuckDB puts into the message, where it does."""
    start = text.find("{")
    if start < 0:
        return {}
    try:
        found = json.loads(text[start:])
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "exception_message" in found else {}


def _unknown_name(message: str, details: dict[str, Any], at: str | None, names: Names) -> UnknownName | None:
    subtype, name = details.get("error_subtype"), str(details.get("name", ""))
    without = _NO_COLUMN.search(message)
    if subtype == "COLUMN_NOT_FOUND" or without:
        return UnknownName.of("column", without["name"] if without else name, names.columns(), where=at)
    if subtype == "MISSING_ENTRY" and "Function" in str(details.get("type")):
        near = [n for n in str(details.get("candidates", "")).split(",") if n]
        return UnknownName.of("function", name, [*near, *names.functions], where=at)
    return None


def _first(message: str) -> str:
    return message.strip().split("\n", 1)[0]


def _sentences(message: str) -> tuple[str, str | None]:
    """DuckDB's first line as what happened, the following ones, shortened, as what to try."""
    first, *rest = [line.strip() for line in message.strip().splitlines() if line.strip()]
    rest = [line for line in rest if not line.startswith('Use "SET')]
    what = first[:1].upper() + first[1:]
    return (what if what.endswith((".", "!", "?")) else what + "."), "; ".join(rest[:3]) or None
