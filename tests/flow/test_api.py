"""The web API over its real server, on a project whose runs were made by running pipelines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from openapi_spec_validator import validate
from starlette.requests import Request

from harness.fuzzing import fuzz
from harness.project import Project
from harness.webapi import Answer, Api, serving
from tidemill.authoring import registry
from tidemill.flow.branches import create_branch
from tidemill.flow.control import cancel_backfill, preview_backfill, start_backfill
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.model.action import ACTIONS
from tidemill.ports.tasklogs import TryPlace
from tidemill.testing.clock import ManualClock
from tidemill.web.openapi import document
from tidemill.web.problems import MEDIA_TYPE
from tidemill.web.repeats import KNOWN
from tidemill.web.routes import TABLE
from tidemill.web.table import Endpoint, several
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.performing import open_logs
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.settings import Settings

SHOP = """
import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")

@shop.source
def orders(interval):
    yield {"id": 1, "name": "<script>alert(1)</script>", "price": 5}
    yield {"id": 2, "name": "\\u202etxt", "price": -1 if interval.ds == "2026-01-02" else 7}

@shop.table
def good(orders):
    return orders.filter(tm.col("id") > 0)

good.expect(tm.col("price") > 0, name="price_is_positive")

with tm.DAG("etl", params={"n": 3}, tags=["nightly"]) as etl:
    @tm.task
    def first():
        return 1

    @tm.task
    def second(x):
        return x

    second(first())
"""

#: The project of the tests of this file.
SETTINGS: list[Settings] = []
#: Who asks, by a header that only this test's server knows.
PEOPLE = {
    "nobody": Principal("nobody", Role.NONE),
    "viewer": Principal("viewer", Role.VIEWER),
    "operator": Principal("operator", Role.OPERATOR),
    "of-etl": Principal("of-etl", Role.NONE, {"etl": Role.OPERATOR}),
}


def identify(request: Request) -> Principal | None:
    name = request.headers.get("x-test-user")
    return LOCAL if name is None else PEOPLE.get(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's."""
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[Api]:
    """Three batches of `shop`, the second of which failed its check, and a branch made by a person."""
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "shop.py").write_text(SHOP)
    project = Project(folder)
    try:
        parse_once(project.settings)
        shop = load_pipelines(project.settings)["shop"]
        ends = [project.run(shop, day).ok for day in ("2026-01-01", "2026-01-02", "2026-01-03")]
        assert ends == [True, False, True]
        create_branch(project.services, "try/out")
        metadata, now = project.services.metadata, project.services.clock.now()
        begun = start_backfill(metadata, "shop", preview_backfill(metadata, "shop", "2026-01-09"), now)
        cancel_backfill(metadata, begun.id, now)
        SETTINGS[:] = [project.settings]
        with serving(project.settings, identify) as made:
            yield made
    finally:
        project.close()
        registry.clear()


def test_the_document_is_valid_and_has_every_route(api: Api) -> None:
    made = api.get("openapi.json")
    validate(made)
    assert made["paths"].keys() == {_shape(one) for one in TABLE} | {"/api/v1/openapi.json"}
    operations = [op for path in made["paths"].values() for op in path.values()]
    assert len(operations) == len(TABLE) + 1
    assert len({op["operationId"] for op in operations}) == len(operations)
    assert all(op["x-role"] in ("none", "viewer", "operator", "admin") for op in operations)
    assert document(TABLE)["paths"].keys() <= made["paths"].keys()


def _shape(one: Endpoint) -> str:
    return one.full_path.replace(":int}", "}").replace(":path}", "}")


