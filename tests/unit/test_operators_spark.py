"""spark-submit: the command that is made, and what becomes of its output. A stand-in program records its arguments."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from harness.reaching import Reaching
from tidemill.authoring import registry
from tidemill.flow.perform import stop_current
from tidemill.model.errors import UnknownName
from tidemill.model.instance import Failed, Succeeded
from tidemill.operators import SparkSubmitOperator

STAND_IN = """#!/usr/bin/env python3
import json, os, sys, time
open(os.environ["RECORD"], "w").write(json.dumps(sys.argv[1:]))
print("INFO SparkContext: Running Spark version 4.1.0", flush=True)
print("INFO Client: Submitted application application_1700000000000_0042", flush=True)
if sys.argv[-1] == "fail":
    print("Exception in thread main"); sys.exit(2)
if sys.argv[-1] == "hang":
    time.sleep(3600)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    registry.clear()
    binary = tmp_path / "spark" / "bin" / "spark-submit"
    binary.parent.mkdir(parents=True)
    binary.write_text(STAND_IN)
    binary.chmod(0o755)
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark"))
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def recorded(tmp_path: Path) -> list[str]:
    found: list[str] = json.loads((tmp_path / "record").read_text())
    return found


def test_the_command_has_every_option_in_the_words_of_spark(worker, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setenv("TIDEMILL_CONN_CLUSTER", "spark://head:7077?deploy-mode=client&executor-memory=1g")
    SparkSubmitOperator(
        task_id="job", application="jobs/day.py", application_args=["--day", "{{ ds }}"], conn_id="cluster",
        conf={"spark.sql.ansi.enabled": True, "spark.auth.secret": "geheim"}, py_files=["a.zip", "b.zip"],
        executor_memory="4g", num_executors=3, spark_queue="root", verbose=True,
    )  # fmt: skip
    assert worker("job") == Succeeded()
    assert recorded(tmp_path) == [
        "--master", "spark://head:7077", "--deploy-mode", "client", "--executor-memory", "4g", "--py-files",
        "a.zip,b.zip", "--num-executors", "3", "--queue", "root", "--conf", "spark.sql.ansi.enabled=true", "--conf",
        "spark.auth.secret=geheim", "--verbose", "jobs/day.py", "--day", "2026-01-15",
    ]  # fmt: skip
    assert worker.plain("job") == worker.plain("job", "application_id") == "application_1700000000000_0042"
    assert "geheim" not in caplog.text
    assert "INFO SparkContext: Running Spark version 4.1.0" in caplog.text


@pytest.mark.parametrize(
    ("url", "master"), [("yarn://", "yarn"), ("local://", "local[*]"), ("k8s://h:443", "k8s://https://h:443")]
)
def test_masters_by_connections(worker, tmp_path, monkeypatch, url, master):
    monkeypatch.setenv("TIDEMILL_CONN_CLUSTER", url)
    SparkSubmitOperator(task_id="job", application="x.jar", conn_id="cluster", java_class="a.B")
    assert worker("job") == Succeeded()
    assert recorded(tmp_path) == ["--master", master, "--class", "a.B", "x.jar"]


def test_a_failure_shows_its_last_lines_and_keeps_the_id(worker):
    SparkSubmitOperator(task_id="job", application="x.py", application_args=["fail"])
    failed = worker("job")
    assert isinstance(failed, Failed)
    assert "exit code 2." in failed.error
    assert "Exception in thread main" in failed.error
    assert worker.plain("job", "application_id") == "application_1700000000000_0042"


def test_what_is_stopped_ends_with_its_group(worker, tmp_path):
    SparkSubmitOperator(task_id="job", application="x.py", application_args=["hang"])

    def stop() -> None:
        until = time.monotonic() + 60
        while not (tmp_path / "record").exists() and time.monotonic() < until:
            time.sleep(0.01)
        stop_current()

    stopper, begun = threading.Thread(target=stop), time.monotonic()
    stopper.start()
    assert "signal SIGTERM" in worker("job").error
    stopper.join()
    assert time.monotonic() - begun < 600


def test_mistakes_are_told(worker, monkeypatch):
    with pytest.raises(UnknownName, match="executor_memry"):
        SparkSubmitOperator(task_id="a", application="x.py", submit_options={"executor_memry": "1g"})
    SparkSubmitOperator(task_id="b", application="x.py", spark_binary="spark3-submit")
    SparkSubmitOperator(task_id="c", application="x.py", conn_id="none")
    assert 'no program "spark3-submit"' in worker("b").error
    assert 'no connection "none"' in worker("c").error
