"""What performed tries hand over: results, large values, mapped inputs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

import tidemill as tm
from harness.performing import Worker
from tidemill.authoring import registry
from tidemill.flow import handing
from tidemill.model.instance import Succeeded
from tidemill.operators import BashOperator, PythonOperator


@pytest.fixture
def worker(tmp_path):
    yield Worker(tmp_path)
    registry.clear()


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
