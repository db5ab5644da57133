"""Airflow's events of assets in runs that a scheduler drives: told by the publish, read by those who wait for it."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness import secretplaces
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.flow import control
from tidemill.flow.assets import ProjectAssets
from tidemill.flow.inline import drive
from tidemill.flow.planner import Planner
from tidemill.model.run import RunState
from tidemill.plan.values import load_value
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.performing import Performer
from tidemill.wiring.services import holder, open_metadata, system_clock
from tidemill.wiring.settings import load_settings

FILE = """
from datetime import datetime
import polars as pl
from airflow.exceptions import AirflowSkipException
from airflow.sdk import DAG, Asset, AssetAlias, Metadata, Variable, asset, get_current_context, task

SALES, RARE, EXPORTS = Asset(name="sales", uri="s3://x/sales"), Asset("rare"), AssetAlias("exports")

with DAG("makes", schedule=None):
    @task(outlets=[SALES])
    def write():
        yield Metadata(SALES, {"rows": 3})
        return "done"

    @task(outlets=[RARE])
    def skipped():
        raise AirflowSkipException

    @task(outlets=[EXPORTS], retries=1, retry_delay=0)
    def export(*, outlet_events=None, task_state_store=None, ti=None):
        outlet_events[EXPORTS].add(Asset("s3://x/" + task_state_store.get("key", default="lost")), {"rows": 7})
        if ti.try_number == 1:
            task_state_store.set("key", "kept")
            raise RuntimeError("the first try is lost")

    write() >> skipped()
    export()

with DAG("tables", schedule=None):
    @task(outlets=[Asset("told")])
    def store():
        get_current_context().table("kept").write(pl.DataFrame({"a": [1]}))

    store()

with DAG("of_alias", schedule=[EXPORTS]):
    @task(inlets=[EXPORTS, SALES])
    def look(*, inlet_events=None, triggering_asset_events=None):
        (event,) = inlet_events[EXPORTS]
        began = {one.uri: [each.source_dag_id for each in events] for one, events in triggering_asset_events.items()}
        return [event.asset.uri, event.extra, event.source_task_id, inlet_events.for_asset(uri="s3://x/sales")[-1].extra,
                inlet_events[Asset("nobody")], began]
    look()

with DAG("of_rare", schedule=[RARE]):
    @task
    def never(): ...
    never()

@asset(schedule=SALES & Asset("told"))
def summary(self, context, sales, outlet_events):
    outlet_events[self].extra = {"of": [one.extra["rows"] for one in context["inlet_events"][sales]]}
    return self.name if context["logical_date"] else "as Airflow 3 has it; Airflow 2 has a time"

with DAG("keeps", schedule=None):
    @task(inlets=[SALES], outlets=[RARE])
    def note(asset_state_store):
        of = asset_state_store[SALES]
        runs = of.get("runs", 0) + 1
        of.set("runs", runs)
        asset_state_store[RARE].set("far", datetime(2026, 1, runs))
        if runs == 1:
            asset_state_store[RARE].set("once", True)
        elif runs == 2:
            asset_state_store[RARE].delete("once")
        else:
            of.clear()
        return [runs, of.get("runs")]

    @task(outlets=[RARE, EXPORTS])
    def sees(asset_state_store):
        return [asset_state_store.get("far"), asset_state_store.get("once"), asset_state_store[RARE].get("no", "-")]

    @task(outlets=[RARE])
    def asks(asset_state_store):
        try:
            asset_state_store[SALES]
        except Exception as error:
            return str(error)

    note() >> [sees(), asks()]

with DAG("sets", schedule=None):
    @task
    def count():
        number = Variable.get("number", default=0, deserialize_json=True) + 1
        Variable.set("number", number, serialize_json=True)
        return number
    count()

with DAG("of_summary", schedule=[Asset.ref(name="summary")]):
    @task(inlets=[summary])
    def read(*, inlet_events=None):
        return inlet_events[summary][-1].extra
    read()
