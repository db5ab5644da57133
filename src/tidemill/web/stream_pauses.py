"""Pause a stream, so that its processes let it go, and resume it: what `tidemill stream pause, resume` do."""

from __future__ import annotations

from msgspec import Struct

from tidemill.web.table import Asked
from tidemill.wiring.stream_pauses import pause as pause_stream
from tidemill.wiring.stream_pauses import state

#: What it means, for whoever is asked whether he wants it.
_WHY = {
    True: "Its processes make what they have done count, and let go. Messages wait in its topics.",
    False: "Its processes take it up again where it stands.",
}


class Paused(Struct):
    """How a stream stands; with `dry_run` as before. It is `pausing` until the last of its processes has let go."""

    stream: str
    state: str
    why: str
    dry_run: bool


def pause(asked: Asked) -> Paused:
    """Let no process work on it."""
    return _move(asked, paused=True)


def resume(asked: Asked) -> Paused:
    """Let processes work on it again."""
    return _move(asked, paused=False)


def _move(asked: Asked, *, paused: bool) -> Paused:
    dry = asked.query.dry_run
    with asked.backend.streams() as care:
        stream = care.find(asked.path["stream"])[1].full_name
        if not dry:
            pause_stream(care, stream, paused=paused)
        return Paused(stream, state(care, stream), _WHY[paused], dry)
