"""Systems outside, reached by workers of an installation as a user starts it; logs keep the secrets of connections."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from harness.installation import Installation
from harness.web import WebService, serving
from tidemill.model.run import RunState

Install = Callable[..., Installation]

REACHING = """
    import tidemill as tm
    from tidemill.operators import HttpOperator, PythonOperator, SqlOperator

    def good(prev_data_interval_start_success, ds):
        return [str(prev_data_interval_start_success), ds]

    with tm.DAG("reaching", schedule="@daily", start="2026-01-01", end="2026-01-03", catchup=True, max_active_runs=1):
        asked = HttpOperator(
            task_id="ask", http_conn_id="api", endpoint="{{ ds }}", method="GET", log_response=True,
            response_filter=lambda answer: answer.json()["day"],
        )
        SqlOperator(
            task_id="keep", conn_id="shop", sql="create table if not exists t (d text); insert into t values (:d);"
            " select count(*) from t", parameters={"d": asked.output},
        )
        PythonOperator(task_id="good", python_callable=good)
"""


def test_workers_reach_systems_outside_and_logs_keep_their_secrets(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(WebService()) as web:
        for day in ("first", "second"):
            web.then(200, {"day": day, "you_are": "me:hunter22", "token": "t0ken-t0ken"})
        monkeypatch.setenv("TIDEMILL_CONN_API", f"http://me:hunter22@127.0.0.1:{web.port}?X-Token=t0ken-t0ken")
        monkeypatch.setenv("TIDEMILL_CONN_SHOP", "sqlite:///shop.db")
        shop = install(reaching=REACHING)
        shop.up("--workers", "1")
        runs = shop.wait_for_runs("reaching", 2)
    assert set(runs.values()) == {RunState.SUCCESS}
    assert [asked.path for asked in web.asked] == ["/2026-01-01", "/2026-01-02"]
    with shop.metadata.read() as tx:
        handed = [
            {task: json.loads(tx.xcoms.get(run, task) or "null") for task in ("ask", "good")} for run in sorted(runs)
        ]
    assert [one["ask"] for one in handed] == ["first", "second"]
    assert [one["good"][0] for one in handed] == ["None", "2026-01-01 00:00:00+00:00"]
    said = "".join(path.read_text(errors="replace") for path in (shop.folder / ".tidemill" / "logs").rglob("*.*"))
    assert "you_are" in said
    assert "***" in said
    assert "hunter22" not in said
    assert "t0ken" not in said
    assert shop.stop() == 0
