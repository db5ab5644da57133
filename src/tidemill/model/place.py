"""Where in the user's file a call was made: every recorded step and every definition error carries it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a user's file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def user_frame() -> FrameType | None:
    """The innermost frame of the call stack that is not this package's; None in an embedded interpreter."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != "tidemill" and not module.startswith("tidemill."):
            return frame
        frame = frame.f_back
    return None


def user_place() -> Place | None:
    """The user's line that is being executed."""
    frame = user_frame()
    return Place(frame.f_code.co_filename, frame.f_lineno) if frame else None