"""


class Mill:
    """A project with that file, and its runs."""

    def __init__(self, folder: Path) -> None:
        (folder / "dags").mkdir()
        (folder / "dags" / "a_dag.py").write_text(FILE)
        (folder / "tidemill.toml").write_text(
            '[project]\nname = "mill"\npipelines = ["dags/*.py"]\n[pipelines]\ntimeout = "5m"\n'
        )
        self.settings = load_settings(folder)
        self.metadata = open_metadata(self.settings, system_clock())
        self.store = SqlRunStore(self.metadata, system_clock())
        self.performer = Performer(self.settings)
        self.planner = Planner(self.metadata, system_clock())
        parsed = parse_once(self.settings)
        assert parsed.errors == 0, parsed

    def ask(self, pipeline, key="1"):
        self.drive(control.trigger(self.metadata, pipeline, system_clock().now(), run_key=f"{pipeline}-{key}"))

    def drive(self, run):
        ended = drive(
            self.metadata,
            self.store,
            system_clock(),
            self.store.definition,
            f"{holder()}-{run.id}",
            run,
            self.performer,
        )
        assert ended.state is RunState.SUCCESS, ended.error

    def begun(self):
        """What the planner asks for now, run to its end: the pipelines."""
        self.planner.turn()
        with self.metadata.read() as tx:
            waiting = tx.runs.under_way()
            runs = [tx.runs.get(one.run_id) for one in waiting]
        for run in runs:
            self.drive(run)
        return sorted(one.pipeline for one in waiting)

    def result(self, pipeline, task):
        with self.metadata.read() as tx:
            run, *_ = tx.runs.recent(pipeline=pipeline)
            return load_value(tx.xcoms.get(run.id, task))


@pytest.fixture(scope="module")
def mill(tmp_path_factory):
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEMILL_SECRET_KEY", secretplaces.key())  # variables that tasks set are kept encrypted
        made = Mill(tmp_path_factory.mktemp("mill"))
        yield made
        made.metadata.close()
        os.chdir(before)


def test_what_is_told_begins_others_and_is_read_by_them(mill):
    mill.ask("makes")
    assert mill.begun() == ["of_alias"], "what a task that was skipped would have written is not told"
    assert mill.result("of_alias", "look") == [
        "s3://x/kept", {"rows": 7}, "export", {"rows": 3}, [], {"s3://x/kept": ["makes"]}
    ]  # fmt: skip
    assert mill.begun() == []
    mill.ask("tables")
    assert mill.begun() == ["summary"], "an asset is told beside the tables of its run, too"
    assert mill.result("summary", "summary") == "summary"
    assert mill.begun() == ["of_summary"]
    assert mill.result("of_summary", "read") == {"of": [3]}
    assert mill.begun() == []


def test_events_name_the_run_that_told_them(mill):
    (event,) = ProjectAssets(lambda: mill.metadata).events(["sales"], 5)
    assert (event.pipeline, event.run, event.told.task) == ("makes", "makes-1", "write")
    assert event.at <= datetime.now(UTC)


def test_what_is_kept_of_an_asset_is_there_in_the_next_run(mill):
    kept = []
    for key in ("a", "b", "c", "d"):
        mill.ask("keeps", key)
        kept.append((mill.result("keeps", "note"), mill.result("keeps", "sees")))
    days = [datetime(2026, 1, day) for day in (1, 2, 3, 1)]
    assert kept == [
        ([1, 1], [days[0], True, "-"]),
        ([2, 2], [days[1], None, "-"]),
        ([3, None], [days[2], None, "-"]),
        ([1, 1], [days[3], True, "-"]),
    ]
    assert '"sales" is no inlet or outlet of "asks"' in mill.result("keeps", "asks")


def test_a_variable_that_a_task_sets_is_there_in_the_next_run(mill):
    counted = []
    for key in ("a", "b"):
        mill.ask("sets", key)
        counted.append(mill.result("sets", "count"))
    assert counted == [1, 2]
