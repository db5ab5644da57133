"""What waits and what tells: async sensors, notices, callbacks, files that arrive, tables that are published."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from harness.installation import Installation
from harness.listening import HttpListener, listening
from harness.programs import free_port
from tidemill.flow.control import trigger
from tidemill.model.run import RunState
from tidemill.wiring.services import system_clock

Install = Callable[..., Installation]
S = RunState

WAITING = """
    import asyncio, pathlib
    import tidemill as tm
    from tidemill.operators import PythonSensor

    async def file_is_there(path):
        while not pathlib.Path(path).exists():
            await asyncio.sleep(0.02)

    async def breaks():
        raise ValueError("it broke")

    with tm.DAG("waiting"):
        many = [
            PythonSensor(task_id=f"wait{n}", python_callable=file_is_there, op_kwargs={"path": "FOLDER/go"})
            for n in range(40)
        ]
    with tm.DAG("breaking"):
        PythonSensor(task_id="wait", python_callable=breaks)
    with tm.DAG("late"):
        PythonSensor(task_id="wait", python_callable=file_is_there, op_kwargs={"path": "FOLDER/never"}, timeout=1)
"""


def start(shop: Installation, pipeline: str) -> int:
    def known() -> bool:
        with shop.metadata.read() as tx:
            return tx.definitions.pipeline(pipeline) is not None

    shop.wait(known)
    run = trigger(shop.metadata, pipeline, system_clock().now())
    shop.ring()
    return run.id


def test_async_sensors_wait_without_workers_and_end_three_ways(install: Install) -> None:
    shop = install()
    shop.write("waiting", WAITING.replace("FOLDER", str(shop.folder)))
    shop.up("--workers", "1")
    run = start(shop, "waiting")

    def all_deferred() -> bool:
        return [task.state.value for task in shop.tasks(run)] == ["deferred"] * 40

    shop.wait(all_deferred)
    (shop.folder / "go").touch()
    assert shop.wait_for_runs("waiting", 1) == {run: S.SUCCESS}
    broken = start(shop, "breaking")
    assert shop.wait_for_runs("breaking", 1) == {broken: S.FAILED}
    assert "it broke" in (shop.tasks(broken)[0].error or "")
    late = start(shop, "late")
    assert shop.wait_for_runs("late", 1) == {late: S.FAILED}
    assert "has waited" in (shop.tasks(late)[0].error or "")
    assert shop.stop() == 0


TOLD = """
    import pathlib
    import tidemill as tm
    from datetime import timedelta

    def note(context):
        pathlib.Path("FOLDER", f"{context['reason']}-{context['dag_run'].dag_id}").touch()

    @tm.dag(on_failure_callback=note, on_success_callback=note)
    def breaks():
        @tm.task
        def one():
            raise ValueError("no such luck")
        one()

    @tm.dag(on_success_callback=note)
    def works():
        @tm.task
        def one():
            return 1
        one()

    breaks()
    works()
"""


def test_failures_and_publishes_are_told_and_called_back(install: Install) -> None:
    hook = HttpListener()
    with listening(hook):
        hook.answers = [503]  # the first time nobody is at home
        shop = install()
        shop.write("told", TOLD.replace("FOLDER", str(shop.folder)))
        with (shop.folder / "tidemill.toml").open("a") as file:
            events = '["failed", "published", "late"]'
            file.write(f'\n[[notify]]\nkind = "webhook"\nurl = "{hook.url}"\nevents = {events}\n')
        shop.up("--workers", "1")
        failed, worked = start(shop, "breaks"), start(shop, "works")
        shop.wait_for_runs("breaks", 1)
        shop.wait_for_runs("works", 1)
        shop.wait(lambda: len(hook.posted) == 2, 60)
        told = {(one["event"], one["run_id"]) for one in hook.posted}
        assert told == {("failed", failed), ("published", worked)}
        assert "no such luck" in next(one["text"] for one in hook.posted if one["event"] == "failed")
        shop.wait((shop.folder / "failure-breaks").exists)
        shop.wait((shop.folder / "success-works").exists)
        assert not (shop.folder / "success-breaks").exists()
        assert shop.stop() == 0


CALLED = """
    import tidemill as tm

    @tm.dag(schedule="@webhook")
    def called():
        @tm.task
        def one(dag_run=None):
            return dag_run.conf["n"]
        one()

    @tm.dag()
    def uncalled():
        @tm.task
        def one():
            return 1
        one()

    called()
    uncalled()
