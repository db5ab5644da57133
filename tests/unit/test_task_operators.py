"""Operators and sensors: what each does, how it waits, how it is stopped."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tidemill as tm
from tidemill.adapters.memory.xcoms import MemoryXComs
from tidemill.authoring import registry
from tidemill.authoring.task_context import TaskServices
from tidemill.flow.perform import perform, stop_current
from tidemill.model.batch import Interval
from tidemill.model.errors import UnknownName
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Failed, Rescheduled, Skipped, Succeeded
from tidemill.model.run import RunInfo, RunKind, RunState, TaskState
from tidemill.operators import (
    BashOperator,
    BranchPythonOperator,
    DateTimeSensor,
    EmptyOperator,
    ExternalTaskSensor,
    FileSensor,
    LatestOnlyOperator,
    PokeReturnValue,
    PythonSensor,
    ShortCircuitOperator,
    TableSensor,
    TimeDeltaSensor,
    TimeSensor,
    TriggerDagRunOperator,
    VirtualenvOperator,
)
from tidemill.ports.executor import Job
from tidemill.testing.clock import ManualClock
from tidemill.wiring.trials import try_dag

NIGHT = Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC))


class Others:
    """Other pipelines, as the test has them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.states: dict[Any, Any] = {}

    def trigger(self, pipeline, **given):
        if pipeline == "none":
            raise UnknownName.of("pipeline", pipeline, ["other"])
        self.asked.append({"pipeline": pipeline, **given})
        return 100 + len(self.asked)

    def run_state(self, run_id):
        return self.states.get(run_id)

    def state_at(self, pipeline, moment):
        return self.states.get((pipeline, moment))

    def task_states_at(self, pipeline, task, moment):
        return self.states.get((pipeline, task, moment), [])

    def published(self, table, interval):
        return (table, interval) in self.states


class Worker:
    def __init__(self, root: Path) -> None:
        self.clock, self.xcoms, self.others = ManualClock(NIGHT.end), MemoryXComs(), Others()
        self.services = TaskServices(self.xcoms, self.clock, root, pipelines=self.others)
        self.dag = tm.DAG("d", schedule="@daily", start="2026-01-01", zone="Europe/London")

    def __call__(self, task, index=WHOLE, *, failed=0, kind=RunKind.SCHEDULED, interval=NIGHT):
        run = RunInfo(7, 70, 1, "d", "v", "d.py", kind, interval, None if interval else "k")
        job = Job(7, 1, (task, index), 1, "default", self.clock.now(), None, run, failed)
        outcome, self.report = perform(self.dag, job, self.services)
        self.xcoms.put(7, task, index, self.report.xcoms)
        return outcome

    def value(self, task):
        return self.xcoms.get(7, task)


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Worker(tmp_path)
    with made.dag:
        yield made
    registry.clear()


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
    until = time.monotonic() + 10
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


# Other pipelines


def test_triggering_asks_once_and_waits(worker):
    TriggerDagRunOperator(task_id="t", trigger_dag_id="other", conf={"day": "{{ ds }}"}, wait_for_completion=True,
                          poke_interval=30)  # fmt: skip
    first = worker("t")
    assert first == Rescheduled(worker.clock.now() + timedelta(seconds=30))
    (asked,) = worker.others.asked
    assert asked["pipeline"] == "other"
    assert asked["conf"] == {"day": "2026-01-15"}
    assert isinstance(worker("t"), Rescheduled)
    worker.others.states[101] = RunState.SUCCESS
    assert worker("t") == Succeeded()
    assert worker.value("t") == "101"
    assert len(worker.others.asked) == 1
    worker.others.states[101] = RunState.FAILED
    assert "Run 101 of other ended as failed" in worker("t").error
    # Another try asks anew.
    assert isinstance(worker("t", failed=1), Rescheduled)
    assert worker.others.asked[1]["again"]
    assert worker.others.asked[0]["run_key"] == worker.others.asked[1]["run_key"]


def test_triggering_what_is_not_there(worker):
    TriggerDagRunOperator(task_id="t", trigger_dag_id="none")
    assert 'no pipeline "none"' in worker("t").error
    assert isinstance(worker("t"), Failed)


def test_waiting_for_another_pipeline(worker):
    ExternalTaskSensor(task_id="run", external_dag_id="o", mode="reschedule", failed_states=["failed"])
    ExternalTaskSensor(task_id="tasks", external_dag_id="o", external_task_ids=["a", "b"], mode="reschedule",
                       skipped_states=["skipped"], execution_delta=timedelta(hours=1))  # fmt: skip
    assert isinstance(worker("run"), Rescheduled)
    worker.others.states["o", NIGHT.start] = RunState.SUCCESS
    assert worker("run") == Succeeded()
    worker.others.states["o", NIGHT.start] = RunState.FAILED
    assert not worker("run").again
    earlier = NIGHT.start - timedelta(hours=1)
    worker.others.states["o", "a", earlier] = [TaskState.SUCCESS]
    assert isinstance(worker("tasks"), Rescheduled)
    worker.others.states["o", "b", earlier] = [TaskState.SUCCESS, TaskState.RUNNING]
    assert isinstance(worker("tasks"), Rescheduled)
    worker.others.states["o", "b", earlier] = [TaskState.SUCCESS]
    assert worker("tasks") == Succeeded()
    worker.others.states["o", "b", earlier] = [TaskState.SKIPPED]
    assert worker("tasks") == Skipped()


