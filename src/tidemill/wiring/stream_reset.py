"""Resetting a project's streams, by what people write."""

from __future__ import annotations

from datetime import datetime

from tidemill.flow.stream.resetting import Reset, To, do_reset, plan_reset
from tidemill.model.errors import UserError
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.stream_past import beginning


def preview(care: StreamCare, name: str, to: str) -> Reset:
    """What a reset would do. Raises UserError: `to` is no place to begin at."""
    _, spec = care.find(name)
    topics = care.maker.topics_of(spec)
    return plan_reset(care.plan(spec), topics, care.stores, _read(to), beginning(spec, topics))


def begin_anew(care: StreamCare, name: str, reset: Reset) -> None:
    """Do it. Raises Busy: the stream runs."""
    _, spec = care.find(name)
    do_reset(reset, care.plan(spec), care.topics, care.stores)


def _read(text: str) -> To:
    match text:
        case "earliest":
            return "earliest"
        case "latest":
            return "latest"
        case _ if text.isdecimal():
            return int(text)
    return read_time(text)


def read_time(text: str) -> datetime:
    """A time; without a zone in that of this computer, as times are shown."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):  # no calendar of this computer has it
        raise UserError(f'"{text}" is no time.', hint="2026-01-15, or '2026-01-15 12:00:00'") from None
