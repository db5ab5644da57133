"""The history of a check as a small picture: a bar for each result, made on the server, without script or style."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

#: Bars are so wide and the picture is so high, in pixels; one that passed is so high.
_WIDE, _HIGH, _LEAST = 7, 34, 4
#: Pixels of the highest of `bars`.
_TALL = 72


def history(results: Sequence[Any]) -> Markup:
    """Results of a check, as records or as the API gives them, newest first: bars, the oldest left.

    The higher a bar, the greater the share of rows that failed.
    """
    if not results:
        return Markup('<span class="note">never run</span>')
    oldest = list(reversed(results))
    worst = max((_share(one) for one in oldest), default=0.0) or 1.0
    bars = []
    for place, one in enumerate(oldest):
        tall = max(_LEAST, round(_HIGH * _share(one) / worst)) if not one.passed else _LEAST
        title = f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {'passed' if one.passed else 'failed'}"
        title += f", {one.observed}" if one.observed else ""
        bars.append(
            Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                "passed" if one.passed else "failed", place * _WIDE, _HIGH - tall, _WIDE - 2, tall, title
            )
        )
    met = sum(one.passed for one in oldest)
    return Markup(
        '<svg class="history" role="img" aria-label="{} of the last {} results passed" width="{}" height="{}">{}</svg>'
    ).format(met, len(oldest), len(oldest) * _WIDE, _HIGH, Markup("").join(bars))


def _share(one: Any) -> float:
    """Of rows that failed; a result that is about no rows counts whole."""
    if one.passed:
        return 0.0
    return one.failed / one.rows if one.failed and one.rows else 1.0


def bars(values: Sequence[tuple[datetime, float | None]], label: str, unit: str, form: str) -> Markup:
    """Numbers over time as bars, each with its time and number as its title.

    Args:
        values: oldest first; None is not known, and leaves a gap.
        label: what the picture shows, for whom does not see it.
        unit: of a number.
        form: how a time is written, as `strftime` has it; it is UTC.
    """
    wide = 12  # of a picture that is as wide as its place
    most = max((value for _, value in values if value is not None), default=0) or 1
    made = []
    for place, (at, value) in enumerate(values):
        if value is None:
            continue
        tall = max(1, round(_TALL * value / most))
        made.append(
            Markup('<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                place * wide, _TALL - tall, wide - 2, tall, f"{at.astimezone(UTC):{form}} UTC: {value:,} {unit}"
            )
        )
    picture = Markup(
        '<svg class="bars" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>'
    )
    return picture.format(label, len(values) * wide, _TALL, Markup("").join(made))