def test_waiting_for_a_table(worker):
    TableSensor(task_id="t", table="shop.orders", mode="reschedule")
    assert isinstance(worker("t"), Rescheduled)
    worker.others.states["shop.orders", NIGHT] = True
    assert worker("t") == Succeeded()


# Sensors


def test_a_poking_sensor_keeps_its_worker(worker):
    begun = worker.clock.now()
    PythonSensor(
        task_id="s", poke_interval=10, python_callable=lambda: worker.clock.now() >= begun + timedelta(seconds=25)
    )
    assert worker("s") == Succeeded()
    assert worker.clock.now() == begun + timedelta(seconds=30)


def test_a_rescheduling_sensor_gives_it_back_and_remembers_when_it_began(worker):
    PythonSensor(task_id="s", poke_interval=60, timeout=150, mode="reschedule", python_callable=lambda: False)
    begun = worker.clock.now()
    for seconds in (60, 120, 150):
        assert worker("s") == Rescheduled(begun + timedelta(seconds=seconds))
        worker.clock.advance(begun + timedelta(seconds=seconds) - worker.clock.now())
    failed = worker("s")
    assert not failed.again
    assert "has waited for 0:02:30" in failed.error


def test_a_sensor_that_fails_softly_skips(worker):
    PythonSensor(task_id="s", poke_interval=60, timeout=100, soft_fail=True, python_callable=lambda: False)
    assert worker("s") == Skipped()


def test_waits_grow(worker):
    PythonSensor(task_id="s", poke_interval=1, exponential_backoff=True, max_wait=8, mode="reschedule",
                 python_callable=lambda: False)  # fmt: skip
    waits = []
    for _ in range(6):
        at = worker("s").at
        waits.append((at - worker.clock.now()).total_seconds())
        worker.clock.advance(at - worker.clock.now())
    assert waits == [1, 2, 4, 8, 8, 8]


def test_a_sensor_may_return_a_value_and_survive_errors(worker):
    looks = []

    @tm.task.sensor(poke_interval=5, silent_fail=True)
    def s(ds):
        looks.append(ds)
        if len(looks) == 1:
            raise ConnectionError("not yet")
        return PokeReturnValue(len(looks) == 3, {"found": ds})

    s()
    assert worker("s") == Succeeded(1)
    assert worker.value("s") == '{"found":"2026-01-15"}'
    with pytest.raises(tm.TidemillError, match='no mode of sensors "defer"'):
        PythonSensor(task_id="m", python_callable=print, mode="defer")


def test_waiting_for_files(worker, tmp_path):
    FileSensor(task_id="f", filepath="in/{{ ds }}*.csv", mode="reschedule")
    FileSensor(task_id="folder", filepath="in", mode="reschedule")
    (tmp_path / "in").mkdir()
    assert isinstance(worker("f"), Rescheduled)
    assert isinstance(worker("folder"), Rescheduled)
    (tmp_path / "in" / "2026-01-15.csv").touch()
    assert worker("f") == worker("folder") == Succeeded()


def test_waiting_for_moments_needs_no_worker(worker):
    DateTimeSensor(task_id="d", target_time="{{ data_interval_end + macros.timedelta(hours=2) }}")
    TimeDeltaSensor(task_id="t", delta=timedelta(hours=3))
    TimeSensor(task_id="at", target_time=datetime(2026, 1, 1, 4, 30).time())
    two, three = NIGHT.end + timedelta(hours=2), NIGHT.end + timedelta(hours=3)
    assert worker("d") == Rescheduled(two)
    assert worker("t") == Rescheduled(three)
    assert worker("at") == Rescheduled(NIGHT.end + timedelta(hours=4, minutes=30))
    worker.clock.advance(timedelta(hours=3))
    assert worker("d") == worker("t") == Succeeded()
    worker.clock.advance(timedelta(days=1))
    assert worker("at") == Succeeded()


async def arrives(name: str) -> None:
    """What an async sensor waits for."""
    await asyncio.sleep(0)
    seen.append(name)


seen: list[str] = []


def test_an_async_sensor_is_awaited_elsewhere_and_then_goes_on():
    registry.clear()
    seen.clear()
    with tm.DAG("d") as dag:
        PythonSensor(task_id="s", python_callable=arrives, op_kwargs={"name": "x"}) >> EmptyOperator(task_id="e")

        async def local():
            pass

        PythonSensor(task_id="no", python_callable=local)
    import sys

    sys.modules.setdefault(arrives.__module__, sys.modules[__name__])
    trial = dag.test()
    assert (trial.states["s"], trial.states["e"], seen) == ("success", "success", ["x"])
    assert "cannot be awaited elsewhere" in trial.errors["no"]


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
    assert "Other pipelines cannot be reached" in alone.errors["t"]
    assert 'no variable "name"' in alone.errors["v"]
