"""Web services as sources, in whole runs: each record once, archived as it came, replayed without the server."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest

from harness.api import Api, Call, Said, paged, serving
from harness.project import Project
from tidemill import sources
from tidemill.model.run import RunState

RECORDS = [{"id": number, "name": f"order {number}"} for number in range(1, 26)]
WAYS: dict[str, Any] = {
    "page": sources.by_page(),
    "offset": sources.by_offset(),
    "cursor": sources.by_cursor("$.next", param="after"),
    "link": sources.by_link(),
    "url": sources.by_next_url("$.next"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_page_is_loaded_and_archived_as_it_came(project: Project, way: str) -> None:
    p = project.pipeline()
    records = None if way == "link" else "$.data[*]"
    with serving(Api(paged(RECORDS, 10, way))) as api:
        p.source(sources.rest(f"{api.url}/orders", records=records, paginate=WAYS[way]), name="orders")
        assert project.run(p, "2026-01-01").ok
    assert sorted(project.table("shop.orders")) == [(r["id"], r["name"]) for r in RECORDS]
    parts = sorted((project.root / ".tidemill/archive").rglob("a*-page-*.json"))
    first = json.loads(parts[0].read_bytes())
    assert (first if way == "link" else first["data"]) == RECORDS[:10]
    assert len({call.connection for call in api.calls}) == 1


def test_a_replay_needs_no_server_and_takes_new_code(project: Project) -> None:
    p = project.pipeline()
    with serving(Api(paged(RECORDS, 10, "cursor"))) as api:
        url = f"{api.url}/orders"
        p.source(sources.rest(url, records="$.data[*]", paginate=WAYS["cursor"]), name="orders")
        assert project.run(p, "2026-01-01").ok
        asked = len(api.calls)
    p = project.pipeline()
    rest = sources.rest(url, records="$.data[*]", paginate=WAYS["cursor"])
    p.source(rest, name="orders", jsonpaths={"number": "$.id"})
    assert project.run(p, "2026-01-01").ok
    assert project.rows("select number from shop.orders order by number") == [{"number": r["id"]} for r in RECORDS]
    assert len(api.calls) == asked


def test_a_record_that_does_not_fit_is_told_with_its_page_and_number(project: Project) -> None:
    p = project.pipeline()
    pages = [{"data": [{"id": 1}], "next": "x"}, {"data": [{"id": 2}, {"id": "many"}], "next": None}]
    with serving(Api(lambda call: Said(pages[1 if call.one("after") else 0]))) as api:
        rest = sources.rest(f"{api.url}/orders", records="$.data", paginate=WAYS["cursor"])
        p.source(rest, name="orders", columns={"id": "long"})
        assert project.run(p, "2026-01-01").ok
    found = project.rows("select file, line, error from shop.orders__quarantine")
    assert [(r["file"], r["line"]) for r in found] == [("page-000002.json", 2)]


def test_bookmarks_move_with_the_publish_and_a_run_again_asks_nothing(project: Project) -> None:
    orders = [{"id": n, "at": f"2026-01-0{n}T00:00:00Z"} for n in range(1, 6)]
    known = 3

    def answer(call: Call) -> Said:
        since = call.one("since", "")
        return Said([one for one in orders[:known] if str(one["at"]) > since])

    p = project.pipeline()
    with serving(Api(answer)) as api:
        rest = sources.rest(f"{api.url}/orders", cursor="$.at", params={"since": "{{ bookmark }}"})
        p.source(rest, name="orders")
        assert project.run(p, "2026-01-01").ok
        known = 5
        assert project.run(p, "2026-01-02").ok
        assert project.run(p, "2026-01-01").ok
        assert project.run(p, "2026-01-03").ok
    assert [call.one("since") for call in api.calls] == ["", "2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"]
    assert [row["id"] for row in project.rows("select id from shop.orders order by id")] == [1, 2, 3, 4, 5]


def test_a_failed_batch_leaves_the_bookmark_and_the_table(project: Project) -> None:
    p = project.pipeline()
    with serving(Api(lambda _: Said([{"id": 1}]), deque([Said(b"no", 500)] * 2))) as api:
        rest = sources.rest(f"{api.url}/x", cursor="$.id", params={"since": "{{ bookmark }}"}, retries=0)
        p.source(rest, name="orders")
        report = project.run(p, "2026-01-01")
        assert report.state is RunState.FAILED
        assert "500" in str(report.error)
        assert project.tables() == set()
        assert project.run(p, "2026-01-01").state is RunState.FAILED
        assert project.run(p, "2026-01-01").ok
    assert project.table("shop.orders") == [(1,)]


def test_details_are_loaded_in_the_records_place(project: Project) -> None:
    def answer(call: Call) -> Said:
        if call.path == "/orders":
            return paged(RECORDS, 10, "page")(call)
        number = int(call.path.rpartition("/")[2])
        return Said({"order": {"id": number, "total": number * 2}})

    p = project.pipeline()
    with serving(Api(answer)) as api:
        details = sources.details("/orders/{id}", parallel=5, records="$.order")
        rest = sources.rest(f"{api.url}/orders", records="$.data", paginate=sources.by_page(), details=details)
        p.source(rest, name="orders")
        assert project.run(p, "2026-01-01").ok
    assert sorted(project.table("shop.orders")) == [(r["id"], int(str(r["id"])) * 2) for r in RECORDS]


def test_tables_of_web_pages(project: Project) -> None:
    page = b"""<table id="nav"><tr><td>Home</td></tr></table>
    <table><thead><tr><th>City</th><th>People</th></tr></thead>
    <tr><td>Rome</td><td>2800000</td></tr><tr><td>Oslo<td>700000</table>"""
    p = project.pipeline()
    with serving(Api(lambda _: Said(page))) as api:
        p.source(sources.html_table(f"{api.url}/cities", match="City"), name="cities")
        p.source(sources.html_table(f"{api.url}/cities", number=1), name="counted", columns={"People": "long"})
        assert project.run(p, "2026-01-01").ok
    assert project.table("shop.cities") == [("Oslo", "700000"), ("Rome", "2800000")]
    assert project.rows('select sum("People") as n from shop.counted') == [{"n": 3500000}]