"""


def call(port: int, pipeline: str, body: bytes, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/hooks/{pipeline}", body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_call_from_outside_begins_a_run_once(install: Install) -> None:
    shop = install(called=CALLED)
    port = free_port()
    with (shop.folder / "tidemill.toml").open("a") as file:
        file.write(f'\n[hooks]\nport = {port}\ntoken = "a-long-token"\n')
    shop.up("--workers", "1")
    token = {"Authorization": "Bearer a-long-token"}

    def answers() -> bool:
        try:
            return call(port, "called", b"[]", **token)[0] == 400
        except OSError:
            return False

    shop.wait(answers)
    assert call(port, "called", b"{}")[0] == 401
    assert call(port, "called", b"{}", Authorization="Bearer another")[0] == 401

    def parsed() -> bool:
        with shop.metadata.read() as tx:
            return tx.definitions.pipeline("uncalled") is not None

    shop.wait(parsed)
    assert call(port, "uncalled", b"{}", **token)[0] == 404
    assert call(port, "nobody", b"{}", **token)[0] == 404
    assert call(port, "called", b"x" * 1_100_000, **token)[0] == 413
    code, first = call(port, "called", b'{"n": 7}', **token, **{"Idempotency-Key": "k"})
    assert code == 202
    assert call(port, "called", b'{"n": 8}', **token, **{"Idempotency-Key": "k"}) == (202, first)
    shop.wait_for_runs("called", 1)
    with shop.metadata.read() as tx:
        assert tx.xcoms.get(first["run_id"], "one") == "7"
    assert len(shop.runs("called")) == 1
    assert shop.stop() == 0


CHAINED = """
    import tidemill as tm
    from datetime import timedelta
    from tidemill.model.condition import FilesArrive, Published
    from tidemill.operators import PythonOperator

    with tm.DAG("first", schedule=FilesArrive("inbox/*.csv", every=timedelta(seconds=0.2))):
        PythonOperator(task_id="a", python_callable=lambda: None, outlets=["shop.orders"])
    with tm.DAG("second"):
        PythonOperator(task_id="b", python_callable=lambda: None, outlets=["shop.prices"])
    with tm.DAG("both", schedule=Published("shop.orders") & Published("shop.prices")):
        PythonOperator(task_id="c", python_callable=lambda: None)
    with tm.DAG("either", schedule=Published("shop.orders") | Published("shop.prices")):
        PythonOperator(task_id="d", python_callable=lambda: None)
"""


def test_files_that_arrive_and_tables_that_are_published_begin_runs(install_on: Install) -> None:
    shop = install_on(chained=CHAINED)
    (shop.folder / "inbox").mkdir()
    shop.up("--workers", "2")
    start(shop, "second")
    shop.wait_for_runs("second", 1)
    shop.wait_for_runs("either", 1)
    assert shop.runs("first") == {}
    assert shop.runs("both") == {}
    (shop.folder / "inbox" / "a.csv").write_text("x\n1\n")
    shop.wait_for_runs("first", 1)
    shop.wait_for_runs("both", 1)
    shop.wait_for_runs("either", 2)
    found = json.loads(shop.command("runs", "ls", "--pipeline", "first", "--json"))["runs"][0]
    assert found["conf"] == {"files": ["inbox/a.csv"]}
    assert found["kind"] == "triggered"
    assert len(shop.runs("first")) == 1
    assert shop.stop() == 0
