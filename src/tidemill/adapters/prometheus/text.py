"""Samples in Prometheus's text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/: all samples of a metric follow its HELP and TYPE lines,
a histogram is given as cumulative buckets, a sum and a count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tidemill.model.metric import SECONDS, Histogram, Metric, Sample

#: What an answer in this format says that it is.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(metrics: Sequence[Metric], samples: Iterable[Sample]) -> str:
    """All samples as text, in the order of `metrics`; metrics without a sample are left out.

    Args:
        metrics: all that samples may be of.
        samples: in any order.
    """
    by_metric: dict[str, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric.name, []).append(sample)
    lines: list[str] = []
    for metric in metrics:
        found = by_metric.get(metric.name)
        if found:
            lines += [f"# HELP {metric.name} {_help(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [line for sample in found for line in _lines(sample)]
    return "".join(f"{line}\n" for line in lines)


def _lines(sample: Sample) -> Iterable[str]:
    name, value = sample.metric.name, sample.value
    labels = [*zip(sample.metric.labels, sample.labels, strict=True)]
    if not isinstance(value, Histogram):
        return [f"{name}{_labels(labels)} {_number(value)}"]
    bounds = [*map(_number, SECONDS), "+Inf"]
    buckets = zip(bounds, value.cumulative(), strict=True)
    return [
        *(f"{name}_bucket{_labels([*labels, ('le', bound)])} {count}" for bound, count in buckets),
        f"{name}_sum{_labels(labels)} {_number(value.sum)}",
        f"{name}_count{_labels(labels)} {value.count}",
    ]


def _labels(pairs: Sequence[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return _help(value).replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    """A float as Go reads it; whole numbers without a fraction, as counts are read by people, too."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
