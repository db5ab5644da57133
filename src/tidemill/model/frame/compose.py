"""What stands beside the verbs: frames put one after the other, and what a table function may return."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tidemill.model.agg import is_expression
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import arguments as read
from tidemill.model.frame.frame import Frame
from tidemill.model.frame.operation import Concat
from tidemill.model.frame.window import HalfSaid


def concat(*frames: Frame | Sequence[Frame]) -> Frame:
    """The rows of several frames, one after the other. Columns match by name; one that is missing is null.

    Raises:
        DefinitionError: something is no frame.
    """
    first, *others = _frames(read.flat(frames))
    return first.then(lambda at: Concat(at=at, frames=tuple(others))) if others else first


def _frames(values: Iterable[Any]) -> list[Frame]:
    """Frames as they are now: a later `f["x"] = ...` must not reach into what was recorded with them."""
    found = list(values)
    for value in found:
        if not isinstance(value, Frame):
            raise read.no_frame("concat", value)
    if not found:
        raise read.wrong("concat: there are no frames.", "f.concat(g)")
    return [Frame(f.source, f.operations) for f in found]


def as_frame(value: object, made_by: str) -> Frame:
    """What the table function `made_by` returned, if it is a frame or rows in memory.

    Raises:
        DefinitionError: it is something else, such as None or a window without `.final()`.
    """
    if isinstance(value, Frame):
        return value
    if value is None:
        raise DefinitionError(f'"{made_by}" returned nothing.', hint="end the function with: return f")
    if isinstance(value, HalfSaid):
        raise DefinitionError(f'"{made_by}" returned something unfinished.', hint=value.missing)
    if type(value).__module__.partition(".")[0] in ("polars", "pyarrow", "pandas") and not is_expression(value):
        return Frame.literal(value, made_by)
    raise DefinitionError(
        f'"{made_by}" returned {type(value).__name__}, not a frame.', hint="return what the last verb gave"
    )
