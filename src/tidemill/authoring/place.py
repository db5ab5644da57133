"""Where in the user's file something was written, and what name it was assigned to."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.place import user_frame, user_place

T = TypeVar("T")


#: Where a document stands that is being read; None: code is.
_standing: ContextVar[str | None] = ContextVar("standing", default=None)


@contextmanager
def standing_at(place: str) -> Iterator[None]:
    """Let what is declared within stand at a place of a document instead of at a line of code."""
    token = _standing.set(place)
    try:
        yield
    finally:
        _standing.reset(token)


def here() -> str:
    """The place in the user's file that is being executed, as `file:line`; empty where there is none."""
    return _standing.get() or str(user_place() or "")


def placed(check: Callable[..., T], *arguments: Any) -> T:
    """Call a check of the model's; its error gets the place in the user's file."""
    try:
        return check(*arguments)
    except TidemillError as error:
        error.where = error.where or here()
        raise


def feed_name(given: str | None) -> str:
    """The name that a feed is given, or else the one that it is assigned to. Raises DefinitionError: it has none."""
    found = given or assigned_name()
    if found is None:
        raise DefinitionError(
            "This feed has no name.", where=here(), hint='assign it to a name, or pass name="departures"'
        )
    return found


def assigned_name() -> str | None:
    """The name to which the user's current call is assigned: "departures" in `departures = flights.files(...)`.

    Read from the byte code after the call, so that it works in files, notebooks and nested functions alike;
    None where the result is not stored in a plain name.
    """
    frame = user_frame()
    if frame is None:
        return None
    places = list(frame.f_code.co_positions())
    call = places[frame.f_lasti // 2]
    for instruction in dis.get_instructions(frame.f_code):
        # One call can be several instructions, all at the place of its expression.
        if instruction.offset <= frame.f_lasti or places[instruction.offset // 2] == call:
            continue
        stores = instruction.opname in ("STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF")
        return str(instruction.argval) if stores else None
    return None


def is_interactive(place: str) -> bool:
    """True for code typed in a notebook or at a prompt, where defining a name again replaces it."""
    file = place.rpartition(":")[0]
    return file.startswith("<") or "ipykernel" in file or "ipython" in file.lower()


def place_of(function: Callable[..., Any]) -> str:
    """Where a function was written, as `file:line`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else here()


def line_of(name: str, sql: str | None) -> str:
    """`:7` where line 7 of a model's text names the table in quotes."""
    for number, line in enumerate((sql or "").splitlines(), 1):
        if f'"{name}"' in line or f"'{name}'" in line:
            return f":{number}"
    return ""
