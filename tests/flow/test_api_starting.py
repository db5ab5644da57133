"""Runs that are begun by the web API: of which batch, from its archive or from its sources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.project import Project
from harness.webapi import Api, serving
from tidemill.authoring import registry
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.project import load_pipelines

SHOP = """
import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")

@shop.source
def orders(interval):
    yield {"id": 1, "price": 5}

with tm.DAG("etl", params={"n": 3}) as etl:
    @tm.task
    def first():
        return 1

    first()
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One batch of `shop`."""
    folder = tmp_path_factory.mktemp("starting")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "shop.py").write_text(SHOP)
    project = Project(folder)
    try:
        parse_once(project.settings)
        assert project.run(load_pipelines(project.settings)["shop"], "2026-01-01").ok
        with serving(project.settings) as made:
            yield made
    finally:
        project.close()
        registry.clear()


def test_a_batch_is_run_again_from_its_archive_or_its_sources(api: Api) -> None:
    would = api.post("batches/1/replay", {"refetch": True}, dry_run=True)
    assert (would["when"], would["run"], "asked again" in would["why"]) == ("2026-01-01", None, True)
    run = api.post("batches/1/replay", {"refetch": True})["run"]
    assert (run["batch_id"], run["attempt"], run["kind"], run["state"]) == (1, 2, "refetch", "queued")
    assert api.ask("POST", "batches/1/replay", {}).status == 409  # it is under way
    api.post(f"runs/{run['run_id']}/cancel")
    assert api.ask("POST", "batches/999/replay", {}).status == 404


def test_a_run_of_no_certain_batch_is_of_the_newest_one(api: Api) -> None:
    """As with the command."""
    newest = api.post("pipelines/shop/runs", {}, dry_run=True)
    assert (newest["when"] > "2026-01-03", newest["why"]) == (True, "the latest interval that is over")
    early = api.ask("POST", "pipelines/shop/runs", {"interval": "2025-12-31"}, dry_run=True)
    assert (early.status, "outside of the time" in str(early.data)) == (400, True)


def test_parameters_stay_and_only_sources_are_asked_again(api: Api) -> None:
    etl = api.post("pipelines/etl/runs", {"run_key": "again", "params": {"n": 5}})["run"]
    api.post(f"runs/{etl['run_id']}/cancel")
    assert api.post(f"batches/{etl['batch_id']}/replay", {}, dry_run=True)["params"] == {"n": 5}
    for path in (f"batches/{etl['batch_id']}/replay", "pipelines/etl/runs"):
        refused = api.ask("POST", path, {"refetch": True}, dry_run=True)
        assert (refused.status, "no sources that could be asked" in refused.data["detail"]) == (409, True), path
