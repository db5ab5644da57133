"""What DAG files ask of Airflow beside tasks: rows of its database, hooks, folders, letters; and what is refused."""

import pytest

from tidemill.compat.airflow.finder import NotServed
from tidemill.model.definition import Definition
from tidemill.wiring.trials import try_dag

ROWS = """
from airflow.configuration import conf
from airflow.hooks.filesystem import FSHook
from airflow.models import Pool, XCom
from airflow.providers.standard.hooks.package_index import PackageIndexHook
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, task
from airflow.settings import DAGS_FOLDER
from airflow.stats import Stats
from airflow.utils.email import send_email

ENDED = []

def tell(context):
    ti = context["ti"]
    same = context["dag_run"].logical_date == context["logical_date"]
    ENDED.append((ti.state, ti.duration is not None, ti.log_url, same))
    send_email("a@b", "it ended", "<b>well</b>", dryrun=True)
    send_email("a@b", "it ended", "<b>well</b>")

with DAG("rows", schedule=None, default_args={"on_success_callback": tell}):
    @task
    def first(ds, next_ds):
        assert ds == next_ds
        return SubprocessHook().run_command(["bash", "-c", "echo one; echo two; exit 3"])

    @task
    def second(run_id):
        Stats.incr("rows", 2)
        with Stats.timer("all"):
            return [
                XCom.get_one(task_id="first", dag_id="rows", run_id=run_id), Pool.get_pool("default_pool").slots,
                Pool.get_pool("none"), FSHook().get_path(), FSHook("files").get_path(),
                PackageIndexHook("index").get_connection_url(), conf.get("core", "dags_folder") == DAGS_FOLDER,
            ]

    @task
    def third():
        XCom.get_one(task_id="first", dag_id="another")

    first() >> second() >> third()
"""


def test_hooks_rows_and_settings_that_have_a_meaning(read, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("AIRFLOW_CONN_FILES", '{"conn_type": "fs", "extra": {"path": "/in"}}')
    monkeypatch.setenv("AIRFLOW_CONN_INDEX", '{"conn_type": "x", "host": "https://i.example", "login": "a@b"}')
    (tmp_path / "tidemill.toml").write_text('[project]\npipelines = ["dags/**/*.py"]\n')
    caplog.set_level("INFO")
    dag = read(ROWS)["rows"]
    trial = try_dag(dag, root=tmp_path)
    assert trial.result("second") == [(3, "two"), 128, None, "", "/in", "https://a%40b:@i.example", True]
    assert "XCom.get_one reaches values of this run only" in trial.errors["third"]
    ended = dag.task_dict["first"].python_callable.__globals__["ENDED"]
    assert ended[0] == ("success", True, "/pipelines/rows?run=1&task=first", True)
    assert "rows +2" in caplog.text
    assert "There is no mail server." in caplog.text


@pytest.mark.parametrize(
    ("line", "name", "hint"),
    [
        ("from airflow.utils.session import provide_session", "airflow.utils.session", "no database of Airflow's"),
        ("from airflow.settings import Session", "airflow.settings.Session", "no database of Airflow's"),
        ("from airflow.operators.subdag import SubDagOperator", "airflow.operators.subdag", "TaskGroup"),
        ("from airflow.providers.cncf.kubernetes.operators.pod import (\n    KubernetesPodOperator,\n)",
         "airflow.providers.cncf", "DockerOperator"),
        ("from airflow.providers.apache.hive.hooks.hive import HiveServer2Hook",
         "airflow.providers.apache", "apache-airflow-providers-apache-hive"),
        ("from airflow.models import DagRun\nDagRun.find(dag_id='x')", "airflow.models.DagRun.find", "docs/airflow.md"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_here_is_refused_with_what_to_do(read, line, name, hint):
    with pytest.raises(NotServed) as caught:
        read(line)
    assert f'"{name}"' in caught.value.what
    assert hint in caught.value.hint
    assert ".py:" in caught.value.where


def test_templates_include_files_that_lie_beside_the_dag(read, tmp_path):
    dag = read(
        "from airflow.sdk import DAG\n"
        "from airflow.operators.bash import BashOperator\n"
        "with DAG('d', schedule='@daily'):\n"
        "    BashOperator(task_id='b', bash_command='sh/whole.sh')\n"
    )["d"]
    (tmp_path / "dags" / "sh").mkdir()
    (tmp_path / "dags" / "sh" / "whole.sh").write_text("echo {% include 'sh/part.txt' %} {{ macros.ds_add(ds, 1) }}")
    (tmp_path / "dags" / "sh" / "part.txt").write_text("part {{ ds }}")
    assert try_dag(dag, "2026-01-15", root=tmp_path).result("b") == "part 2026-01-15 2026-01-16"


def test_a_run_may_be_given_what_is_no_parameter(read, tmp_path):
    """`airflow dags trigger --conf` takes anything; files read it from `dag_run.conf` or `params`."""
    text = (
        "from airflow.sdk import DAG, task\n"
        "with DAG('d', schedule=None, params={'n': 1}):\n"
        "    @task\n"
        "    def tell(dag_run, params):\n"
        "        return dag_run.conf['x'], dict(params)\n"
        "    tell()\n"
    )
    dag = read(text)["d"]
    assert Definition.from_json(dag.definition().as_json()).any_params
    assert try_dag(dag, params={"x": 2}, root=tmp_path).result("tell") == (2, {"n": 1, "x": 2})


LAST = """
from airflow.sdk import DAG, task
from airflow.exceptions import AirflowSkipException

ENDED = []

def tell(context):
    run = context["dag_run"]
    ENDED.append((run.get_state(), run.get_task_instance("report").state))

with DAG("last", schedule=None, on_success_callback=tell):
    @task
    def load(i):
        if i == 1:
            raise AirflowSkipException
        if i == 2:
            raise ValueError(i)

    @task(trigger_rule="all_done")
    def report(dag_run=None):
        bad = [(one.task_id, one.map_index, one.try_number) for one in dag_run.get_task_instances(state="failed")]
        ended = dag_run.get_task_instances(state=["skipped", "success"])
        return bad, len(ended), dag_run.get_task_instance("load", map_index=1).state, dag_run.get_task_instance("no")

    load.expand(i=[0, 1, 2]) >> report()
"""


def test_a_last_task_and_a_callback_see_how_the_others_stand(read):
    dag = read(LAST)["last"]
    assert try_dag(dag).result("report") == ([("load", 2, 1)], 2, "skipped", None)
    assert dag.callbacks["success"][0].__globals__["ENDED"] == [("success", "success")]


def test_a_literal_is_no_template_and_a_file_is_read_for_all_its_dags(read):
    dags = read("""
from airflow.sdk import DAG, get_parsing_context, literal
from airflow.operators.bash import BashOperator

for name in ("one", "two"):
    if get_parsing_context().dag_id not in (None, name):
        continue
    with DAG(name, schedule=None):
        BashOperator(task_id="echo", bash_command=literal("echo '{{ ds }}'"), env={"A": literal("{{ b }}")})
""")
    assert [try_dag(dags[name]).result("echo") for name in ("one", "two")] == ["{{ ds }}"] * 2
