"""Branches, tags and throughput by the web API, on a project whose runs were made by running a pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.requests import Request

from harness.project import Project
from harness.webapi import Api, serving
from tidemill.authoring import registry
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.wiring.project import load_pipelines

SHOP = """
import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")

@shop.source
def orders(interval):
    yield {"id": 1, "price": 5}
    yield {"id": 2, "price": -1 if interval.ds == "2026-01-02" else 7}

@shop.table
def good(orders):
    return orders.filter(tm.col("id") > 0)

good.expect(tm.col("price") > 0, name="price_is_positive")
"""


def identify(request: Request) -> Principal | None:
    of_others = Principal("of-others", Role.NONE, {"others": Role.OPERATOR})
    return of_others if "x-test-user" in request.headers else LOCAL


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Two batches, the second of which failed its check."""
    folder = tmp_path_factory.mktemp("refs")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "shop.py").write_text(SHOP)
    project = Project(folder)
    try:
        shop = load_pipelines(project.settings)["shop"]
        assert [project.run(shop, day).ok for day in ("2026-01-01", "2026-01-02")] == [True, False]
        with serving(project.settings, identify) as made:
            yield made
    finally:
        project.close()
        registry.clear()


def test_branches_are_made_and_dropped_as_was_told(api: Api) -> None:
    """Of main or of another one, with what it has; names that nothing can be called by are refused, told or done."""
    here = {one["name"] for one in api.get("branches")["branches"]}
    would = api.post("branches", {"name": "new/one"}, dry_run=True)
    assert (would["done"], would["branch"]) == ("would make branch new/one of main", None)
    assert "2 tables" in would["why"]
    assert {one["name"] for one in api.get("branches")["branches"]} == here
    key = {"Idempotency-Key": "a branch"}
    made = api.post("branches", {"name": "new/one"}, key)
    assert api.post("branches", {"name": "new/one"}, key) == made
    tag = api.post("branches", {"name": "v1", "source": "new/one", "tag": True})["branch"]
    assert (tag["kind"], tag["parent"], tag["tables"], tag["changed"]) == ("tag", "new/one", 2, None)
    assert (made["branch"]["parent"], made["branch"]["changed"]) == ("main", 0)
    assert api.get("tables/shop.good", branch="v1")["rows"] == 2
    refused = {"v1": 409, "main": 409, "batch-77": 422, "batch-77.2": 422, " x": 422, "a\0b": 422, "a//b": 422,
               "..": 422, "a/./b": 422, "\u202ea": 422, "": 400, "x" * 201: 400}  # fmt: skip
    for name, status in refused.items():
        found = [api.ask("POST", "branches", {"name": name}, dry_run=dry).status for dry in ("true", "false")]
        assert found == [status, status], name
    assert api.ask("POST", "branches", {"name": "y", "source": "none"}, dry_run="true").status == 404
    told = api.post("branches/new/one/drop", dry_run=True)
    assert (told["done"], told["why"].startswith("No change is lost")) == ("would drop branch new/one", True)
    assert "changed in 2 tables is lost" in api.post("branches/batch-2/drop", dry_run=True)["why"]
    for name in ("new/one", "v1"):
        assert api.post(f"branches/{name}/drop")["done"].startswith("dropped")
        assert api.ask("POST", f"branches/{name}/drop").status == 404
    assert api.ask("POST", "branches/main/drop", dry_run="true").status == 409
    assert {one["name"] for one in api.get("branches")["branches"]} == here


def test_rows_loaded_are_told_by_the_hour(api: Api) -> None:
    """Of published runs only, in the hours in which they ended, by what the asker may see."""
    found = api.get("throughput")
    assert [len(found["hours"]), len(found["minutes"]), found["whole"]] == [24, 60, True]
    (run,) = api.get("runs", state="success")["runs"]
    told = [(one["at"][:13], one["rows"], one["runs"]) for one in found["hours"] if one["rows"]]
    assert told == [(run["ended_at"][:13], 2, 1)]
    assert {one["rate"] for one in found["minutes"]} == {None}
    few = api.ask("GET", "throughput", headers={"X-Test-User": "of-others"}).data
    assert sum(one["runs"] for one in few["hours"]) == 0
    assert "Rows loaded by the hour: 2 in the last 24 hours" in api.ask("GET", "/").data
