"""Orders of tasks that only Airflow has a word for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tidemill.authoring.edges import several


def chain_linear(*steps: Any) -> None:
    """Let all tasks of each step run after all of the one before it."""
    lists = [several(step) for step in steps]
    for above, below in pairwise(lists):
        for one in above:
            one.set_downstream(below)
