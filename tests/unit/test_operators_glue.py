"""Glue jobs, against the server that moto simulates AWS by: what is begun, how it is waited for, what a failure tells.

Simulated jobs always succeed; a failure is set in the simulation's state, and its log written through its API.
"""

from __future__ import annotations

import time
from datetime import timedelta

import boto3
import pytest
from moto.glue.models import glue_backends
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer

from harness.reaching import Reaching
from tidemill.authoring import registry
from tidemill.model.instance import Failed, Rescheduled, Succeeded
from tidemill.operators import GlueJobOperator


@pytest.fixture(scope="module")
def aws():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(aws, monkeypatch):
    """Makes clients of a new AWS, which has the job `nightly`; the connection `cloud` leads to it."""
    monkeypatch.setenv("TIDEMILL_CONN_CLOUD", f"aws://key:s3cret@?region_name=eu-west-1&endpoint_url={aws}")

    def make(name):
        return boto3.client(name, "eu-west-1", endpoint_url=aws, aws_access_key_id="k", aws_secret_access_key="s")

    make("glue").create_job(Name="nightly", Role="r", Command={"Name": "glueetl"})
    yield make
    make("glue").delete_job(JobName="nightly")
    state_manager.unset_transition("glue::job_run")


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def glue(task_id, job="nightly", **options):
    GlueJobOperator(task_id=task_id, job_name=job, aws_conn_id="cloud", **options)


def test_a_job_is_begun_once_and_waited_for_without_a_worker(worker, client):
    state_manager.set_transition("glue::job_run", {"progression": "manual", "times": 2})
    glue("run", script_args={"--day": "{{ ds }}"}, run_job_kwargs={"NumberOfWorkers": 3}, poke_interval=45)
    assert worker("run") == Rescheduled(worker.clock.now() + timedelta(seconds=45))
    assert isinstance(worker("run"), Rescheduled)
    ends = [worker("run") for _ in range(2)]
    assert ends[-1] == Succeeded()
    [run] = client("glue").get_job_runs(JobName="nightly")["JobRuns"]
    assert worker.plain("run") == run["Id"]
    assert (run["Arguments"], run["NumberOfWorkers"]) == ({"--day": "2026-01-15"}, 3)


def test_one_that_is_not_waited_for_is_done_at_once(worker, client):
    state_manager.set_transition("glue::job_run", {"progression": "manual", "times": 9})
    glue("run", wait_for_completion=False)
    assert worker("run") == Succeeded()


def test_a_failure_tells_the_state_and_shows_the_end_of_its_log(worker, client, caplog):
    state_manager.set_transition("glue::job_run", {"progression": "manual", "times": 9})
    glue("run")
    assert isinstance(worker("run"), Rescheduled)
    [run] = glue_backends["123456789012"]["eu-west-1"].jobs["nightly"].job_runs
    run.status = "FAILED"
    logs = client("logs")
    logs.create_log_group(logGroupName="/aws-glue/jobs/error")
    logs.create_log_stream(logGroupName="/aws-glue/jobs/error", logStreamName=run.job_run_id)
    now = int(time.time() * 1000) - 1000  # what is older than two weeks is not taken
    events = [{"timestamp": now + n, "message": f"line {n}"} for n in range(30)]
    logs.put_log_events(logGroupName="/aws-glue/jobs/error", logStreamName=run.job_run_id, logEvents=events)
    failed = worker("run")
    assert isinstance(failed, Failed)
    assert failed.again
    assert f"Run {run.job_run_id} of nightly ended as FAILED" in failed.error
    shown = [record.getMessage() for record in caplog.records if record.getMessage().startswith("line ")]
    assert shown == [f"line {n}" for n in range(10, 30)]


def test_a_job_that_is_not_there_and_a_service_that_is_not_are_told(worker, client, monkeypatch):
    glue("none", job="other")
    assert "EntityNotFoundException" in worker("none").error
    monkeypatch.setenv("TIDEMILL_CONN_CLOUD", "aws://key:s3cret@?region_name=eu-west-1&endpoint_url=http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    glue("silent")
    error = worker("silent").error
    assert "AWS does not answer" in error
    assert "s3cret" not in error
    monkeypatch.setenv("TIDEMILL_CONN_CLOUD", "aws://key:s3cret@")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    glue("nowhere")
    assert "region" in worker("nowhere").error
