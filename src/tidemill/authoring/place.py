"""Where in the user's file something was written, and what name it was assigned to."""

from __future__ import annotations

import dis
import sys
from pathlib import Path
from types import FrameType

_OWN = str(Path(__file__).resolve().parent.parent)


def user_frame() -> FrameType | None:
    """The innermost frame of the call stack that is not Tidemill's own code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    return frame


def here() -> str:
    """The place in the user's file that is being executed, as `file:line`."""
    frame = user_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def assigned_name() -> str | None:
    """The name to which the user's current call is assigned: "departures" in `departures = flights.files(...)`.

    Read from the byte code after the call, so that it works in files, notebooks and nested functions alike;
    None where the result is not stored in a plain name.
    """
    frame = user_frame()
    if frame is None:
        return None
    for instruction in dis.get_instructions(frame.f_code):
        # `f_lasti` is at the call, or on some versions at the step before it.
        if instruction.offset <= frame.f_lasti or instruction.opname in ("CACHE", "PRECALL", "CALL", "CALL_KW"):
            continue
        stores = instruction.opname in ("STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF")
        return str(instruction.argval) if stores else None
    return None


def is_interactive(place: str) -> bool:
    """True for code typed in a notebook or at a prompt, where defining a name again replaces it."""
    file = place.rpartition(":")[0]
    return file.startswith("<") or "ipykernel" in file or "ipython" in file.lower()
