"""`tidemill up` runs a dbt project: its tasks, logs and rows, the retry from the failed model, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from harness.dbt import dbt_python, dbt_shop
from harness.installation import Installation
from harness.postgres import Postgres
from tidemill.model.run import RunState

Install = Callable[..., Installation]
S = RunState

pytestmark = pytest.mark.slow

DAG = """
    import tidemill as tm
    from tidemill.operators import DbtProject

    with tm.DAG("shop_dbt", schedule="@daily", start="2026-01-01", end="END", catchup=True, max_active_runs=1):
        DbtProject("dbt/shop", python="PYTHON", target="TARGET")
"""


def patient(shop: Installation) -> None:
    """On a busy machine dbt needs longer to parse than files are given."""
    with (shop.folder / "tidemill.toml").open("a") as settings:
        settings.write('[pipelines]\ntimeout = "3m"\n')


def write_dag(shop: Installation, end: str, target: str = "dev") -> None:
    patient(shop)
    shop.write("shop_dbt", DAG.replace("END", end).replace("PYTHON", str(dbt_python())).replace("TARGET", target))


def processes_of_dbt(folder: Path) -> list[int]:
    """Warm processes that run in this folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if b"adapters/dbt/program.py" in (one / "cmdline").read_bytes():
                found += [int(one.name)] if (one / "cwd").readlink().is_relative_to(folder) else []
        except OSError:
            continue
    return found


def test_a_dbt_project_runs_by_itself_and_goes_on_from_the_failed_model(install: Install) -> None:
    shop = install()
    dbt = dbt_shop(shop.folder)
    model = dbt / "models" / "customers.sql"
    good = model.read_text()
    model.write_text(good.replace("c.name,", "c.nome as name,", 1))
    write_dag(shop, "2026-01-02")
    shop.up("--workers", "1")  # each has a process of dbt, whose start costs seconds
    (run,) = shop.wait_for_runs("shop_dbt", 1, timeout=240)
    assert shop.runs("shop_dbt") == {run: S.FAILED}
    states = {one.task: one.state.value for one in shop.tasks(run)}
    assert states["shop.orders.test"] == "success"
    assert states["shop.customers"] == "failed"
    assert states["shop.customer_names"] == "upstream_failed"
    assert next(one.rows for one in shop.tasks(run) if one.task == "shop.raw_orders") == 4
    log = shop.command("logs", str(run), "shop.raw_orders")
    assert "OK loaded seed file main.raw_orders" in log
    assert "wrote 4 rows" in log
    # Mended; and again from the failed model on.
    model.write_text(good)
    cleared = json.loads(shop.command("runs", "clear", str(run), "--json"))["run_id"]
    assert shop.wait_for_runs("shop_dbt", 2, timeout=240)[cleared] is S.SUCCESS
    again = {one.task for one in shop.tasks(cleared) if one.worker is not None}
    assert again == {"shop.customers", "shop.customers.test", "shop.customer_names"}
    assert processes_of_dbt(shop.folder), "warm, for what comes next"
    assert shop.stop() == 0
    shop.wait(lambda: not processes_of_dbt(shop.folder), timeout=60)
    with duckdb.connect(str(dbt / "shop.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM customer_names").fetchall() == [(3,)]


def test_a_task_whose_time_is_over_ends_dbt_and_the_next_begins_with_a_new_one(install: Install) -> None:
    shop = install()
    dbt = dbt_shop(shop.folder)
    patient(shop)
    (dbt / "models" / "slow.sql").write_text("select count(*) as n from range(1000000000000) where sin(range) > 2\n")
    shop.write(
        "shop_dbt",
        f"""
        import tidemill as tm
        from tidemill.operators import DbtProject

        with tm.DAG("shop_dbt", schedule="@daily", start="2026-01-01", end="2026-01-02", catchup=True):
            # The limit is of the slow one alone: another that begins dbt on a busy machine may need as long.
            DbtProject("dbt/shop", group_id="hurried", python="{dbt_python()}", select="slow", execution_timeout=10)
            DbtProject("dbt/shop", python="{dbt_python()}", select="raw_orders")
        """,
    )
    shop.up("--workers", "1")
    (run,) = shop.wait_for_runs("shop_dbt", 1, timeout=240)
    states = {one.task: one.state.value for one in shop.tasks(run)}
    assert states == {"hurried.slow": "failed", "shop.raw_orders": "success"}
    assert shop.stop() == 0
    shop.wait(lambda: not processes_of_dbt(shop.folder), timeout=60)


def test_intervals_run_on_postgresql_while_a_model_is_added(
    install: Install, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("SHOP_PORT", str(postgres.port))
    monkeypatch.setenv("SHOP_PASSWORD", postgres.password)
    monkeypatch.setenv("SHOP_DATABASE", url.rpartition("/")[2])
    shop = install()
    dbt = dbt_shop(shop.folder)
    write_dag(shop, "2026-01-03", "server")
    shop.up("--workers", "2")  # each with a process of dbt
    ended = shop.wait_for_runs("shop_dbt", 2, timeout=240)
    assert set(ended.values()) == {S.SUCCESS}
    (dbt / "models" / "more.sql").write_text('select count(*) as n from {{ ref("orders") }}\n')

    def has_it() -> bool:
        with shop.metadata.read() as tx:
            record = tx.definitions.pipeline("shop_dbt")
            found = tx.definitions.get(record.definition_id) if record is not None else None
            return found is not None and "shop.more" in found.tasks

    shop.wait(has_it)
    assert shop.stop() == 0
