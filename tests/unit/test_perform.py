"""Performing tries: context, templates, how exceptions end them, callbacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import tidemill as tm
from harness.performing import NIGHT, Worker
from tidemill.authoring import registry
from tidemill.model.batch import Interval
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Failed, Rescheduled, Skipped, Succeeded
from tidemill.operators import BashOperator, FailTask, PythonOperator, Reschedule, SkipTask, get_current_context


@pytest.fixture
def worker(tmp_path):
    yield Worker(tmp_path)
    registry.clear()


# What it is told


def test_the_context_has_airflows_names(worker):
    seen = {}

    def look(**context):
        seen.update(context)

    assert worker.made(look) == Succeeded()
    assert {name: seen[name] for name in (
        "ds", "ds_nodash", "ts", "ts_nodash", "prev_ds", "next_ds", "yesterday_ds", "tomorrow_ds_nodash", "run_id",
        "map_index", "batch_id", "try_number", "test_mode", "params",
    )} == {
        "ds": "2026-01-15", "ds_nodash": "20260115", "ts": "2026-01-15T00:00:00+00:00", "ts_nodash": "20260115T000000",
        "prev_ds": "2026-01-14", "next_ds": "2026-01-16", "yesterday_ds": "2026-01-14",
        "tomorrow_ds_nodash": "20260116", "run_id": "scheduled__2026-01-15T00:00:00+00:00", "map_index": -1,
        "batch_id": 70, "try_number": 1, "test_mode": False, "params": {"n": 3},
    }  # fmt: skip
    assert (seen["data_interval_start"], seen["data_interval_end"]) == (NIGHT.start, NIGHT.end)
    assert seen["logical_date"] == seen["execution_date"] == NIGHT.start
    assert seen["ti"].task_id == seen["task"].task_id == "look"
    assert seen["dag"].dag_id == seen["dag_run"].dag_id == "d"
    assert seen["prev_interval"].end == NIGHT.start


def test_a_function_gets_what_its_parameters_name(worker):
    def f(first, ds, *, ti, context, own=5, params=None):
        assert get_current_context() is context
        assert context["ds"] == context.ds == ds
        with pytest.raises(AttributeError, match='did you mean "ds"'):
            context.dss  # noqa: B018
        return [first, ds, ti.task_id, own, params["n"]]

    worker.made(f, op_args=["x"])
    assert worker.xcoms.get(7, "f") == '["x","2026-01-15","f",5,3]'
    with pytest.raises(tm.TidemillError, match="No task is being executed"):
        get_current_context()


def test_a_run_without_an_interval(worker):
    with worker.dag:
        PythonOperator(task_id="f", python_callable=lambda run_id, data_interval_start: [run_id, data_interval_start])
        BashOperator(task_id="b", bash_command="echo {{ ds }}")
    worker("f", interval=None)
    assert worker.xcoms.get(7, "f") == '["k",null]'
    failed = worker("b", interval=None)
    assert isinstance(failed, Failed)
    assert "this run has no data interval" in failed.error


def test_params_come_from_the_run(worker):
    worker.dag.params["n"] = tm.Param(1, type="integer").schema
    with worker.dag:
        PythonOperator(task_id="f", python_callable=lambda params: params["n"])
    assert worker("f", conf={"n": 9, "other": 1}) == Succeeded()
    assert worker.xcoms.get(7, "f") == "9"
    wrong = worker("f", conf={"n": "nine"})
    assert isinstance(wrong, Failed)
    assert "Parameter \"n\" does not fit: 'nine' is not of type 'integer'" in wrong.error
    assert not wrong.again


# Templates


def test_templates_are_rendered_in_fields_of_any_depth(worker):
    with worker.dag:
        PythonOperator(
            task_id="f",
            python_callable=lambda *a, **k: [list(a), k["x"]],
            op_args=["{{ ds }}", ("{{ params.n + 1 }}",)],
            op_kwargs={"x": {"k": ["{{ macros.ds_add(ds, -1) }}", 5]}},
        )
    worker("f")
    assert worker.xcoms.get(7, "f") == (
        '[["2026-01-15",{"$":"tuple","v":["4"]}],{"k":["2026-01-14",5]}]'
    )  # fmt: skip


def test_a_try_renders_anew(worker):
    """A worker performs the same task for one run after the other."""
    with worker.dag:
        PythonOperator(task_id="f", python_callable=lambda x: x, op_args=["{{ ds }}"])
    worker("f")
    day = Interval(NIGHT.end, NIGHT.end + timedelta(days=1))
    worker("f", interval=day)
    assert worker.xcoms.get(7, "f") == '"2026-01-16"'


def test_a_wrong_template_is_told_with_the_users_line_and_not_tried_again(worker):
    with worker.dag:
        BashOperator(task_id="b", bash_command="echo {{ dss }}", retries=3)
    failed = worker("b")
    assert isinstance(failed, Failed)
    assert not failed.again
    assert 'no template variable "dss"' in failed.error
    assert "test_perform.py:" in failed.error
    assert 'did you mean "ds"' in failed.error


def test_templates_cannot_reach_pythons_insides(worker):
    with worker.dag:
        BashOperator(task_id="b", bash_command="{{ task.__class__.__init__.__globals__ }}")
    assert "may not do this" in worker("b").error


def test_files_of_templates_are_read_within_the_project(worker, tmp_path):
    (tmp_path / "say.sh").write_text("echo 'file of {{ ds }}'\n")
    outside = tmp_path.parent / "outside.sh"
    outside.write_text("echo secret\n")
    with worker.dag:
        BashOperator(task_id="b", bash_command="say.sh")
        BashOperator(task_id="missing", bash_command="sy.sh")
        BashOperator(task_id="out", bash_command="../outside.sh")
    worker("b")
    assert worker.xcoms.get(7, "b") == '"file of 2026-01-15"'
    assert 'There is no template "sy.sh"' in worker("missing").error
    assert "outside of the project" in worker("out").error


def test_a_result_is_data_and_never_a_template(worker):
    evil = "{{ 1 + 1 }}"
    with worker.dag:
        one = PythonOperator(task_id="one", python_callable=lambda: [evil])
        PythonOperator(task_id="direct", python_callable=lambda x: x, op_args=[one.output])
        PythonOperator.partial(task_id="mapped", python_callable=lambda x: x).expand(
            op_args=one.output.map(lambda x: [x])
        )
        BashOperator.partial(task_id="bash").expand(bash_command=["echo {{ 2 + 2 }}"])
    for task, index in (("one", WHOLE), ("direct", WHOLE), ("mapped", 0), ("bash", 0)):
        assert worker(task, index) == (Succeeded(1) if index == WHOLE else Succeeded())
    assert worker.xcoms.get(7, "direct") == '["{{ 1 + 1 }}"]'
    assert worker.xcoms.get(7, "mapped", map_index=0) == '"{{ 1 + 1 }}"'
    assert worker.xcoms.get(7, "bash", map_index=0) == '"4"'


def test_native_templates_give_values(tmp_path):
    worker = Worker(tmp_path)
    dag = tm.DAG("native", render_template_as_native_obj=True, user_defined_macros={"twice": lambda x: [x, x]},
                 user_defined_filters={"up": str.upper})  # fmt: skip
    with dag:
        PythonOperator(task_id="f", python_callable=lambda *a: list(a), op_args=["{{ twice(2) }}", "a {{ 'b' | up }}"])
    worker("f", dag=dag)
    assert worker.xcoms.get(7, "f") == '[[2,2],"a B"]'


# How it ends


def test_exceptions_end_tries(worker):
    def skip():
        raise SkipTask("not today")

    def fail():
        raise FailTask("never")

    def wait():
        raise Reschedule(datetime(2026, 2, 1, tzinfo=UTC))

    def broken():
        return {}["a"]

    assert worker.made(skip) == Skipped()
    assert worker.made(wait) == Rescheduled(datetime(2026, 2, 1, tzinfo=UTC))
    final = worker.made(fail)
    assert (final.again, "FailTask: never" in final.error) == (False, True)
    again = worker.made(broken)
    assert again.again
    assert again.error.startswith("KeyError: 'a'\n  at: ")
    assert "test_perform.py" in again.error
    assert again.error.endswith("in broken")


def test_leaving_python_ends_the_task_and_not_the_worker(worker):
    def leave():
        raise SystemExit(3)

    assert "SystemExit: 3" in worker.made(leave).error


def test_instances_of_a_function_that_returns_a_dictionary_hand_over_its_entries(worker):
    with worker.dag:

        @tm.task
        def f(x) -> dict[str, int]:
            return {"double": 2 * x}

        f.expand(x=[4])
    worker("f", 0)
    assert worker.xcoms.get(7, "f", "double", 0) == "8"


def test_a_function_of_an_element_may_skip_its_instance(worker):
    def odd(x):
        if x % 2 == 0:
            raise SkipTask("even")
        return x

    with worker.dag:
        some = PythonOperator(task_id="some", python_callable=lambda: [1, 2])
        tm.task(lambda x: x, task_id="f").expand(x=some.output.map(odd))
    worker("some")
    assert worker("f", 0) == Succeeded()
    assert worker("f", 1) == Skipped()


def test_which_exceptions_are_tried_again(worker):
    def raises(kind):
        def f():
            raise kind("x")

        return f

    with worker.dag:
        for kind in (ConnectionError, ValueError):
            PythonOperator(task_id=f"only_{kind.__name__}", python_callable=raises(kind), retry_on=OSError)
            PythonOperator(task_id=f"not_{kind.__name__}", python_callable=raises(kind), no_retry_on=[ValueError])
    assert {name: worker(name).again for name in worker.dag.task_ids} == {
        "only_ConnectionError": True, "not_ConnectionError": True, "only_ValueError": False, "not_ValueError": False,
    }  # fmt: skip


def test_callbacks_hear_how_it_ended_and_change_nothing(worker, caplog):
    heard = []

    def hear(name):
        def callback(context):
            heard.append((name, context["ti"].task_id, str(context["exception"])))
            raise RuntimeError("of the callback")

        return callback

    every = {f"on_{event}_callback": hear(event) for event in ("execute", "success", "failure", "retry", "skipped")}

    def fail():
        raise ValueError("bad")

    def skip():
        raise SkipTask("no")

    with worker.dag:
        PythonOperator(task_id="good", python_callable=lambda: None, **every)
        PythonOperator(task_id="bad", python_callable=fail, retries=1, **every)
        PythonOperator(task_id="skip", python_callable=skip, **every)
    assert worker("good") == Succeeded()
    worker("bad")
    worker("bad", failed=1)
    worker("skip")
    assert heard == [
        ("execute", "good", "None"), ("success", "good", "None"),
        ("execute", "bad", "None"), ("retry", "bad", "bad"),
        ("execute", "bad", "None"), ("failure", "bad", "bad"),
        ("execute", "skip", "None"), ("skipped", "skip", "None"),
    ]  # fmt: skip
    assert "of the callback" in caplog.text


def test_a_task_that_the_version_does_not_have(worker):
    assert worker("gone") == Failed('DAG "d" has no task "gone".', again=False)
