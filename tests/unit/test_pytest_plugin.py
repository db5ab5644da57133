"""The pytest plugin, as a user's own test files use it."""

from __future__ import annotations

import pytest

import layering

pytest_plugins = ["pytester"]

A_TEST_FILE = '''
from datetime import UTC, datetime

import tidemill as tm
from tidemill.operators import DateTimeSensor, PythonOperator


def test_a_dag(run_dag, manual_clock):
    with tm.DAG("nightly", schedule="@daily") as dag:
        wait = DateTimeSensor(task_id="wait", target_time=datetime(2024, 1, 1, 6, tzinfo=UTC))
        wait >> PythonOperator(task_id="say", python_callable=lambda ds, var: f"{ds} {var.value.who}")
    trial = run_dag(dag, variables={"who": "ann"})
    assert trial.ok
    assert trial.result("say") == "2023-12-31 ann"
    assert manual_clock.now() == datetime(2024, 1, 1, tzinfo=UTC)


def test_a_project(tidemill_project):
    tidemill_project.write("feeds/a.csv", "id\\n1\\n")
    tidemill_project.write("pipelines/shop.py", """
import tidemill as tm
shop = tm.Pipeline("shop")
rows = shop.files("feeds/a.csv")
with tm.DAG("hello"):
    tm.task(lambda: 1, task_id="one")()
""")
    made = tidemill_project.pipelines()
    assert set(made) == {"shop", "hello"}
    assert made["hello"].test().result("one") == 1
    made["shop"].run()
    assert len(tm.read("shop.rows")) == 1


def test_the_next_one_begins_anew(tidemill_project):
    assert tidemill_project.pipelines() == {}
'''


def test_users_tests_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(A_TEST_FILE)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_the_plugin_is_found_by_pytest_and_loads_no_driver() -> None:
    """Every pytest run of somebody who has installed Tidemill pays for it."""
    from importlib.metadata import entry_points

    found = {one.name: one.value for one in entry_points(group="pytest11")}
    assert found["tidemill"] == "tidemill.testing.plugin"
    heavy = {"polars", "duckdb", "pyarrow", "sqlalchemy", "jinja2", "jsonschema", "tidemill.authoring.dag"}
    assert layering.loaded_by("import tidemill.testing.plugin", heavy) == set()


def test_a_file_of_tasks_loads_no_driver() -> None:
    """Neither does its definition: scheduler and parser have thousands of them."""
    program = (
        "import tidemill as tm; from tidemill.operators import PythonOperator, BashOperator\n"
        "with tm.DAG('d', schedule='@daily', params={'n': 1}) as d:\n"
        "    PythonOperator(task_id='a', python_callable=print) >> BashOperator(task_id='b', bash_command='{{ ds }}')\n"
        "    tm.task(lambda: 1, task_id='c').expand\n"
        "d.definition()"
    )
    heavy = {"polars", "duckdb", "pyarrow", "sqlalchemy", "jinja2", "jsonschema", "sqlglot", "asyncio", "pandas"}
    assert layering.loaded_by(program, heavy) == set()