def test_runs_are_told_with_their_tasks_and_errors(api: Api) -> None:
    runs = api.get("runs")["runs"]
    assert [(one["when"], one["state"], one["kind"]) for one in runs] == [
        ("2026-01-03", "success", "by hand"), ("2026-01-02", "failed", "by hand"),
        ("2026-01-01", "success", "by hand"),
    ]  # fmt: skip
    failed = api.get(f"runs/{runs[1]['run_id']}")
    assert "price_is_positive" in failed["error"]
    assert {task["task"]: task["state"] for task in failed["tasks"]}["check.good"] == "failed"
    assert [one["run_id"] for one in api.get("runs", state="failed", pipeline="shop")["runs"]] == [runs[1]["run_id"]]
    since = api.get("runs", since="2026-01-02T00:00:00Z", until="2026-01-03T00:00:00Z")
    assert [one["when"] for one in since["runs"]] == ["2026-01-02"]
    grid = api.get("pipelines/shop/grid")
    assert grid["tasks"] == ["extract.orders", "load.orders", "build.good", "check.good"]
    assert [one["states"] for one in grid["runs"]] == ["ssss", "sssf", "ssss"]


def test_pages_together_are_the_whole_list_once(api: Api) -> None:
    for path, name, key in (
        ("runs", "runs", "run_id"), ("batches", "batches", "batch_id"), ("tables", "tables", "table"),
        ("pipelines", "pipelines", "pipeline"), ("branches?all=true", "branches", "name"),
        ("checks", "checks", "run_id"),
    ):  # fmt: skip
        path, _, query = path.partition("?")
        given: dict[str, Any] = dict([query.split("=")]) if query else {}
        whole = [one[key] for one in api.get(path, **given)[name]]
        assert len(whole) >= 2, path
        seen, cursor = [], None
        for _ in whole:
            page = api.get(path, limit=1, **given, **({"cursor": cursor} if cursor else {}))
            seen += [one[key] for one in page[name]]
            cursor = page["next"]
        assert seen == whole
        assert cursor is None


def test_tables_batches_and_branches_say_what_is_there(api: Api) -> None:
    rows = api.get("tables/shop.good/rows", batch=1)
    assert [row[:3] for row in rows["rows"]] == [[1, "<script>alert(1)</script>", 5], [2, "\u202etxt", 7]]
    assert [one["rows"] for one in api.get("tables/shop.good/versions")["versions"]] == [4, 2]
    table = api.get("tables/shop.good")
    assert (table["rows"], table["last_batch"], table["schema"][0]) == (4, 3, {"name": "id", "type": "long"})
    batch = api.get("batches/1")
    (extraction,) = batch["archive"]
    assert (extraction["source"], extraction["rows"], batch["tables"]) == ("orders", 2, ["shop.good", "shop.orders"])
    assert len(extraction["parts"][0]["sha256"]) == 64
    gates = api.get("branches/batch-2/gates")
    assert (gates["open"], [one["name"] for one in gates["checks"]]) == (False, ["price_is_positive"])
    diff = {one["table"]: one["added"] for one in api.get("branches/batch-2/diff")["tables"]}
    assert diff == {"shop.good": 2, "shop.orders": 2}
    history = api.get("checks", table="shop.good", name="price_is_positive")["checks"]
    assert [one["passed"] for one in history] == [True, False, True]
    found = [(hit["kind"], hit["name"]) for hit in api.get("search", q="ord")["hits"]]
    assert found == [("task", "load.orders"), ("table", "shop.orders"), ("task", "extract.orders")]
    assert {hit["kind"] for hit in api.get("search", q="shop")["hits"]} >= {"pipeline", "table"}
    (check,) = api.get("search", q="is_positive")["hits"]
    assert check == {"kind": "check", "name": "price_is_positive", "pipeline": "shop", "table": "shop.good"}
    assert api.ask("GET", "search", headers={"X-Test-User": "of-etl"}, q="is_positive").data["hits"] == []


