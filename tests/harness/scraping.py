"""Asks for `/metrics` as Prometheus does, and reads the answer with Prometheus's own parser."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

#: Samples by name and labels.
Scraped = dict[str, dict[frozenset[tuple[str, str]], float]]


def parsed(text: str) -> Scraped:
    """The samples of a page; one that is there twice fails."""
    found: Scraped = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            by_labels = found.setdefault(sample.name, {})
            key = frozenset(sample.labels.items())
            assert key not in by_labels, f"{sample.name}{dict(sample.labels)} is there twice"
            by_labels[key] = sample.value
    return found


def kinds(text: str) -> dict[str, str]:
    """The type of each metric, by the name in its TYPE line."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def value(scraped: Scraped, name: str, **labels: Any) -> float | None:
    """The only sample of that name with (at least) these labels; None: there is none."""
    wanted = {(key, str(one)) for key, one in labels.items()}
    found = [one for key, one in scraped.get(name, {}).items() if wanted <= key]
    assert len(found) < 2, f"{name} {labels}: {len(found)} samples"
    return found[0] if found else None


def scrape(address: str, headers: Mapping[str, str] | None = None) -> str:
    """The page."""
    request = urllib.request.Request(address, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return str(answer.read().decode())


def address_in(said: str) -> str | None:
    """Where a process says that it serves metrics."""
    found = re.search(r"metrics at (http://\S+)", said)
    return found[1] if found else None
