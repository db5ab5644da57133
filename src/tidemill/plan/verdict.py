"""What the figures of a check mean: whether it is met, and the words for a report. `check` gets the figures.

Apart from `check`, which builds queries, so that a run without checks need not load Polars (0.1 s).
"""

from __future__ import annotations

from datetime import timedelta

from tidemill.model.expectation import Expectation, Figure, FigureExpectation, Measured


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