def test_a_log_is_searched_as_a_whole_read_backwards_and_downloaded(api: Api) -> None:
    run = api.get("runs", pipeline="shop")["runs"][-1]["run_id"]
    logs = open_logs(SETTINGS[0])
    writer = logs.open(TryPlace("shop", run, "load.orders"))
    for number in range(5000):
        writer.write("ERROR" if number == 1234 else "INFO", "stdout", f"line {number}")
    hostile = "\x1b[31m<script>alert(1)</script> \u202etxt\nsecond"
    writer.write("WARNING", "shop.module", hostile + "y" * 50_000 + " needle " + "z" * 50_000)
    writer.close()
    path, task = f"runs/{run}/logs", {"task": "load.orders"}
    found = api.get(f"{path}/lines", **task, text="LINE 12", limit=100)
    assert [one["text"] for one in found["lines"][:3]] == ["line 12", "line 120", "line 121"]
    assert (len(found["lines"]), found["whole"], found["ended"]) == (100, False, True)
    rest = api.get(f"{path}/lines", **task, text="LINE 12", offset=found["offset"])
    assert (len(rest["lines"]), rest["whole"]) == (11, True)
    (error,) = api.get(f"{path}/lines", **task, level="ERROR")["lines"]
    assert [one["text"] for one in api.get(path, **task, offset=error["offset"], limit=1)["lines"]] == ["line 1234"]
    before = api.get(path, **task, before=error["offset"], limit=2)
    assert [one["text"] for one in before["lines"]] == ["line 1232", "line 1233"]
    assert api.get(path, **task, before=before["begin"], limit=1)["lines"][0]["text"] == "line 1231"
    (long,) = api.get(f"{path}/lines", **task, text="needle")["lines"]
    assert " needle " in long["text"]
    assert len(long["text"]) < 3000
    file = api.ask("GET", f"{path}/file", **task)
    assert file.headers["content-type"] == "text/plain; charset=utf-8"
    assert f'attachment; filename="shop-{run}-load.orders-1.log";' in file.headers["content-disposition"]
    assert file.headers["x-content-type-options"] == "nosniff"
    text = file.content.decode()
    assert "stdout: line 4999\n" in text
    assert "shop.module: \\x1b[31m<script>alert(1)</script> \\u202etxt\nsecond" in text
    assert "\x1b" not in text
    assert api.ask("GET", f"{path}/file", task="check.orders").status == 404
    assert api.get(f"{path}/lines", task="extract.orders", text="x")["lines"] == []
    assert api.ask("GET", f"{path}/lines", **task, level="LOUD").status == 400


def test_an_answer_that_has_not_changed_is_not_sent_again(api: Api) -> None:
    first = api.ask("GET", "runs")
    again = api.ask("GET", "runs", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.content) == (304, b"")
    other = api.ask("GET", "runs", headers={"If-None-Match": first.headers["etag"]}, limit=1)
    assert other.status == 200
    # Kept while nothing is committed, for each who may see other things; and not a moment longer.
    few = api.ask("GET", "runs", headers={"X-Test-User": "of-etl"})
    assert few.headers["etag"] != first.headers["etag"]
    api.post("pipelines/etl/runs", {"run_key": "to-change-the-list"})
    changed = api.ask("GET", "runs", headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status, changed.data["runs"][0]["run_key"]) == (200, "to-change-the-list")


