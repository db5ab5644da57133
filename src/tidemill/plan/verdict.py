"""What the figures of a check mean: whether it is met, and the words for a report. `check` gets the figures.

Apart from `check`, which builds queries, so that a run without checks need not load Polars (0.1 s).
"""

from __future__ import annotations

import re
from datetime import timedelta

from tidemill.model.expectation import Expectation, Figure, FigureExpectation, Measured
from tidemill.plan.anomalies import Metric

#: What a figure counts, and how much.
Figured = tuple[Metric, float]


def passed(check: Expectation, found: Measured) -> bool:
    """Whether a check is met by what was found."""
    if isinstance(check, FigureExpectation):
        if found.figure is None:
            return False
        low = check.minimum is None or found.figure >= check.minimum
        return low and (check.maximum is None or found.figure <= check.maximum)
    if check.max_failed is not None:
        return found.failed <= check.max_failed
    return found.rows == 0 or (found.rows - found.failed) / found.rows >= check.mostly


def observed(check: Expectation, found: Measured) -> str:
    """What was found, in words for a report."""
    if isinstance(check, FigureExpectation):
        if check.figure is Figure.ROWS:
            return f"{found.rows:,} rows"
        return "no value" if found.figure is None else f"{timedelta(seconds=round(found.figure))} old"
    if not found.failed:
        return f"{found.rows:,} rows"
    return f"{found.failed:,} of {found.rows:,} rows ({found.failed / found.rows:.2%})"


#: An age as `observed` writes it, and bounds of a number of rows as an expectation does.
_AGE = re.compile(r"(?:(-?\d+) days?, )?(\d+):(\d\d):(\d\d) old")
_BOUNDS = re.compile(r"(at least|at most) [\d,]+ rows|[\d,]+ to [\d,]+ rows")


def on_record(rows: int | None, failed: int | None, observed: str | None, expected: str | None) -> Figured | None:
    """The figure of a result as it is kept, in the words that people read: so those of all times can be compared.

    Args:
        rows: that were looked at.
        failed: of these.
        observed: what `observed` has said.
        expected: what the expectation says.

    Returns:
        What it counts, and the value; None: there was nothing to count.
    """
    age = _AGE.fullmatch(observed or "")
    if age is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in age.groups())
        told = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return Metric.AGE, told.total_seconds()
    if rows is None or failed is None or observed == "no value":
        return None
    if _BOUNDS.fullmatch(expected or ""):
        return Metric.ROWS, float(rows)
    return (Metric.FAILING, failed / rows) if rows else None
