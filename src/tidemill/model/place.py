"""Where in the user's file a call was made: every recorded step and every definition error carries it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from types import FrameType

from tidemill.model.errors import TidemillError
from tidemill.model.masking import hide

#: Where Python's own modules live.
_LIBRARY = str(dataclasses.__file__).removesuffix("dataclasses.py")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a user's file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def user_frame() -> FrameType | None:
    """The innermost frame of the call stack that is neither this package's nor Python's import system's.

    None in an embedded interpreter.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        ours = module == "tidemill" or module.startswith("tidemill.")
        if not ours and not frame.f_code.co_filename.startswith("<frozen importlib"):
            return frame
        frame = frame.f_back
    return None


def user_place() -> Place | None:
    """The user's line that is being executed."""
    frame = user_frame()
    return Place(frame.f_code.co_filename, frame.f_lineno) if frame else None


def told(error: BaseException) -> str:
    """An error as a record keeps it, to be read without its traceback: its kind, and the user's line that raised it.

    Secrets are hidden: drivers quote addresses with all that is in them.
    """
    if isinstance(error, TidemillError):
        return hide(str(error))
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = raised_at(error)
    return hide(f"{what}\n  at: {where}" if where else what)


def raised_at(error: BaseException) -> str | None:
    """The innermost line of a user's file that led to an error: not this package's, nor an installed one's."""
    found = None
    step = error.__traceback__
    while step is not None:
        code, module = step.tb_frame.f_code, step.tb_frame.f_globals.get("__name__", "")
        installed = code.co_filename.startswith(_LIBRARY) or "site-packages" in code.co_filename
        if module.partition(".")[0] != "tidemill" and not installed:
            found = f"{code.co_filename}:{step.tb_lineno}, in {code.co_name}"
        step = step.tb_next
    return found
