"""What the smaller benches share: a verdict on a median, and the file that a bench leaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def verdict(median: float, most: float | None) -> str:
    """`within 50`, `OVER 50`, or nothing where there is no limit."""
    if most is None:
        return ""
    return f"within {most:.0f}" if median <= most else f"OVER {most:.0f}"


def keep(bench: str, machine: dict[str, Any], figures: Any) -> None:
    """Write `results/<bench>-<time>.json`."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    content = {
        "bench": bench,
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "figures": figures,
    }
    (RESULTS / f"{bench}-{now:%Y%m%dT%H%M%SZ}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
