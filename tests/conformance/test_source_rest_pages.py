"""Web services against real local servers: pages, details, bookmarks, GraphQL, and mistakes in declarations."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from harness.api import Api, Call, Said, paged, serving
from harness.extracting import WaitingClock, extract
from tidemill import sources
from tidemill.model.errors import (
    DataError,
    DefinitionError,
    LimitError,
    Refused,
    RunFailed,
    UnknownName,
)

ONE = [{"id": 1}]


def one(_: Call) -> Said:
    return Said(ONE)


# -- pages


def test_pages_that_repeat_are_an_error() -> None:
    ways = {
        "next": (sources.by_cursor("$.next"), {"data": ONE, "next": "same"}),
        "url": (sources.by_next_url("$.next"), {"data": ONE, "next": "/x"}),
        "page": (sources.by_page(), {"data": ONE}),
        "offset": (sources.by_offset(), {"data": ONE}),
    }
    for way, (paginate, said) in ways.items():
        with serving(Api(lambda _, said=said: Said(said))) as api:  # type: ignore[misc]
            with pytest.raises(DataError, match="goes round in circles"):
                extract(sources.rest(f"{api.url}/x", records="$.data", paginate=paginate))
        assert len(api.calls) <= 3, way


def test_pages_are_bounded() -> None:
    count = iter(range(1000))
    with serving(Api(lambda _: Said({"data": ONE, "next": next(count)}))) as api:
        with pytest.raises(LimitError, match="has more than 5 pages"):
            extract(sources.rest(f"{api.url}/x", records="$.data", paginate=sources.by_cursor("$.next"), max_pages=5))
    assert len(api.calls) == 5


def test_totals_and_flags_spare_the_last_request() -> None:
    records = [{"id": n} for n in range(4)]
    with serving(Api(paged(records, 2, "offset"))) as api:
        made = extract(sources.rest(f"{api.url}/x", records="$.data", paginate=sources.by_offset(total="$.total")))
        assert made.rows == records
    assert len(api.calls) == 2
    with serving(Api(lambda call: Said({"data": [{"id": len(api.calls)}], "more": len(api.calls) < 3}))) as api:
        paginate = sources.by_cursor("$.data[-1].id", param="starting_after", more="$.more")
        made = extract(sources.rest(f"{api.url}/x", records="$.data", paginate=paginate))
    assert [call.one("starting_after") for call in api.calls] == ["", "1", "2"]
    assert [row["id"] for row in made.rows] == [1, 2, 3]


def test_a_post_carries_its_page_in_the_body() -> None:
    def answer(call: Call) -> Said:
        given = call.json()
        assert given["filter"] == {"day": "2026-01-01"}
        return Said({"data": [{"id": given["page"]}] if given["page"] < 3 else []})

    with serving(Api(answer)) as api:
        rest = sources.rest(
            f"{api.url}/search", method="POST", body={"filter": {"day": "{{ ds }}"}}, records="$.data",
            paginate=sources.by_page(carrier="body"),
        )  # fmt: skip
        assert [row["id"] for row in extract(rest).rows] == [1, 2]


def test_templates_fill_parameters_and_what_is_empty_is_left_out() -> None:
    with serving(Api(one)) as api:
        params = {
            "from": "{{ data_interval_start }}",
            "to": "{{ data_interval_end }}",
            "shop": "{{ params.shop }}",
            "state": ["open", "paid"],
            "all": True,
            "none": "",
        }
        extract(sources.rest(f"{api.url}/{{{{ ds }}}}/orders", params=params), params={"shop": "a&b c"})
    call = api.calls[0]
    assert call.path == "/2026-01-01/orders"
    assert call.query == {
        "from": ["2026-01-01T00:00:00+00:00"],
        "to": ["2026-01-02T00:00:00+00:00"],
        "shop": ["a&b c"],
        "state": ["open", "paid"],
        "all": ["true"],
    }


def test_a_rate_spaces_requests() -> None:
    clock = WaitingClock()
    with serving(Api(paged([{"id": n} for n in range(4)], 1, "cursor"))) as api:
        paginate = sources.by_cursor("$.next", param="after")
        extract(sources.rest(f"{api.url}/x", records="$.data", paginate=paginate, rate="2/s"), clock=clock)
    assert clock.waits == [0.5, 0.5, 0.5]


# -- details


def test_details_are_asked_side_by_side_and_bounded() -> None:
    def answer(call: Call) -> Said:
        return Said([{"id": n} for n in range(12)]) if call.path == "/orders" else Said({"path": call.path})

    with serving(Api(answer)) as api:
        rest = sources.rest(f"{api.url}/orders", details=sources.details("/orders/{id}", parallel=3))
        api.together = None
        extract(sources.rest(f"{api.url}/orders"))
        api.together = threading.Barrier(1)
        made = extract(rest)
    assert [row["path"] for row in made.rows] == [f"/orders/{n}" for n in range(12)]
    assert list(made.files) == ["page-000001.json", "details-000001.jsonl"]
    assert api.most <= 3


def test_three_details_are_under_way_at_the_same_time() -> None:
    """Each waits for two others before it is answered: one at a time would never end."""

    def answer(call: Call) -> Said:
        return Said([{"id": n} for n in range(3)]) if call.path == "/orders" else Said({"path": call.path})

    with serving(Api(answer)) as api:
        rest = sources.rest(f"{api.url}/orders", details=sources.details("/orders/{id}", parallel=3))
        meet = threading.Barrier(3)

        def together(call: Call) -> Said:
            if call.path != "/orders":
                meet.wait(20)
            return answer(call)

        api.answer = together
        assert len(extract(rest).rows) == 3
    assert api.most == 3


def test_a_record_that_went_meanwhile() -> None:
    def answer(call: Call) -> Said:
        if call.path == "/orders":
            return Said([{"id": 1}, {"id": "a/b"}, {"id": 3}])
        return Said(b"gone", 404) if call.path.endswith("/3") else Said({"path": call.path})

    with serving(Api(answer)) as api:
        with pytest.raises(RunFailed, match="the details of record 3 of page 1"):
            extract(sources.rest(f"{api.url}/orders", details="/orders/{id}"))
        details = sources.details("/orders/{id}", gone="skip")
        made = extract(sources.rest(f"{api.url}/orders", details=details))
    assert [row["path"] for row in made.rows] == ["/orders/1", "/orders/a%2Fb"]


def test_a_record_without_the_field_is_told() -> None:
    with serving(Api(lambda _: Said([{"key": 1}]))) as api:
        with pytest.raises(DataError, match='no "id" for the details of record 1 of page 1'):
            extract(sources.rest(f"{api.url}/orders", details="/orders/{id}"))


# -- bookmarks


def since(url: str, **more: Any) -> Any:
    return sources.rest(f"{url}/x", cursor="$.at", params={"since": "{{ bookmark }}", "until": "{{ until }}"}, **more)


def test_the_bookmark_is_the_greatest_value() -> None:
    times = ["2026-01-01T10:00:00+02:00", "2026-01-01T09:00:00Z", "2026-01-01T07:59:00Z"]
    with serving(Api(lambda _: Said([{"at": one} for one in times]))) as api:
        assert extract(since(api.url)).bookmark == "2026-01-01T09:00:00Z"
        assert extract(since(api.url), bookmark="2027-01-01T00:00:00Z").bookmark == "2027-01-01T00:00:00Z"
        extract(since(api.url, initial="2025-01-01"), load=False)
    assert [(c.one("since"), c.one("until")) for c in api.calls] == [
        ("", ""), ("2027-01-01T00:00:00Z", ""), ("2025-01-01", "")
    ]  # fmt: skip


def test_a_run_again_stops_where_it_stopped() -> None:
    with serving(Api(lambda call: Said([{"at": n} for n in range(1, int(call.one("until", "9")) + 1)]))) as api:
        assert extract(since(api.url), bookmark=0, until=4).bookmark == 4
        rest = sources.rest(f"{api.url}/x", cursor="$.at", params={"since": "{{ bookmark }}"})
        with pytest.raises(Refused, match="goes beyond 4"):
            extract(rest, bookmark=0, until=4)


@pytest.mark.parametrize("values", [[1, None], [1, "a"], [{"a": 1}], [True]])
def test_what_is_no_cursor_is_told(values: list[Any]) -> None:
    with serving(Api(lambda _: Said([{"at": one} for one in values]))) as api:
        with pytest.raises(DataError, match=r"\$\.at"):
            extract(since(api.url))


# -- GraphQL


def test_graphql_pages_by_variables() -> None:
    def answer(call: Call) -> Said:
        given = call.json()
        assert given["query"] == QUERY
        at = int(given["variables"].get("after") or 0)
        info = {"endCursor": str(at + 2), "hasNextPage": at < 2}
        nodes = [{"id": at}, {"id": at + 1}]
        return Said({"data": {"orders": {"nodes": nodes, "pageInfo": info}}, "errors": []})

    with serving(Api(answer)) as api:
        made = extract(graphql(api.url))
    assert [row["id"] for row in made.rows] == [0, 1, 2, 3]
    assert [call.json()["variables"] for call in api.calls] == [
        {"day": "2026-01-01", "first": 2}, {"day": "2026-01-01", "first": 2, "after": "2"}
    ]  # fmt: skip


QUERY = "query($day: Date, $after: String) {{#x\n orders(since: $day, after: $after) {nodes {id}}}}"


def graphql(url: str) -> Any:
    info = "$.data.orders.pageInfo"
    return sources.graphql(
        f"{url}/graphql", query=QUERY, variables={"day": "{{ ds }}", "first": 2}, records="$.data.orders.nodes[*]",
        paginate=sources.by_cursor(f"{info}.endCursor", param="after", more=f"{info}.hasNextPage"), retries=2,
    )  # fmt: skip


def test_errors_of_graphql_come_with_200() -> None:
    said = Said({"data": None, "errors": [{"message": "no such field"}]})
    throttled = Said({"data": None, "errors": [{"message": "slow", "extensions": {"code": "THROTTLED"}}]})
    with serving(Api(lambda _: said)) as api:
        with pytest.raises(RunFailed, match=r"page-000001\.json tells of errors: no such field"):
            extract(graphql(api.url))
    assert len(api.calls) == 1
    with serving(Api(lambda _: throttled)) as api:
        with pytest.raises(RunFailed, match="slow; it was asked 3 times"):
            extract(graphql(api.url))
    assert len(api.calls) == 3


# -- declarations


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: sources.rest("https://me:pw@h/x"), "A secret in the address"),
        (lambda: sources.rest("https://h/x", headers={"Authorization": "Bearer x"}), "A secret in the header"),
        (lambda: sources.bearer(token="abc"), "A token in code is no secret"),
        (lambda: sources.rest("orders"), "is no address"),
        (lambda: sources.rest("ftp://h/x"), "no address of the web"),
        (lambda: sources.rest("https://{{ h }}/x"), "The host of an address is no template"),
        (lambda: sources.rest("https://h/x", records="data"), "cannot be read"),
        (lambda: sources.rest("https://h/x", records="$.a[-1]"), "counts from an end"),
        (lambda: sources.rest("https://h/x", cursor="$.at"), "does not say where it goes on"),
        (lambda: sources.rest("https://h/x", initial=3), "there is no cursor"),
        (lambda: sources.rest("https://h/x", rate="fast"), "is no rate"),
        (lambda: sources.rest("https://h/x", body={}), "A GET has no body"),
        (lambda: sources.rest("https://h/x", format="csv", records="$.a"), "needs answers in JSON"),
        (lambda: sources.rest("https://h/x", details="/orders"), "has no field"),
        (lambda: sources.rest("https://h/x", retries=-1), "retries=-1"),
        (lambda: sources.by_cursor("next"), "cannot be read"),
        (lambda: sources.graphql("https://h/x", query=" ", records="$"), "There is no query"),
        (lambda: sources.html_table("https://h/x", speed=3), 'no option "speed"'),
    ],
)
def test_mistakes_are_told_when_they_are_made(make: Any, what: str) -> None:
    with pytest.raises((DefinitionError, UnknownName)) as caught:
        make()
    assert what in caught.value.what
    assert "test_source_rest_pages.py" in str(caught.value.where)


def test_csv_is_kept_and_read_as_it_is() -> None:
    with serving(Api(lambda _: Said(b"id,name\n1,a\n"))) as api:
        made = extract(sources.rest(f"{api.url}/x", format="csv"))
    assert made.files == {"page-000001.csv": b"id,name\n1,a\n"}
    assert made.rows == [{"id": 1, "name": "a"}]
