"""Operators: what each does, what it decides, how it is stopped."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tidemill as tm
from harness.operating import NIGHT, Others, Worker
from tidemill.authoring import registry
from tidemill.flow.perform import stop_current
from tidemill.model.instance import Skipped, Succeeded
from tidemill.model.run import RunKind
from tidemill.operators import (
    BashOperator,
    BranchPythonOperator,
    EmptyOperator,
    LatestOnlyOperator,
    PythonOperator,
    ShortCircuitOperator,
    TriggerDagRunOperator,
    VirtualenvOperator,
)
from tidemill.ports.executor import TaskTimeout
from tidemill.wiring.trials import try_dag


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Worker(tmp_path)
    with made.dag:
        yield made
    registry.clear()


@pytest.mark.parametrize(("retries", "told"), [(0, ["failure"]), (1, ["retry"])])
def test_a_time_out_is_told_to_callbacks_and_left_to_the_worker(worker, retries, told):
    heard: list[str] = []

    def slow():
        raise TaskTimeout

    PythonOperator(
        task_id="s", python_callable=slow, retries=retries, on_failure_callback=lambda _: heard.append("failure"),
        on_retry_callback=lambda _: heard.append("retry"),
    )  # fmt: skip
    with pytest.raises(TaskTimeout):
        worker("s")
    assert heard == told


# Bash


def test_bash_returns_its_last_line_and_logs_every_one(worker, caplog):
    caplog.set_level("INFO")
    BashOperator(task_id="b", bash_command="echo one; echo two >&2; printf three")
    assert worker("b") == Succeeded()
    assert worker.value("b") == '"three"'
    lines = [record.getMessage() for record in caplog.records if record.name == "tidemill.task.b"]
    assert lines == ["one", "two", "three"]


def test_bash_has_its_environment_and_folder(worker, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSIDE", "yes")
    (tmp_path / "sub").mkdir()
    command = "echo $OUTSIDE,$DAY,$TIDEMILL_TASK,$(basename $PWD)"
    BashOperator(task_id="alone", bash_command=command, env={"DAY": "{{ ds }}"}, cwd="sub")
    BashOperator(task_id="added", bash_command=command, env={"DAY": "x"}, append_env=True)
    BashOperator(task_id="none", bash_command=command)
    BashOperator(task_id="nowhere", bash_command="ls", cwd="nowhere")
    for task in ("alone", "added", "none"):
        worker(task)
    assert worker.value("alone") == '",2026-01-15,alone,sub"'
    assert worker.value("added") == f'"yes,x,added,{tmp_path.name}"'
    assert worker.value("none") == f'"yes,,none,{tmp_path.name}"'
    assert 'no folder "nowhere"' in worker("nowhere").error


def test_bash_skips_by_99_and_fails_by_other_codes(worker):
    BashOperator(task_id="skip", bash_command="exit 99")
    BashOperator(task_id="never", bash_command="exit 99", skip_on_exit_code=None)
    BashOperator(task_id="some", bash_command="exit 3", skip_on_exit_code=[2, 3])
    BashOperator(task_id="bad", bash_command="echo why; exit 4")
    BashOperator(task_id="killed", bash_command="kill -9 $$")
    assert worker("skip") == worker("some") == Skipped()
    assert "exit code 99" in worker("never").error
    failed = worker("bad")
    assert failed.again
    assert "exit code 4.\n    why" in failed.error
    assert "signal SIGKILL" in worker("killed").error


def test_bash_makes_of_its_last_line_what_is_asked(worker):
    import json

    BashOperator(task_id="b", bash_command="echo '[1, 2]'", output_processor=json.loads)
    assert worker("b") == Succeeded(2)


def test_stopping_ends_the_whole_process_group(worker, tmp_path):
    """Also what the command has begun in the background."""
    BashOperator(task_id="b", bash_command=f"sleep 1000 & echo $! > {tmp_path / 'pid'}; wait")
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(worker("b")), daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
        assert time.monotonic() < until
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    stop_current()
    thread.join(10)
    assert not thread.is_alive()
    assert "signal SIGTERM" in ended[0].error
    while _alive(pid):
        assert time.monotonic() < until


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_decorated_bash_renders_what_the_function_returns(worker):
    @tm.task.bash
    def b(word):
        return f"echo {word} {{{{ ds }}}}"

    b("hi")
    worker("b")
    assert worker.value("b") == '"hi 2026-01-15"'

    @tm.task.bash
    def wrong():
        return 3

    wrong()
    assert "wrong() returned 3, which is no command" in worker("wrong").error


# Deciding


def test_a_branch_skips_what_it_did_not_choose_but_not_what_the_choice_leads_to(worker):
    choice: list[Any] = []
    b = BranchPythonOperator(task_id="b", python_callable=lambda: choice[0])
    x, y, join = (EmptyOperator(task_id=t) for t in ("x", "y", "join"))
    b >> [x, y, join]
    x >> join
    b >> EmptyOperator(task_id="clean").as_teardown()
    with tm.TaskGroup("g") as g:
        EmptyOperator(task_id="p") >> EmptyOperator(task_id="q")
    b >> g
    for chosen, skipped in (
        ("x", {"y", "g.p"}), (["y"], {"x", "join", "g.p"}), (None, {"x", "y", "join", "g.p"}),
        ("g", {"x", "y", "join"}), (["x", "y"], {"g.p"}), ([], {"x", "y", "join", "g.p"}),
    ):  # fmt: skip
        choice[:] = [chosen]
        assert set(worker("b").skip) == skipped
    choice[:] = ["z"]
    assert 'no task "z"' in worker("b").error
    choice[:] = [3]
    assert "chose 3" in worker("b").error


def test_a_branch_in_a_mapped_group_decides_for_its_index():
    registry.clear()

    @tm.dag
    def d():
        @tm.task.branch
        def choose(x):
            return "g.big" if x > 1 else "g.small"

        @tm.task_group
        def g(x):
            choose(x) >> [EmptyOperator(task_id="big"), EmptyOperator(task_id="small")]

        g.expand(x=[1, 2]) >> EmptyOperator(task_id="end", trigger_rule="none_failed")

    states = d().test().states
    assert [states[f"g.{t}"] for t in ("big[0]", "big[1]", "small[0]", "small[1]")] == [
        "skipped", "success", "success", "skipped",
    ]  # fmt: skip
    assert states["end"] == "success"


def test_a_short_circuit_skips_near_and_far(worker):
    a = ShortCircuitOperator(task_id="a", python_callable=lambda: 0)
    b = ShortCircuitOperator(task_id="b", python_callable=lambda: 0, ignore_downstream_trigger_rules=False)
    c = ShortCircuitOperator(task_id="c", python_callable=lambda: "go on")
    x, y = EmptyOperator(task_id="x"), EmptyOperator(task_id="y")
    [a, b, c] >> x >> y >> EmptyOperator(task_id="t").as_teardown()
    assert set(worker("a").skip) == {"x", "y"}
    assert set(worker("b").skip) == {"x"}
    assert worker("c").skip == ()


def test_latest_only(worker):
    LatestOnlyOperator(task_id="l") >> EmptyOperator(task_id="x")
    worker.clock.advance(timedelta(hours=3))
    assert worker("l") == Succeeded()
    worker.clock.advance(timedelta(days=1))
    assert worker("l") == Succeeded(skip=("x",))
    assert worker("l", kind=RunKind.MANUAL) == Succeeded()
    assert worker("l", kind=RunKind.BACKFILL) == Succeeded(skip=("x",))


# Virtual environments


def test_a_function_in_a_virtual_environment(worker, tmp_path):
    """Without requirements, so that nothing is fetched; its own Python sees none of this project's packages."""

    @tm.task.virtualenv(python_version=None)
    def inside(day, numbers):
        import sys
        from datetime import timedelta

        try:
            import polars

            found = polars.__name__
        except ImportError:
            found = None
        print("within")
        return [sys.prefix != sys.base_prefix, found, sum(numbers), day + timedelta(days=1)]

    inside(NIGHT.start, numbers=[1, 2])
    assert worker("inside") == Succeeded(4)
    assert worker.value("inside") == '[true,null,3,{"$":"datetime","v":"2026-01-16T00:00:00+00:00"}]'
    (ready,) = (tmp_path / ".tidemill" / "venvs").glob("*/.ready")
    made = ready.stat().st_mtime_ns
    worker("inside")
    assert ready.stat().st_mtime_ns == made

    def fails():
        raise ValueError("inside")

    VirtualenvOperator(task_id="fails", python_callable=fails)
    assert "ValueError: inside" in worker("fails").error
    VirtualenvOperator(task_id="lambda", python_callable=lambda: 1)
    assert "no plain function" in worker("lambda").error or "no source" in worker("lambda").error


def test_a_trial_reaches_what_it_is_given():
    registry.clear()
    with tm.DAG("d", schedule="@daily") as dag:
        TriggerDagRunOperator(task_id="t", trigger_dag_id="other")
        tm.task(lambda var, conn, context: [var.value.name, var.json.config["a"], var.value.get("no", 1),
                                            conn.db["host"]], task_id="v")()  # fmt: skip
    texts = {"name": "x", "config": '{"a": 1}'}
    trial = try_dag(dag, NIGHT, pipelines=Others(), variables=texts, connections={"db": {"host": "h"}})
    assert trial.result("t") == 101
    assert trial.result("v") == ["x", 1, 1, "h"]
    alone = dag.test(NIGHT)
    assert [(one.pipeline, one.conf) for one in alone.asked] == [("other", {})]
    assert 'no variable "name"' in alone.errors["v"]