def test_actions_tell_before_they_act_and_act_once(api: Api) -> None:
    told = api.post("pipelines/etl/runs", {"params": {"n": 4}}, dry_run=True)
    assert (told["run"], told["dry_run"]) == (None, True)
    before = len(api.get("runs", pipeline="etl")["runs"])
    key = {"Idempotency-Key": "only-once"}
    made = api.post("pipelines/etl/runs", {"params": {"n": 4}}, key)
    assert made["run"]["state"] == "queued"
    assert api.post("pipelines/etl/runs", {"params": {"n": 4}}, key) == made
    assert api.ask("POST", "pipelines/etl/runs", {"params": {"n": 5}}, key).status == 409
    assert [one["conf"] for one in api.get("runs", pipeline="etl")["runs"]] == [{"n": 4}, *[{}] * before]
    assert api.ask("POST", "pipelines/etl/runs", {"params": {"m": 1}}).data["detail"] == 'There is no parameter "m".'
    # A key whose first request was refused may be used again.
    spare = {"Idempotency-Key": "spare"}
    assert api.ask("POST", "pipelines/none/runs", {}, spare).status == 404
    would = api.post("runs/cancel", {"run_ids": [made["run"]["run_id"], 1]}, dry_run=True)
    assert (would["run_ids"], would["refused"][0]["status"]) == ([made["run"]["run_id"]], 409)
    assert api.get(f"runs/{made['run']['run_id']}")["state"] == "queued"
    # Paused twice is paused once, whichever way.
    assert api.post("pipelines/pause", {"pipelines": ["etl", "shop"]}, dry_run=True)["names"] == ["etl", "shop"]
    assert api.post("pipelines/pause", {"pipelines": ["etl", "shop"]})["names"] == ["etl", "shop"]
    assert api.post("pipelines/etl/pause")["names"] == []
    assert {one["state"] for one in api.get("pipelines")["pipelines"]} == {"paused"}
    assert api.post("pipelines/unpause", {"pipelines": ["etl", "shop"]})["names"] == ["etl", "shop"]
    plan = {"pipeline": "shop", "range": "2026-01-01..2026-01-04", "policy": "failed"}
    would = api.post("backfills", plan, dry_run=True)
    assert (would["intervals"], would["backfill_id"]) == (["2026-01-02", "2026-01-04"], None)
    begun = api.post("backfills", plan)["backfill_id"]
    assert api.post(f"backfills/{begun}/pause")["names"] == [str(begun)]
    assert api.get(f"backfills/{begun}")["progress"] == {
        "total": 2, "waiting": 2, "running": 0, "success": 0, "failed": 0,
    }  # fmt: skip
    assert api.post(f"backfills/{begun}/cancel")["done"] == "cancelled"
    assert api.ask("POST", f"backfills/{begun}/resume").status == 409


def test_a_key_is_known_for_a_day(api: Api, folder: Path) -> None:
    """By the clock; then the same key is another request's, and nothing of the old one is kept."""
    clock = ManualClock(datetime.now(UTC))
    key, ask = {"Idempotency-Key": "of today"}, {"interval": "2026-01-04"}
    with serving(Project(folder).settings, identify, clock) as here:
        first = here.post("pipelines/shop/runs", ask, key)
        assert here.ask("POST", "pipelines/etl/runs", {}, key).status == 409
        clock.advance(KNOWN - timedelta(seconds=1))
        assert here.post("pipelines/shop/runs", ask, key) == first
        clock.advance(timedelta(seconds=2))
        assert here.post("pipelines/etl/runs", {}, key)["run"]["pipeline"] == "etl"
        here.post(f"runs/{first['run']['run_id']}/cancel")


def test_a_key_used_by_many_at_once_acts_once(api: Api) -> None:
    found: list[Answer] = []
    ask = lambda: found.append(api.ask("POST", "pipelines/etl/runs", {}, {"Idempotency-Key": "race"}))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.status for one in found} <= {200, 409}
    runs = {one.data["run"]["run_id"] for one in found if one.status == 200}
    assert len(runs) == 1
    assert [one["run_key"] for one in api.get("runs", pipeline="etl")["runs"]].count("api-race") == 1


def test_a_batch_is_reverted_as_was_told(api: Api) -> None:
    would = api.post("batches/3/revert", dry_run=True)
    assert [one["table"] for one in would["tables"]] == ["shop.good", "shop.orders"]
    assert api.get("tables/shop.good")["rows"] == 4
    done = api.post("batches/3/revert")
    assert [one["table"] for one in done["tables"]] == ["shop.good", "shop.orders"]
    assert api.get("tables/shop.good")["rows"] == 2
    assert api.ask("POST", "batches/3/revert").status == 409
    assert api.post("branches/try/out/merge", dry_run=True)["tables"] == []
    assert api.post("branches/try/out/merge")["done"] == "merged try/out into main"


