"""What templates say things with: numbers, spans, sizes, times, states. All of it comes out as safe HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

from tidemill.web.plot import bars, history
from tidemill.wiring.services import system_clock

_SIZES = ("bytes", "KB", "MB", "GB", "TB")
#: Below how many seconds a span is told in units of how many, and which these are.
_SPANS = ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h"), (math.inf, 86_400, "days"))


class Given(dict[str, Any]):
    """A mapping in which what is not there is None: filters of a page, parts of a JSON Schema."""

    def __missing__(self, _name: str) -> None:
        return None


def number(value: float | None) -> str:
    """1,234,567; a dash for nothing."""
    return "–" if value is None else f"{value:,}"


def size(value: float | None) -> str:
    """Bytes as people say them."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in _SIZES[:-1]:
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} {_SIZES[-1]}"


def span(value: timedelta | float | None) -> str:
    """A length of time as people say it."""
    if value is None:
        return "–"
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def took(begun: datetime | None, ended: datetime | None) -> str:
    """How long something took; a dash where it has not ended."""
    return "–" if begun is None or ended is None else span(ended - begun)


def moment(value: datetime | None) -> Markup:
    """A time; the reader's browser writes it in the reader's zone."""
    if value is None:
        return Markup("–")
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S} UTC")


def near(value: datetime | str | None, now: datetime | None = None) -> Markup:
    """A time, told from now: "in 2 h". The reader's browser goes on counting, by the same rule: `near` in app.js."""
    if value is None:
        return Markup("–")
    at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    told = told_from_now((at - (now or system_clock().now())).total_seconds())
    return Markup('<time datetime="{}" data-near>{}</time>').format(at.isoformat(), told)


def told_from_now(seconds: float) -> str:
    """Seconds from now as people say them: "in 5 min", "3 days ago"."""
    size = abs(seconds)
    count, unit = next((size / one, unit) for most, one, unit in _SPANS if size < most)
    return f"in {int(count)} {unit}" if seconds > 0 else f"{int(count)} {unit} ago"


def state(value: str) -> Markup:
    """A state with its mark."""
    said = "not run" if value == "none" else value.replace("_", " ")
    return Markup('<span class="state {}">{}</span>').format(value, said)


def first_line(text: str | None) -> str:
    """The first line of an error."""
    return (text or "").strip().partition("\n")[0]


def strip(states: list[str], ids: list[int], pipeline: str) -> Markup:
    """The last runs as a row of bars, each a link."""
    # 5,000 of them are on a page of 200 pipelines: put together by hand, of parts that are safe.
    address = escape(f"/pipelines/{quote(pipeline, safe='')}?run=")
    bars = []
    for one, run in zip(states, ids, strict=True):
        said = f"run {int(run)}: {escape(one)}"
        bars.append(
            f'<a class="{escape(one)}" href="{address}{int(run)}" title="{said}">'
            f'<span class="visually-hidden">{said}</span></a>'
        )
    return Markup('<span class="strip">' + "".join(bars) + "</span>")  # noqa: S704


def with_query(path: str, query: Mapping[str, Any], **changes: Any) -> str:
    """A link to the same page with other filters; None takes one away."""
    merged = {name: value for name, value in {**query, **changes}.items() if value not in (None, "", [])}
    return path + (f"?{urlencode(merged, doseq=True)}" if merged else "")


def map_pairs(items: Iterable[Any], field: str) -> list[tuple[datetime, Any]]:
    """When, and what a field has, of things that have a time."""
    return [(one.at, getattr(one, field)) for one in items]


def segment(text: str) -> str:
    """A name as one part of a path."""
    return quote(str(text), safe="")


FILTERS = {
    "number": number, "size": size, "span": span, "moment": moment, "near": near, "state": state,
    "first_line": first_line, "map_pairs": map_pairs, "segment": segment, "escape": escape,
}  # fmt: skip
FUNCTIONS = {"took": took, "strip": strip, "with_query": with_query, "history": history, "bars": bars}
