"""dbt projects as tasks, with the real dbt: in one process by `dag.test()`, on DuckDB and on PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import tidemill as tm
from harness.dbt import dbt_python, dbt_shop
from harness.postgres import Postgres
from tidemill.adapters.dbt.process import WarmProcess
from tidemill.adapters.dbt.projects import DbtProjects
from tidemill.authoring import registry
from tidemill.authoring.task_context import DBT_VARS
from tidemill.flow.trial import Trial
from tidemill.model.errors import DefinitionError, RunFailed
from tidemill.ports.dbt import DbtCall, DbtPlace
from tidemill.wiring.dbt import dbt_environments, open_dbt
from tidemill.wiring.trials import try_dag

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def python() -> str:
    return str(dbt_python())


def projects(root: Path) -> DbtProjects:
    """An adapter of its own, as each process has it."""
    state = root / ".tidemill"
    return DbtProjects(state, DBT_VARS, dbt_environments(state / "venvs"))


#: The file of the project: what runs its dbt is known by where it is.
FILE = """
import tidemill as tm
from tidemill.operators import DbtProject

with tm.DAG("shop_dbt", schedule="@daily", start="2026-01-01") as dag:
    DbtProject("dbt/shop", **options)
"""


class Shop:
    """The project in a folder; what parses it also runs it, in a process that stays warm."""

    def __init__(self, root: Path, python: str, **options: Any) -> None:
        self.root = root
        self.folder = dbt_shop(root)
        self.file = root / "pipelines" / "shop_dbt.py"
        self.file.write_text(FILE)
        self.python = python
        self.options = options
        self.dbt = open_dbt(root)

    def place(self, **more: Any) -> DbtPlace:
        return DbtPlace((self.folder,), python=self.python, **more)

    def dag(self, **more: Any) -> tm.DAG:
        registry.clear()
        names: dict[str, Any] = {"options": {"python": self.python, **self.options, **more}}
        exec(compile(FILE, str(self.file), "exec"), names)
        made: tm.DAG = names["dag"]
        return made

    def run(self, when: str, tasks: list[str] | None = None, **more: Any) -> Trial:
        return try_dag(self.dag(**more), when, tasks=tasks)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "shop.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory, python: str) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"), python)
    yield made
    made.dbt.close()


@pytest.fixture
def shop(open_shop: Shop) -> Shop:
    """As new, but that its process is warm: dbt's import alone takes two seconds."""
    dbt_shop(open_shop.root)
    return open_shop


TASKS = {
    "shop.raw_orders": (), "shop.raw_customers": (), "shop.stg_orders": ("raw_orders",), "shop.orders": ("stg_orders",),
    "shop.orders.test": ("orders", "raw_customers"), "shop.customers": ("raw_customers", "orders.test"),
    "shop.customers.test": ("customers",), "shop.customer_names": ("customers.test",),
}  # fmt: skip
#: What the table of orders needs: each task is a call of dbt, which takes a second.
ORDERS = ["shop.raw_orders", "shop.stg_orders", "shop.orders"]


def test_a_project_is_a_group_of_tasks_with_edges_tables_docs_and_places(shop: Shop) -> None:
    made = shop.dag()
    found = {one.task_id: {up.removeprefix("shop.") for up in one.upstream_task_ids} for one in made.tasks}
    assert found == {name: set(above) for name, above in TASKS.items()}
    info = made.definition().tasks["shop.orders"]
    assert (info.operator, info.group, info.doc) == ("dbt_run", ("shop",), "Every paid order once.")
    assert info.place == f"{shop.folder}/models/orders.sql:1"
    assert (info.inlets, info.outlets) == (("shop.main.stg_orders",), ("shop.main.orders",))


def test_each_interval_runs_warm_with_its_own_variables(shop: Shop) -> None:
    """`paid` is ephemeral: what the first run has compiled must not be in the second's way, nor its dates."""
    first = shop.run("2026-01-01").check()
    assert first.services.dbt is shop.dbt
    process = next(iter(shop.dbt._warm.values()))
    pid = process.pid
    assert shop.rows("SELECT id, loaded_for FROM orders ORDER BY id") == [(1, "2026-01-01"), (2, "2026-01-01")]
    shop.run("2026-01-02", ORDERS).check()
    shop.run("2026-01-03").check()
    assert process.pid == pid, "one process for all"
    assert shop.rows("SELECT id, loaded_for FROM orders ORDER BY id") == [
        (1, "2026-01-01"), (2, "2026-01-01"), (3, "2026-01-02"), (4, "2026-01-03"),
    ]  # fmt: skip
    assert shop.rows("SELECT count(*) FROM customer_names") == [(3,)]
    assert first.result("shop.raw_orders")["rows"] == 4
    assert first.result("shop.orders.test")["unique_orders_id"] == "pass"
    sql = Path(first.result("shop.orders")["compiled_path"]).read_text()
    assert "__dbt__cte__paid" in sql


