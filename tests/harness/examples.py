"""How many examples a property looks at: a few in each run of the suite, all of them in a long session."""

from __future__ import annotations

import os

ALL = os.environ.get("TIDEMILL_EXAMPLES") == "all"


def few(examples: int) -> int:
    """A sixth of them, but at least five; with `TIDEMILL_EXAMPLES=all` all."""
    return examples if ALL else max(5, examples // 6)