NAMES = {"pipeline": "shop", "run_id": 1, "backfill_id": 1, "batch_id": 1, "table": "shop.good", "branch": "batch-2",
         "stream": "shop.none", "path": "x", "topic": "none"}  # fmt: skip


def _path(one: Endpoint, names: dict[str, Any]) -> str:
    path = one.full_path.replace(":int}", "}").replace(":path}", "}")
    return path.format(**names)


def _body(one: Endpoint) -> dict[str, Any] | None:
    bodies: dict[str, dict[str, Any]] = {
        "Names": {"pipelines": ["shop"]}, "ClearMany": {"run_ids": [1]}, "RunIds": {"run_ids": [1]},
        "Mark": {"task": "x", "state": "success"}, "Begin": {"pipeline": "shop", "range": "2026-01-01"},
        "ResetBody": {"to": "latest"}, "NewRef": {"name": "new"},
        "FeedBody": {"rows": [{"id": 1}]}, "AnswerBody": {"task": "x"},
    }  # fmt: skip
    return None if one.body is None else bodies.get(one.body.__name__, {})


def test_every_route_asks_for_its_role(api: Api) -> None:
    for one in TABLE:
        assert bool(one.action) == one.changes, one.path
        assert not one.action or one.role == ACTIONS[one.action].least, one.path
        if one.media == "text/event-stream":
            continue
        path, query = _path(one, NAMES), {"dry_run": "true"} if one.changes else {}
        query |= {"q": "x"} if one.path == "/search" else {}
        query |= {"sql": "-1"} if one.path.startswith("/query") else {}
        said = {}
        for who in ("unknown", *PEOPLE):
            said[who] = api.ask(one.method, path, _body(one), {"X-Test-User": who}, **query).status
        if one.open:
            assert set(said.values()) == {200}, (path, said)
            continue
        assert said.pop("unknown") == 401, path
        for who, status in said.items():
            allowed = PEOPLE[who].role >= one.role
            if one.about is several and PEOPLE[who].pipelines:
                allowed = True
            assert (status != 403) == allowed, (one.method, path, who, said)
    mine = {"X-Test-User": "of-etl"}
    assert api.ask("GET", "pipelines/etl", headers=mine).status == 200
    assert [one["pipeline"] for one in api.ask("GET", "pipelines", headers=mine).data["pipelines"]] == ["etl"]
    assert {one["pipeline"] for one in api.ask("GET", "runs", headers=mine).data["runs"]} <= {"etl"}
    assert api.ask("GET", "tables", headers=mine).data["tables"] == []


HOSTILE = (
    "",
    "-1",
    "99999999999999999999999",
    "\0",
    "\u202e<script>",
    "'; DROP TABLE runs --",
    "../../etc/passwd",
    "x" * 3000,
)


def test_the_document_is_kept_to_whatever_is_sent(api: Api) -> None:
    """Schemathesis: requests that fit and ones that do not: no 5xx, and answers are as the document says."""
    branches = [one["name"] for one in api.get("branches", all=True)["branches"]]
    names: dict[str, list[str | int]] = {name: [value] for name, value in NAMES.items()}
    more = {"pipeline": ["shop", "etl"], "run_id": [1, 2, 3], "batch_id": [1, 2], "branch": branches}
    assert fuzz(api.url, {**names, **more}) > 100