def test_a_failed_model_tells_dbts_message_and_its_sql_and_is_tried_again_from_there(shop: Shop) -> None:
    model = shop.folder / "models" / "customers.sql"
    good = model.read_text()
    model.write_text(good.replace("c.name,", "c.nome as name,", 1))
    broken = shop.run("2026-01-02")
    assert {name: str(state) for name, state in broken.states.items()} == {
        **dict.fromkeys(TASKS, "success"), "shop.customers": "failed", "shop.customers.test": "upstream_failed",
        "shop.customer_names": "upstream_failed",
    }  # fmt: skip
    error = broken.errors["shop.customers"]
    assert error.startswith("customers (models/customers.sql): Runtime Error")
    assert "nome" in error.partition("compiled SQL:")[2], "the SQL as it was sent"
    assert f"at: {model}:1" in error
    model.write_text(good)
    again = shop.run("2026-01-02", ["shop.customers", "shop.customers.test", "shop.customer_names"]).check()
    assert again.order == ["shop.customers", "shop.customers.test", "shop.customer_names"]


def test_a_failed_test_holds_back_what_would_be_made_from_bad_rows(shop: Shop) -> None:
    seed = shop.folder / "seeds" / "raw_orders.csv"
    seed.write_text(seed.read_text() + "5,nobody,2026-01-01,50\n")
    made = shop.run("2026-01-01")
    assert str(made.states["shop.orders.test"]) == "failed"
    assert str(made.states["shop.customers"]) == "upstream_failed"
    error = made.errors["shop.orders.test"]
    assert error.startswith("1 of 4 dbt tests failed:\nrelationships_orders_customer")
    assert "Got 1 result, configured to fail if != 0" in error


SOURCES = """
sources:
  - name: outside
    schema: main
    tables:
      - name: raw_orders
        config:
          loaded_at_field: cast(day as timestamp)
          freshness: {error_after: {count: 1, period: day}}
        columns:
          - {name: id, data_tests: [unique]}
unit_tests:
  - name: cents_are_hundredfold
    model: stg_orders
    given:
      - input: ref('raw_orders')
        rows: [{id: 1, customer: ann, day: "2026-01-01", amount: 2}]
    expect:
      rows: [{id: 1, cents: 200}]
"""


def test_sources_are_asked_how_old_they_are_and_unit_tests_run_with_their_model(shop: Shop) -> None:
    (shop.folder / "models" / "sources.yml").write_text(SOURCES)
    (shop.folder / "models" / "taken.sql").write_text('select id from {{ source("outside", "raw_orders") }}\n')
    chosen = {"freshness": True, "select": "source:outside+ +stg_orders"}
    shop.run("2026-01-02", ["shop.raw_orders"], **chosen).check()
    made = shop.run("2026-01-02", **chosen)
    assert made.result("shop.stg_orders.test") == {"cents_are_hundredfold": "pass"}
    error = made.errors["shop.outside.raw_orders.freshness"]
    assert error.startswith("raw_orders (models/sources.yml): error: its newest row is of 2026-01-03")
    assert str(made.states["shop.taken"]) == "upstream_failed", "nothing is made from what is too old"


def test_a_selection_variables_and_a_full_refresh_reach_dbt(shop: Shop) -> None:
    wanted = {"select": "+stg_orders", "vars": {"data_interval_end": "{{ ds }}"}}
    made = shop.run("2026-01-03", **wanted).check()
    assert list(made.states) == ["shop.raw_orders", "shop.stg_orders"]
    assert shop.rows("SELECT max(id) FROM stg_orders") == [(3,)], "before the day, as the user's variable says"
    shop.run("2026-01-03", ORDERS).check()
    shop.run("2026-01-02", ORDERS, full_refresh="{{ ds == '2026-01-02' }}").check()
    assert shop.rows("SELECT DISTINCT loaded_for FROM orders") == [("2026-01-02",)]


def test_a_graph_that_hangs_on_the_interval_is_parsed_for_each(shop: Shop) -> None:
    """An alias is settled when dbt parses: shared between intervals, rows would go to another day's table."""
    (shop.folder / "models" / "daily.sql").write_text(
        '{{ config(alias="daily_" ~ var("ds_nodash")) }}\nselect 1 as n\n'
    )
    for day in ("2026-01-01", "2026-01-02"):
        shop.run(day, select="daily").check()
    tables = shop.rows("SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'daily%' ORDER BY 1")
    assert tables == [("daily_20260101",), ("daily_20260102",)]


