"""Airflow's own packages of providers, installed without Airflow: their hooks, operators and sensors do their work on
real systems, in DAG files as they are.
"""

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from harness.airflowproviders import echoing, installed, shell
from harness.fileservers import LOGIN, PASSWORD
from harness.s3keys import KEY, SECRET
from tidemill.model.batch import Interval
from tidemill.model.masking import GIVEN
from tidemill.wiring.project import declared_in
from tidemill.wiring.settings import Settings
from tidemill.wiring.trials import try_dag

DAY = Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC) + timedelta(days=1))


@pytest.fixture(scope="module", autouse=True)
def providers():
    """The packages can be imported; afterwards none of their modules is kept."""
    with pytest.MonkeyPatch.context() as patch:
        # What we have ourselves comes first: these may bring other versions of it.
        patch.setattr(sys, "path", [*sys.path, str(installed())])
        yield
    GIVEN.forget()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the DAG of a file's text, once, with connections as Airflow's users write them."""

    def run(text, **connections):
        for name, given in connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", given if isinstance(given, str) else json.dumps(given))
        file = tmp_path / "dags" / "a_dag.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        trial = try_dag(declared_in(Settings(tmp_path, "p", ("dags/*.py",)), file)["d"], DAY)
        assert trial.errors == {}
        return trial

    return run


SQL = """
from airflow.hooks.base import BaseHook
from airflow.providers.common.sql.operators.sql import (
    BranchSQLOperator, SQLColumnCheckOperator, SQLExecuteQueryOperator, SQLValueCheckOperator)
from airflow.providers.common.sql.sensors.sql import SqlSensor
from airflow.sdk import DAG, chain, task

with DAG("d", schedule="@daily") as dag:
    make = SQLExecuteQueryOperator(task_id="make", conn_id="books", split_statements=True, sql=[
        "create table t (id integer, day varchar(10))", "insert into t values (1, '{{ ds }}'), (2, 'x')"])
    told = SQLExecuteQueryOperator(task_id="told", conn_id="books", sql="select id, day from t order by id")
    seen = SqlSensor(task_id="seen", conn_id="books", sql="select count(*) from t", poke_interval=1, timeout=60)
    checked = SQLColumnCheckOperator(task_id="checked", conn_id="books", table="t",
        column_mapping={"id": {"null_check": {"equal_to": 0}, "max": {"leq_to": 2}}})
    right = SQLValueCheckOperator(task_id="right", conn_id="books", sql="select max(id) from t", pass_value=2)

    @task.sql(conn_id="books")
    def asked(least):
        return "select id, day, '{{ ds }}' from t where id > " + str(least) + " and day = 'x'"

    @task
    def hooked():
        hook = BaseHook.get_hook("books")
        hook.insert_rows("t", [(3, "y"), (4, None)], target_fields=["id", "day"])
        return [type(hook).__name__, [list(row) for row in hook.get_records("select id, day from t where id > 2")]]

    least = task(lambda: 1, task_id="least")()
    make >> least
    chain([told, seen, checked, right, asked(least)], hooked())
"""


def _check_sql(trial, name):
    assert list(map(list, trial.result("told"))) == [[1, "2026-01-15"], [2, "x"]]
    assert list(map(list, trial.result("asked"))) == [[2, "x", "2026-01-15"]]
    assert trial.result("hooked") == [name, [[3, "y"], [4, None]]]
    assert set(trial.states.values()) == {"success"}


def test_sqlite(run, tmp_path):
    _check_sql(run(SQL, books={"conn_type": "sqlite", "host": str(tmp_path / "books.db")}), "SqliteHook")


def test_postgres(run, postgres):
    address = postgres.new_database()
    _check_sql(run(SQL, books=address), "PostgresHook")


def test_redshift(run, redshift):
    parts = {"login": "user", "schema": "database", "host": "host", "port": "port", "password": "password"}
    given = {"conn_type": "redshift", **{name: redshift.parts[own] for name, own in parts.items()}}
    rest = {name: value for name, value in redshift.parts.items() if name not in parts.values()}
    _check_sql(run(SQL, books={**given, "extra": rest}), "RedshiftSQLHook")


HTTP = """
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.providers.slack.operators.slack_webhook import SlackWebhookOperator
from airflow.sdk import DAG

