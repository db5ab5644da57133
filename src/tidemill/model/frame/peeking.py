"""What `f.peek()` calls. A frame runs nothing itself: whoever declares topics says here who does.

The layers below must not know those above, so this is where the call goes up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tidemill.model.errors import UserError

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame


class Peek(Protocol):
    """Runs a frame over what its topics hold, in memory."""

    def __call__(self, frame: Frame, rows: int, messages: int) -> Any:
        """The last rows, as a Polars frame."""
        ...


_known: list[Peek] = []


def peek_by(peek: Peek) -> None:
    """Have frames be run by `peek`."""
    _known[:] = [peek]


def peek_at(frame: Frame, rows: int, messages: int) -> Any:
    """Run a frame. Raises UserError: it is over no topic that was declared."""
    if not _known:
        raise UserError("This frame reads no topic.", hint='f = tm.Frame.of(tm.topic("name", {...}))')
    return _known[0](frame, rows, messages)
