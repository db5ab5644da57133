"""Pausing a project's streams, by the names that people use: what processes of the installation look at."""

from __future__ import annotations

from tidemill.wiring.stream_care import StreamCare, state_of

#: In these states some process has the stream in its hands.
AT_WORK = ("running", "recovering", "pausing")


def pause(care: StreamCare, name: str, *, paused: bool) -> str:
    """Let nobody work on a stream, or let them again; gives its full name.

    Processes look every second, make what they have done count, and let go.

    Raises:
        UnknownName: there is no such stream.
    """
    stream = care.find(name)[1].full_name
    with care.metadata.write() as tx:
        if paused:
            tx.streams.pause(stream, care.clock.now())
        else:
            tx.streams.resume(stream)
    return stream


def state(care: StreamCare, name: str) -> str:
    """How a stream stands: `paused` when the last of its processes has let go. Raises UnknownName."""
    stream = care.find(name)[1].full_name
    return state_of(care.told(stream), care.clock.now(), paused=stream in care.paused())