with DAG("d", schedule="@daily") as dag:
    wait = HttpSensor(task_id="wait", http_conn_id="api", endpoint="ready", poke_interval=1, timeout=60,
                      response_check=lambda response, ds: response.json()["path"] == "/v1/ready" and ds == "2026-01-15")
    ask = HttpOperator(task_id="ask", http_conn_id="api", method="POST", endpoint="{{ ds }}", data="a body",
                       response_filter=lambda response: response.json()["path"])
    tell = SlackWebhookOperator(task_id="tell", slack_webhook_conn_id="slack", message="of {{ ds }}")
    later = HttpOperator(task_id="later", http_conn_id="api", method="GET", endpoint="later", deferrable=True,
                         response_filter=lambda response: response.json()["path"])
    wait >> ask >> tell >> later
"""


def test_http_and_slack(run):
    with echoing() as echo:
        api = {"conn_type": "http", "host": f"http://127.0.0.1:{echo.port}/v1", "login": "me", "password": "pass-word",
               "extra": {"X-Team": "data"}}  # fmt: skip
        slack = {"conn_type": "slackwebhook", "host": f"http://127.0.0.1:{echo.port}/hook", "password": "T0/B0/secret"}
        trial = run(HTTP, api=api, slack=slack)
    assert trial.result("ask") == "/v1/2026-01-15"
    assert trial.result("later") == "/v1/later"
    asked = {path: (method, headers, body) for method, path, headers, body in echo.seen}
    method, headers, body = asked["/v1/2026-01-15"]
    assert (method, headers["X-Team"], body) == ("POST", "data", "a body")
    assert headers["Authorization"].startswith("Basic ")
    assert json.loads(asked["/hook/T0/B0/secret"][2])["text"] == "of 2026-01-15"


SSH = """
from airflow.providers.ssh.hooks.ssh import SSHHook
from airflow.providers.ssh.operators.ssh import SSHOperator
from airflow.sdk import DAG, task

with DAG("d", schedule="@daily") as dag:
    SSHOperator(task_id="say", ssh_conn_id="box", command="echo {{ ds }}", cmd_timeout=120)

    @task
    def fails():
        hook = SSHHook(ssh_conn_id="box", cmd_timeout=120)
        with hook.get_conn() as client:
            return hook.exec_ssh_client_command(client, "fail", False, None)[0]

    fails()
"""


def test_ssh(run):
    with shell() as port:
        box = {"conn_type": "ssh", "host": "127.0.0.1", "port": port, "login": LOGIN, "password": PASSWORD,
               "extra": {"no_host_key_check": True, "allow_host_key_change": True, "look_for_keys": False}}  # fmt: skip
        trial = run(SSH, box=box)
    assert trial.result("fails") == 3
    assert trial.states["say"] == "success"


S3 = """
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.operators.s3 import (
    S3CopyObjectOperator, S3CreateBucketOperator, S3CreateObjectOperator, S3ListOperator)
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import DAG, Variable, chain, task

BUCKET = Variable.get("bucket")

with DAG("d", schedule="@daily", default_args={"aws_conn_id": "lake"}) as dag:
    make = S3CreateBucketOperator(task_id="make", bucket_name=BUCKET)
    put = S3CreateObjectOperator(task_id="put", s3_bucket=BUCKET, s3_key="in/{{ ds }}.txt", data="some rows")
    wait = S3KeySensor(task_id="wait", bucket_name=BUCKET, bucket_key="in/{{ ds }}.txt", poke_interval=1, timeout=60)
    copy = S3CopyObjectOperator(task_id="copy", source_bucket_name=BUCKET, source_bucket_key="in/{{ ds }}.txt",
                                dest_bucket_name=BUCKET, dest_bucket_key="in/copy.txt")
    found = S3ListOperator(task_id="found", bucket=BUCKET, prefix="in/")

    @task
    def read():
        return S3Hook("lake").read_key("in/copy.txt", BUCKET)

    chain(make, put, wait, copy, found, read())
"""


def test_s3(run, object_store, monkeypatch):
    bucket = f"moved-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("AIRFLOW_VAR_BUCKET", bucket)
    lake = {"conn_type": "aws", "login": KEY, "password": SECRET,
            "extra": {"region_name": "us-east-1", "endpoint_url": object_store.endpoint}}  # fmt: skip
    trial = run(S3, lake=lake)
    assert trial.result("found") == ["in/2026-01-15.txt", "in/copy.txt"]
    assert trial.result("read") == "some rows"