@pytest.mark.parametrize(
    ("file", "text", "message", "place"),
    [
        ("models/bad.sql", "select {{ nothing(\n", "unexpected", "models/bad.sql:1"),
        ("models/lost.sql", "select * from {{ ref('nowhere') }}\n", "nowhere", "models/lost.sql"),
        ("models/bad.yml", "models:\n  - name: [\n", "Syntax error near line 3", "models/bad.yml:3"),
    ],
)
def test_a_broken_project_is_one_clear_error(shop: Shop, file: str, text: str, message: str, place: str) -> None:
    (shop.folder / file).write_text(text)
    with pytest.raises(DefinitionError, match=message) as caught:
        shop.dag()
    assert "Traceback" not in str(caught.value)
    assert caught.value.where == f"{shop.folder}/{place}"


def test_the_project_is_parsed_once_for_as_long_as_nothing_changes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.dbt.graph(shop.place(), timeout=120)
    kept = next((shop.root / ".tidemill" / "dbt" / "graphs").glob("*.json"))
    stamp = kept.stat().st_mtime_ns
    with monkeypatch.context() as alone:
        alone.setattr(WarmProcess, "ask", None)
        assert shop.dbt.graph(shop.place(), timeout=120) == first
    assert kept.stat().st_mtime_ns == stamp
    (shop.folder / "models" / "more.sql").write_text("select 1 as one\n")
    assert len(shop.dbt.graph(shop.place(), timeout=120).nodes) == len(first.nodes) + 1


def test_parsing_has_a_time_limit(shop: Shop) -> None:
    (shop.folder / "models" / "late.sql").write_text("select 1 as one\n")
    with pytest.raises(DefinitionError, match="parse this project within"):
        shop.dbt.graph(shop.place(), timeout=0.05)


def test_a_stopped_process_is_started_anew(shop: Shop) -> None:
    shop.dbt.graph(shop.place(), timeout=120)
    slow = shop.folder / "models" / "slow.sql"
    slow.write_text("select count(*) as n from range(1000000000000) where sin(range) > 2\n")
    call = DbtCall("run", ("model.shop.slow",))
    began: list[str] = []

    def stop_once_it_runs(_level: str, text: str) -> None:
        began.append(text)
        shop.dbt.stop()

    with pytest.raises(RunFailed, match="was stopped"):
        shop.dbt.run(shop.place(), call, stop_once_it_runs)
    assert "START" in began[-1]
    done = shop.dbt.run(shop.place(), DbtCall("seed", ("seed.shop.raw_orders",)), lambda _level, _text: None)
    assert [(one.status, one.rows) for one in done] == [("success", 4)]


def test_two_processes_take_turns_at_one_duckdb_file(shop: Shop) -> None:
    """DuckDB lets one process have a file; each writes to a folder of its own."""
    from concurrent.futures import ThreadPoolExecutor

    shop.dbt.graph(shop.place(), timeout=120)
    others = [projects(shop.root) for _ in range(2)]

    def seed(dbt: DbtProjects) -> list[str]:
        call = DbtCall("seed", ("seed.shop.raw_orders",))
        return [dbt.run(shop.place(), call, lambda _level, _text: None)[0].status for _ in range(2)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(seed, others)) == [["success"] * 2] * 2
    for one in others:
        one.close()
    assert len(list((shop.root / ".tidemill" / "dbt").glob("*/lane-*"))) >= 2


def test_the_warm_process_ends_with_whoever_asked(python: str, tmp_path: Path) -> None:
    process = WarmProcess(Path(python), tmp_path)
    started = process._started()
    assert started.stdin is not None
    started.stdin.close()
    assert started.wait(10) == 0
    process.kill()


@pytest.mark.postgres
def test_the_same_project_on_postgresql(
    tmp_path: Path, python: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    url = postgres.new_database()
    monkeypatch.setenv("SHOP_PORT", str(postgres.port))
    monkeypatch.setenv("SHOP_PASSWORD", postgres.password)
    monkeypatch.setenv("SHOP_DATABASE", url.rpartition("/")[2])
    made = Shop(tmp_path, python, target="server")
    made.run("2026-01-01").check()
    trial = made.run("2026-01-02", ORDERS).check()
    made.dbt.close()
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT id, loaded_for FROM shop.orders ORDER BY id").fetchall()
    assert found == [(1, "2026-01-01"), (2, "2026-01-01"), (3, "2026-01-02")]
    assert trial.result("shop.orders")["rows"] == 1, "PostgreSQL says how many rows it wrote"
    assert made.dag().task_dict["shop.orders"].outlets == (f"{os.environ['SHOP_DATABASE']}.shop.orders",)
