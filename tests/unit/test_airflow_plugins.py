"""Plug-ins of Airflow's in the project's folder `plugins`: macros in templates, listeners of tasks and runs."""

import sys

import pytest

from tidemill.compat.airflow import plugins
from tidemill.compat.airflow.reach import Reach, within
from tidemill.wiring.trials import try_dag

PLUGIN = """
from airflow.plugins_manager import AirflowPlugin
import hears

def fiscal_year(ds):
    return f"FY{ds[:4]}"

class Acme(AirflowPlugin):
    name = "acme"
    macros = [fiscal_year]
    listeners = [hears]
"""
LISTENER = """
from airflow.listeners import hookimpl

HEARD = []

@hookimpl
def on_task_instance_running(previous_state, task_instance, session):
    HEARD.append((previous_state, task_instance.task_id, task_instance.state))

@hookimpl
def on_task_instance_success(task_instance):
    HEARD.append(("success", task_instance.task_id, task_instance.state))

@hookimpl
def on_task_instance_failed(previous_state, task_instance, error):
    HEARD.append((str(error), task_instance.task_id, task_instance.state))
    raise ValueError("a listener that raises hurts nobody")

@hookimpl
def on_dag_run_running(dag_run, msg):
    HEARD.append(("run", dag_run.dag_id, msg))

@hookimpl
def on_dag_run_failed(dag_run, msg):
    HEARD.append(("run", dag_run.dag_id, msg))

def on_dag_run_success(dag_run, msg):
    HEARD.append("it is not marked")
"""
DAGS = """
from airflow.sdk import DAG, task
from greets import GreetOperator

with DAG("greets", schedule="@daily", start_date=None) as dag:
    name = "{{ macros.acme.fiscal_year(ds) }} {{ macros.datetime.strptime(ds, '%Y-%m-%d').day }}"
    GreetOperator(task_id="greet", name=name)

    @task(retries=1, retry_delay=0)
    def fail(x):
        raise KeyError(x)

    fail.expand(x=[1])
"""
GREETS = """
from airflow.models import BaseOperator
from airflow.utils.decorators import apply_defaults

class GreetOperator(BaseOperator):
    template_fields = ("name",)

    @apply_defaults
    def __init__(self, name, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.name = name

    def execute(self, context):
        return self.name
"""


@pytest.fixture
def plugged(tmp_path, read):
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, text in (("acme", PLUGIN), ("hears", LISTENER), ("greets", GREETS), ("broken", "AirflowPlugin = 1 / 0")):
        (folder / f"{name}.py").write_text(text)
    yield read(DAGS)["greets"]
    for name in ("acme", "hears", "greets"):
        sys.modules.pop(name, None)


def test_macros_of_plugins_stand_in_templates_and_operators_are_imported(plugged, tmp_path, caplog):
    trial = try_dag(plugged, "2026-01-15", root=tmp_path, tasks=["greet"])
    assert trial.result("greet") == "FY2026 15"
    assert "plugins/broken.py cannot be loaded" in caplog.text


def test_listeners_hear_of_tries_and_of_the_run_and_hurt_nobody(plugged, tmp_path):
    trial = try_dag(plugged, "2026-01-15", root=tmp_path)
    assert (trial.state, trial.states) == ("failed", {"greet": "success", "fail[0]": "failed"})
    import hears

    assert hears.HEARD == [
        ("run", "greets", "begun"),
        ("queued", "greet", "running"), ("success", "greet", "success"),
        ("queued", "fail", "running"), ("1", "fail", "up_for_retry"),
        ("queued", "fail", "running"), ("1", "fail", "failed"),
        ("run", "greets", "failure"),
    ]  # fmt: skip


def test_a_definition_says_what_listeners_want_to_hear_without_executing_plug_ins(plugged, tmp_path):
    """So a process is begun at a run's end only where somebody listens."""
    (tmp_path / "plugins" / "hears.py").write_text("1 / 0\non_dag_run_failed = None")
    with within(Reach(code=tmp_path)):
        assert plugged.definition().callbacks == ("failure",)
        (tmp_path / "plugins" / "hears.py").write_text("def on_dag_run_running(): ...\ndef on_asset_changed(): ...")
        assert plugged.definition().callbacks == ("begun",)  # it tells no assets
    assert plugged.definition().callbacks == ()


ASSETS = """
from airflow.listeners import hookimpl
HEARD = []

@hookimpl
def on_asset_created(asset):
    HEARD.append(("created", asset.name, asset.uri))

@hookimpl
def on_dataset_changed(dataset):
    HEARD.append(("changed", dataset.name, dataset.uri))

@hookimpl
def on_asset_event_emitted(asset_event):
    HEARD.append((asset_event.asset.name, asset_event.source_task_id, dict(asset_event.extra)))

@hookimpl
def on_dag_run_success(dag_run):
    HEARD.append("success")
"""
WRITES = """
from airflow.sdk import DAG, Asset, AssetAlias, Metadata, task

with DAG("writes", schedule=None):
    @task(outlets=[Asset(name="orders", uri="s3://shop/orders"), AssetAlias("exports")])
    def load():
        yield Metadata(Asset("found"), {"rows": 3}, alias=AssetAlias("exports"))

    load()
"""


def test_listeners_of_a_package_hear_of_assets_once_the_run_has_told_them(tmp_path, read, monkeypatch):
    """The package is known by its entry point, and is not executed when DAG files are read."""
    (tmp_path / "acme_plug-1.0.dist-info").mkdir()
    (tmp_path / "acme_plug-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-plug\nVersion: 1.0\n"
    )
    entries = "[airflow.plugins]\nacme = acme_plug.plug:Acme\nbroken = acme_plug.none:Acme\n"
    (tmp_path / "acme_plug-1.0.dist-info" / "entry_points.txt").write_text(entries)
    (tmp_path / "acme_plug").mkdir()
    (tmp_path / "acme_plug" / "told.py").write_text(ASSETS)
    (tmp_path / "acme_plug" / "plug.py").write_text(
        PLUGIN.replace("import hears", "from acme_plug import told as hears")
    )
    monkeypatch.syspath_prepend(tmp_path)
    for kept in (plugins._of_packages, plugins._texts_of_packages):
        kept.cache_clear()
    with within(Reach(code=tmp_path)):
        dag = read(WRITES)["writes"]
        assert (dag.definition().callbacks, "acme_plug.told" in sys.modules) == (("success",), False)
    assert try_dag(dag, root=tmp_path).ok
    from acme_plug import told

    assert told.HEARD == [
        ("created", "orders", "s3://shop/orders"), ("created", "found", "found"),
        ("changed", "orders", "s3://shop/orders"), ("changed", "found", "found"),
        ("orders", "load", {}), ("found", "load", {"rows": 3}), "success",
    ]  # fmt: skip
    for kept in (plugins._of_packages, plugins._texts_of_packages):
        kept.cache_clear()
