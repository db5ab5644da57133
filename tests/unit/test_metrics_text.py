"""Samples become Prometheus's text format, exactly: its own parser reads back what went in."""

from __future__ import annotations

import math
import socket
import threading
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scraping import kinds, parsed, scrape
from tidemill.adapters.prometheus.server import MetricsServer
from tidemill.adapters.prometheus.text import exposition
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.model.metric import SECONDS, Histogram, Metric, Sample

COUNTER = Metric("tm_things_total", "counter", "Things.", ("who", "what"))
GAUGE = Metric("tm_size_bytes", "gauge", "A \\ and\na line.", ("who",))
PLAIN = Metric("tm_age_seconds", "gauge", "Age.", ())
TOOK = Metric("tm_took_seconds", "histogram", "Took.", ("who",))
ALL = (COUNTER, GAUGE, PLAIN, TOOK)

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def test_a_page_is_as_the_format_has_it() -> None:
    took = Histogram().having(0.005).having(0.3).having(60)
    samples = [Sample(TOOK, ("a",), took), Sample(COUNTER, ("a", 'quoted "x"\n'), 3), Sample(PLAIN, (), 0.5)]
    page = exposition(ALL, samples)
    assert page.splitlines()[:6] == [
        "# HELP tm_things_total Things.",
        "# TYPE tm_things_total counter",
        'tm_things_total{who="a",what="quoted \\"x\\"\\n"} 3',
        "# HELP tm_age_seconds Age.",
        "# TYPE tm_age_seconds gauge",
        "tm_age_seconds 0.5",
    ]
    assert 'tm_took_seconds_bucket{who="a",le="0.005"} 1\n' in page
    assert 'tm_took_seconds_bucket{who="a",le="0.5"} 2\n' in page
    assert 'tm_took_seconds_bucket{who="a",le="+Inf"} 3\ntm_took_seconds_sum{who="a"} 60.305\n' in page
    assert page.endswith('tm_took_seconds_count{who="a"} 3\n')
    assert "tm_size_bytes" not in page, "a metric without samples has no lines"


@given(st.dictionaries(st.tuples(TEXTS, TEXTS), NUMBERS), st.dictionaries(TEXTS, NUMBERS), st.lists(NUMBERS))
def test_prometheus_reads_what_was_written(
    things: dict[tuple[str, str], float], sizes: dict[str, float], took: list[float]
) -> None:
    histogram = Histogram()
    for one in took:
        histogram = histogram.having(one)
    samples = [Sample(COUNTER, key, value) for key, value in things.items()]
    samples += [Sample(GAUGE, (key,), value) for key, value in sizes.items()]
    samples.append(Sample(TOOK, ("w",), histogram))
    page = exposition(ALL, samples)
    found = parsed(page)
    assert found.get("tm_things_total", {}) == {
        frozenset({("who", a), ("what", b)}): value for (a, b), value in things.items()
    }
    assert found.get("tm_size_bytes", {}) == {frozenset({("who", a)}): value for a, value in sizes.items()}
    for bound in SECONDS:
        key = frozenset({("who", "w"), ("le", f"{bound:g}")})
        assert found["tm_took_seconds_bucket"][key] == sum(one <= bound for one in took)
    assert found["tm_took_seconds_count"] == {frozenset({("who", "w")}): len(took)}
    assert set(kinds(page)) <= {metric.name for metric in ALL}


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    made = Histogram()
    for one in values:
        made = made.having(one)
    assert made.count == len(values) == made.cumulative()[-1]
    assert math.isclose(made.sum, sum(values))


# The server


def serving(text: object = "tm_age_seconds 1\n", token: str = "") -> MetricsServer:
    return MetricsServer("127.0.0.1", 0, text if callable(text) else lambda: str(text), token)


def code(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_metrics_are_at_metrics_and_nothing_else_is() -> None:
    server = serving()
    assert scrape(server.address) == "tm_age_seconds 1\n"
    assert scrape(f"{server.address}?name[]=x") == "tm_age_seconds 1\n"
    assert code(server.address.replace("/metrics", "/etc/passwd")) == 404
    server.close()


def test_with_a_token_nobody_else_may_ask() -> None:
    server = serving(token="open sesame")
    assert code(server.address) == 401
    assert code(server.address, Authorization="Bearer open") == 401
    assert code(server.address, Authorization="Bearer open sesame") == 200
    server.close()


def test_what_cannot_be_told_is_an_answer_too() -> None:
    def broken() -> str:
        raise Unreachable("The database does not answer.")

    server = serving(broken)
    assert code(server.address) == 503
    server.close()


def test_an_address_that_is_taken_is_told() -> None:
    server = serving()
    port = int(server.address.rpartition(":")[2].removesuffix("/metrics"))
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
        MetricsServer("127.0.0.1", port, str)
    server.close()


def test_a_server_that_is_closed_frees_its_address_and_its_thread() -> None:
    before = set(threading.enumerate())
    server = serving()
    port = int(server.address.rpartition(":")[2].removesuffix("/metrics"))
    scrape(server.address)
    server.close()
    again = MetricsServer("127.0.0.1", port, str)
    again.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)  # whoever was answered last may still be closing
        assert not thread.is_alive()


def test_somebody_who_connects_and_says_nothing_is_in_nobodys_way() -> None:
    server = serving()
    port = int(server.address.rpartition(":")[2].removesuffix("/metrics"))
    with socket.create_connection(("127.0.0.1", port)):
        assert scrape(server.address) == "tm_age_seconds 1\n"
    server.close()
