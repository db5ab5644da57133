"""`tidemill up` with its web server: what it says, what schedulers make of what the API asks, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.installation import Installation
from harness.webapi import Api

Install = Callable[..., Installation]

ETL = """
    import tidemill as tm

    with tm.DAG("etl", params={"n": 3}):
        @tm.task
        def first():
            print("hello <b>world</b>")
            return 1

        @tm.task
        def second(x):
            raise ValueError("not mended yet")

        @tm.task
        def third(x):
            return x

        third(second(first()))
"""


def test_a_failed_run_is_seen_repaired_and_told_of(install: Install) -> None:
    etl = install(etl=ETL)
    (etl.folder / "tidemill.toml").write_text('[project]\nname = "shop"\n[web]\nport = 0\n')
    etl.up("--workers", "2")
    found = etl.wait(lambda: re.search(r"API at (http://127\.0\.0\.1:\d+)/api/v1/", etl.said()))
    assert found is not None
    api = Api(found[1])
    etl.wait(lambda: api.ask("GET", "pipelines/etl").status == 200)
    with api.events(kind="run,task", pipeline="etl") as events:
        assert next(events)["event"] == "open"
        run_id = api.post("pipelines/etl/runs", {"params": {"n": 4}}, {"Idempotency-Key": "a"})["run"]["run_id"]
        tasks: dict[str, str] = {}
        for event in events:
            data = event["data"]
            if event["event"] == "task":
                tasks |= {one["task"]: one["state"] for one in data["tasks"]}
            elif data["state"] in ("failed", "success"):
                break
    assert (data["run_id"], data["state"]) == (run_id, "failed")
    assert tasks == {"first": "success", "second": "failed", "third": "upstream_failed"}
    logs = api.get(f"runs/{run_id}/logs", task="first")
    assert ("hello <b>world</b>", True) in [(line["text"], logs["ended"]) for line in logs["lines"]]
    assert api.get(f"runs/{run_id}/logs", task="first", offset=logs["offset"])["lines"] == []
    second = next(one for one in api.get(f"runs/{run_id}")["tasks"] if one["task"] == "second")
    assert "not mended yet" in second["error"]
    # From the failed task on, once what was wrong is mended: told first, then done.
    would = api.post(f"runs/{run_id}/clear", {}, dry_run=True)
    assert (would["tasks"], would["same_attempt"], would["new_run_id"]) == (["second", "third"], False, None)
    assert len(api.get("runs")["runs"]) == 1
    before = api.get("pipelines/etl")["code_version"]
    etl.write("etl", ETL.replace('raise ValueError("not mended yet")', "return x"))
    etl.wait(lambda: api.get("pipelines/etl")["code_version"] != before)
    key = {"Idempotency-Key": "repair"}
    done = api.post(f"runs/{run_id}/clear", {}, key)
    assert api.post(f"runs/{run_id}/clear", {}, key) == done
    new = done["new_run_id"]
    etl.wait(lambda: api.get(f"runs/{new}")["ended_at"] is not None)
    assert [(one["attempt"], one["state"]) for one in api.get("runs")["runs"]] == [(2, "success"), (1, "failed")]
    assert [one["states"] for one in api.get("pipelines/etl/grid")["runs"]] == ["sss", "sfu"]
    assert api.get("pipelines/etl")["last_runs"] == ["failed", "success"]
    marked = api.post(f"runs/{new}/mark", {"task": "third", "state": "skipped"}, dry_run=True)
    assert (marked["tasks"], marked["dry_run"]) == (["third"], True)
    assert 'tidemill_metrics_source_up{source="metadata"} 1' in api.ask("GET", "/metrics").data
    # An open stream of events does not keep it from ending.
    with api.events() as events:
        next(events)
        assert etl.stop() == 0
        assert list(events) == []
