"""Performing tries: context, templates, results, how exceptions end them, callbacks, large values."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tidemill as tm
from tidemill.adapters.memory.xcoms import MemoryXComs
from tidemill.authoring import registry
from tidemill.authoring.task_context import TaskServices
from tidemill.flow import handing
from tidemill.flow.perform import perform
from tidemill.model.batch import Interval
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Failed, Rescheduled, Skipped, Succeeded
from tidemill.model.run import RunInfo, RunKind
from tidemill.operators import BashOperator, FailTask, PythonOperator, Reschedule, SkipTask, get_current_context
from tidemill.ports.executor import Job
from tidemill.testing.clock import ManualClock

NIGHT = Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC))


class Big:
    def __init__(self):
        self.kept = {}

    def put(self, name, content):
        self.kept[name] = content
        return f"archive/{name}"

    def get(self, address):
        return self.kept[address.removeprefix("archive/")]


class Worker:
    """Performs tries of one DAG and records what they hand over, as a scheduler would."""

    def __init__(self, root):
        registry.clear()
        self.clock, self.xcoms, self.big = ManualClock(), MemoryXComs(), Big()
        self.services = TaskServices(self.xcoms, self.clock, Path(root), big=self.big)
        self.dag = tm.DAG("d", schedule="@daily", start="2026-01-01", params={"n": 3})

    def __call__(self, task, index=WHOLE, *, failed=0, interval=NIGHT, conf=None, number=1, dag=None):
        key = None if interval else "k"
        run = RunInfo(7, 70, 1, "d", "v", "d.py", RunKind.SCHEDULED, interval, key, conf or {})
        job = Job(7, 1, (task, index), number, "default", self.clock.now(), None, run, failed)
        outcome, self.report = perform(dag or self.dag, job, self.services)
        self.xcoms.put(7, task, index, self.report.xcoms)
        return outcome

    def made(self, function, **options):
        """A task of a function, performed."""
        with self.dag:
            PythonOperator(task_id=function.__name__, python_callable=function, **options)
        return self(function.__name__)


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


def test_large_values_in_the_archives_files(tmp_path):
    from tidemill.adapters.memory.files import MemoryFiles
    from tidemill.flow.bigvalues import FileValues

    values = FileValues(MemoryFiles())
    address = values.put("7/a-1.json", b"content")
    assert values.put("7/a-1.json", b"content") == address
    assert values.get(address) == b"content"
    with pytest.raises(FileNotFoundError):
        values.get("xcoms/7/b.json")


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


# What it hands over


def test_results_and_pushed_values(worker):
    def f(ti):
        ti.xcom_push("day", datetime(2026, 1, 1, tzinfo=UTC))
        assert ti.xcom_pull(key="day") == datetime(2026, 1, 1, tzinfo=UTC)
        return {"a": 1, "b": {2}}

    assert worker.made(f, multiple_outputs=True) == Succeeded(2)
    kept = dict(worker.report.xcoms)
    assert kept["a"] == "1"
    assert kept["return_value"] == '{"a":1,"b":{"$":"set","v":[2]}}'
    assert set(kept) == {"day", "a", "b", "return_value"}

    def nothing():
        return None

    assert worker.made(nothing) == Succeeded()
    assert worker.report.xcoms == ()

    def g():
        return 1

    assert worker.made(g, do_xcom_push=False) == Succeeded()
    assert worker.report.xcoms == ()


def test_a_result_that_cannot_be_handed_over_fails_for_good(worker):
    def f():
        return object()

    failed = worker.made(f)
    assert not failed.again
    assert 'What "f" returns is or holds a builtins.object' in failed.error

    def g():
        return [1]

    assert "has multiple_outputs and returns list" in worker.made(g, multiple_outputs=True).error


def test_a_large_result_goes_by_reference(worker):
    text = "ä" * 100_000
    with worker.dag:
        one = PythonOperator(task_id="one", python_callable=lambda: text, show_return_value_in_logs=False)
        PythonOperator(task_id="two", python_callable=len, op_args=[one.output])
    worker("one")
    (kept,) = dict(worker.report.xcoms).values()
    assert len(kept) < 200
    assert len(worker.big.kept) == 1
    worker("two")
    assert worker.xcoms.get(7, "two") == "100000"


def test_a_hundred_megabytes_go_by_reference_and_beyond_the_limit_is_told(worker, monkeypatch):
    with worker.dag:
        PythonOperator(task_id="one", python_callable=lambda: "x" * 100_000_000, show_return_value_in_logs=False)
    assert worker("one") == Succeeded()
    assert len(worker.report.xcoms[0][1]) < 200
    monkeypatch.setattr(handing, "LARGEST", 50_000_000)
    failed = worker("one")
    assert not failed.again
    assert "takes 2.0 GB; at most 1 GB" in failed.error or "at most" in failed.error


def test_pulling(worker):
    with worker.dag:
        PythonOperator.partial(task_id="m", python_callable=lambda x: x * 2).expand(op_args=[[1], [2]])
        PythonOperator(
            task_id="p",
            python_callable=lambda ti: [
                ti.xcom_pull("m"), ti.xcom_pull("m", map_indexes=1), ti.xcom_pull(["m", "none"]),
                ti.xcom_pull("none", default=0), ti.xcom_pull(task_ids="m", map_indexes=[1, 0]),
            ],
        )  # fmt: skip
    worker("m", 0)
    worker("m", 1)
    worker("p")
    assert worker.xcoms.get(7, "p") == "[[2,4],4,[[2,4],null],0,[4,2]]"


def test_mapped_values_are_the_product_with_the_last_varying_fastest(worker):
    with worker.dag:
        some = PythonOperator(task_id="some", python_callable=lambda: {"k": 1, "l": 2})

        @tm.task
        def f(a, b, c):
            return [a, b, c]

        f.partial(c=0).expand(a=some.output, b=["x", "y"])
        f.override(task_id="rows").partial(c="{{ ds }}").expand_kwargs(
            some.output.map(lambda kv: {"a": kv[0], "b": kv[1]})
        )
        f.override(task_id="zip").partial(b=1, c=2).expand(a=some.output.zip(some.output.map(str), longest=True))
    assert worker("some") == Succeeded(2)
    for index in range(4):
        worker("f", index)
    found = [worker.xcoms.get(7, "f", map_index=index) for index in range(4)]
    pairs = [('{"$":"tuple","v":["k",1]}', "x"), ('{"$":"tuple","v":["k",1]}', "y")]
    assert found[:2] == [f'[{a},"{b}",0]' for a, b in pairs]
    assert '"l"' in found[2]
    worker("rows", 1)
    assert worker.xcoms.get(7, "rows", map_index=1) == '["l",2,"2026-01-15"]'
    worker("zip", 0)
    assert "('k', 1)" in worker.xcoms.get(7, "zip", map_index=0)


def test_an_instance_cannot_change_what_the_next_one_gets(worker):
    """Upstream lists are decoded once in a worker."""

    def f(row):
        row.append("changed")
        return row

    with worker.dag:
        some = PythonOperator(task_id="some", python_callable=lambda: [["a"], ["b"]])
        tm.task(f).expand(row=some.output)
    worker("some")
    for _ in range(2):
        worker("f", 1)
        assert worker.xcoms.get(7, "f", map_index=1) == '["b","changed"]'


def test_what_others_are_mapped_over_must_have_elements(worker):
    with worker.dag:
        for task_id, value in (("text", "abc"), ("nothing", None)):
            made = PythonOperator(task_id=task_id, python_callable=lambda value=value: value)
            BashOperator.partial(task_id=f"over_{task_id}").expand(bash_command=made.output)
    failed = worker("text")
    assert not failed.again
    assert '"over_text" is mapped over what "text" returns, and that is str \'abc\'' in failed.error
    assert "NoneType" in worker("nothing").error


def test_logs_go_to_the_tasks_logger(worker, caplog):
    caplog.set_level(logging.INFO)

    def f(ti):
        ti.log.info("hello from %s", ti.task_id)

    worker.made(f)
    assert [r.name for r in caplog.records if "hello from f" in r.getMessage()] == ["tidemill.task.f"]