def test_hostile_names_in_paths_are_met_by_no_error_of_ours(api: Api) -> None:
    for one in TABLE:
        if one.media == "text/event-stream":
            continue
        for part in (part for part in NAMES if f"{{{part}" in one.path):
            for bad in HOSTILE:
                path = _path(one, {**NAMES, part: quote(bad, safe="")})
                _fine(api.ask(one.method, path, _body(one), **({"dry_run": "true"} if one.changes else {})), path)
    for body in (b"{", b"[]", b"null", b'"\xff"', b"{" * 3000, b'{"tasks": 1, "run_ids": [9007199254740993]}'):
        _fine(api.ask("POST", "runs/clear", body, dry_run="true"), "/runs/clear")


def _fine(found: Answer, path: str) -> None:
    assert found.status < 500, (path, found)
    if found.status >= 400:
        assert found.headers["content-type"] == MEDIA_TYPE, (path, found)
        assert found.data["status"] == found.status
    for name in ("x-content-type-options", "content-security-policy", "x-frame-options", "x-request-id"):
        assert name in found.headers, (path, name)


def test_pages_of_other_sites_and_bodies_without_end_are_refused(api: Api) -> None:
    act = "pipelines/etl/pause"
    assert api.ask("GET", "runs", headers={"Host": "rebound.example"}).status == 421
    assert api.ask("POST", act, headers={"Origin": "http://evil.example"}).status == 403
    assert api.ask("POST", act, headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert api.ask("POST", act, headers={"Origin": api.url}, dry_run=True).status == 200
    assert api.ask("POST", "runs/1/clear", b"tasks=1", {"Content-Type": "text/plain"}).status == 415
    assert api.ask("POST", "runs/1/clear", b" " * (2 << 20)).status == 413
    assert api.ask("DELETE", "runs").headers["allow"]
    named = api.ask("GET", "runs/99", headers={"X-Request-Id": "mine-7"})
    assert (named.headers["x-request-id"], named.data["request_id"]) == ("mine-7", "mine-7")
    assert (named.status, named.data["type"]) == (404, "/problems/unknown-name")
    odd = api.ask("GET", "runs", headers={"X-Request-Id": "a b"}).headers["x-request-id"]
    assert odd != "a b"


def test_events_tell_of_what_others_do_and_go_on_where_they_were_left(api: Api) -> None:
    with api.events(kind="pipeline", pipeline="etl") as events, api.events() as everything:
        assert next(events)["event"] == next(everything)["event"] == "open"
        api.post("pipelines/shop/pause")
        api.post("pipelines/etl/pause")
        told = next(events)
        assert (told["event"], told["data"]["pipeline"], told["data"]["paused"]) == ("pipeline", "etl", True)
        api.post("pipelines/etl/unpause")
        assert next(events)["data"]["paused"] is False
        # Whoever comes back with what it saw last gets what came since; with what nobody knows, how things stand.
        with api.events(told["id"], kind="pipeline", pipeline="etl") as back:
            assert next(back)["data"]["paused"] is False
        run = api.post("pipelines/etl/runs", {})["run"]["run_id"]
        long_ago = f"00000000-5-{int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)}"
        with api.events(long_ago, kind="run") as back:
            assert next(back)["event"] == "reset"
            states = {}
            for one in back:
                states[one["data"]["run_id"]] = one["data"]["state"]
                if one["data"]["run_id"] == run:
                    break
            assert (states[1], states[2], states[run]) == ("success", "failed", "queued")
    api.post("pipelines/shop/unpause")


def test_many_streams_cost_one_look(api: Api) -> None:
    """Fifty who listen, one thread that looks at the database: each is told the same, once."""
    with ExitStack() as stack:
        all_of_them = [stack.enter_context(api.events(kind="pipeline", pipeline="etl")) for _ in range(50)]
        for events in all_of_them:
            assert next(events)["event"] == "open"
        assert [thread.name for thread in threading.enumerate()].count("events") == 1
        api.post("pipelines/etl/pause")
        told = [next(events) for events in all_of_them]
        assert {one["id"] for one in told} == {told[0]["id"]}
        assert told[0]["data"]["paused"] is True
    api.post("pipelines/etl/unpause")
