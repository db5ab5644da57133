"""What is measured, as values: a metric says what its numbers mean, a sample is one number of it.

facts and records -> samples (flow/metrics.py) -> `/metrics` (adapters/prometheus), OpenTelemetry (adapters/otel)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

#: Upper bounds in seconds of what a checkpoint takes: a commit in SQLite takes some 5 ms, one in Kafka some 20 to 50.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """What numbers of one name mean.

    Args:
        name: as Prometheus has it: the unit at the end, after that `_total` of a counter.
        kind: a counter only grows while its process lives; a gauge goes up and down.
        help: one sentence.
        labels: names of what tells its samples apart.
        unit: of OpenTelemetry, by UCUM: `s`, `By`, `{message}`.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    unit: str = "1"


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a value was at most as large as each bound; the last count is of those that were larger than all.

    Args:
        counts: one for each of `SECONDS`, and one for the rest; empty: nothing was measured.
        sum: of all values.
    """

    counts: tuple[int, ...] = ()
    sum: float = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def having(self, value: float) -> Histogram:
        """With one value more."""
        counts = list(self.counts or (0,) * (len(SECONDS) + 1))
        counts[bisect_left(SECONDS, value)] += 1
        return Histogram(tuple(counts), self.sum + value)

    def cumulative(self) -> Sequence[int]:
        """How many values were at most as large as each of `SECONDS`; and all."""
        return list(accumulate(self.counts or (0,) * (len(SECONDS) + 1)))


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a metric; `labels` are in the order of the metric's."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram
