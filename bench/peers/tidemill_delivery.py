"""Tidemill: from the file to the lake, published, and from there delivered; the delivery's seconds are noted apart."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tidemill as tm
from peers import arrived
from peers.tidemill_load import linked


def load(spec: dict[str, Any], work: Path, variant: str) -> None:
    """Load the input as one batch, and deliver it; there is one variant."""
    linked(spec, work)
    address = os.environ["BENCH_ADDRESS"] or "duckdb:///arrived.db"
    os.environ["TIDEMILL_CONN_THERE"] = address
    pipeline = tm.Pipeline("bench")
    pipeline.files("feeds/*", name="loaded")
    pipeline.run("once")
    pipeline.deliver("loaded", to="there")
    began = time.perf_counter()
    reports = deliver(pipeline, work)
    (work / "delivery.json").write_text(json.dumps(time.perf_counter() - began), encoding="utf-8")
    for report in reports:
        if report.error is not None:
            raise report.error


def deliver(pipeline: Any, work: Path) -> list[Any]:
    """What `Pipeline.run` does after its publish, by itself."""
    from tidemill.wiring.delivering import deliver_all
    from tidemill.wiring.runner import services_of
    from tidemill.wiring.settings import load_settings

    settings = load_settings(work)
    return deliver_all(services_of(settings), settings, pipeline.spec().deliveries)


def opened(spec: dict[str, Any], work: Path, variant: str) -> tuple[Callable[[str], list[Any]], dict[str, str]]:
    """A query function over what arrived, and the tables' names."""
    return arrived.opened(work / "arrived.db", "bench.loaded")
