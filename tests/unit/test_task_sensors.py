"""Sensors and other pipelines: how tasks wait, and what for."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

import tidemill as tm
from harness.operating import NIGHT, Worker
from tidemill.authoring import registry
from tidemill.model.instance import Failed, Rescheduled, Skipped, Succeeded
from tidemill.model.run import RunState, TaskState
from tidemill.operators import (
    DateTimeSensor,
    EmptyOperator,
    ExternalTaskSensor,
    FileSensor,
    PokeReturnValue,
    PythonSensor,
    TableSensor,
    TimeDeltaSensor,
    TimeSensor,
    TriggerDagRunOperator,
)


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Worker(tmp_path)
    with made.dag:
        yield made
    registry.clear()


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
