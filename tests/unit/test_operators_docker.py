"""Containers: what the engine is asked, what comes back, and that nothing stays behind. See `harness.engine`."""

from __future__ import annotations

import threading
import time

import pytest

from harness.engine import Engine, engine_at
from harness.reaching import Reaching
from tidemill.authoring import registry
from tidemill.flow.perform import stop_current
from tidemill.model.errors import UserError
from tidemill.model.instance import Failed, Skipped, Succeeded
from tidemill.operators import DockerOperator
from tidemill.ports.containers import Mount


@pytest.fixture
def engine(tmp_path, monkeypatch):
    path = tmp_path / "engine.sock"
    monkeypatch.setenv("TIDEMILL_CONN_ENGINE", f"unix://{path}")
    with engine_at(path) as made:
        yield made


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def docker(task_id: str, command: str, **options: object) -> None:
    DockerOperator(task_id=task_id, image="alpine:3", command=["sh", "-c", command], docker_conn_id="engine", **options)


def lines(caplog: pytest.LogCaptureFixture, task: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == f"tidemill.task.{task}"]


def test_a_container_runs_and_its_last_line_is_returned(worker, engine: Engine, caplog):
    caplog.set_level("INFO")
    docker("run", "echo one; echo $DAY; printf 'ü%s' $TIDEMILL_TASK", environment={"DAY": "{{ ds }}"})
    assert worker("run") == Succeeded()
    assert worker.plain("run") == "ürun"
    assert lines(caplog, "run")[1:] == ["one", "2026-01-15", "ürun"]
    assert engine.only.removed
    assert "POST images/create" not in engine.asked, "the image was there"


def test_everything_that_was_given_reaches_the_engine(worker, engine: Engine):
    DockerOperator(
        task_id="run", image="alpine:3", command="echo 'a b' {{ ds }}", docker_conn_id="engine", working_dir="/in",
        mounts=["/data/{x}:/in:ro", "keep:/out", Mount("/a", "/b")], network_mode="net", container_name="c1", user="7",
        mem_limit="512m", cpus=1.5, private_environment={"KEY": "{{ no template }}"}, auto_remove="never",
    )  # fmt: skip
    assert worker("run") == Succeeded()
    assert worker.plain("run") == "a b 2026-01-15"
    made, body = engine.only, engine.only.body
    assert (body["Cmd"], body["WorkingDir"], body["User"], made.name) == (
        ["echo", "a b", "2026-01-15"],
        "/in",
        "7",
        "c1",
    )
    host = body["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["NetworkMode"]) == (512 << 20, 1_500_000_000, "net")
    assert [(one["Source"], one["Target"], one["Type"], one["ReadOnly"]) for one in host["Mounts"]] == [
        ("/data/{x}", "/in", "bind", True), ("keep", "/out", "volume", False), ("/a", "/b", "bind", False),
    ]  # fmt: skip
    assert "KEY={{ no template }}" in body["Env"]
    assert body["Labels"]["tidemill.task"] == "run"
    assert not made.removed


def test_exit_codes_fail_or_skip(worker, engine: Engine):
    docker("bad", "echo why; exit 3", auto_remove="success")
    docker("skip", "exit 99", skip_on_exit_code=99)
    failed = worker("bad")
    assert isinstance(failed, Failed)
    assert failed.again
    assert "exit code 3.\n    why" in failed.error
    assert not engine.only.removed, "it is there to be looked at"
    assert worker("skip") == Skipped()


def test_images_are_fetched_when_they_are_missing_always_or_never(worker, engine: Engine, caplog):
    caplog.set_level("INFO")
    options = {"command": ["true"], "docker_conn_id": "engine"}
    DockerOperator(task_id="missing", image="busybox", **options)
    DockerOperator(task_id="again", image="busybox:latest", force_pull=True, **options)
    DockerOperator(task_id="never", image="other", pull="never", **options)
    DockerOperator(task_id="unknown", image="unknown", **options)
    assert worker("missing") == Succeeded()
    assert lines(caplog, "missing")[:2] == ["3: Pulling from busybox:latest", "Status: new"]
    assert worker("again") == Succeeded()
    assert engine.asked.count("POST images/create") == 2
    assert "No such image: other" in worker("never").error
    assert "pull access denied for unknown:latest" in worker("unknown").error


def test_what_is_stopped_is_removed(worker, engine: Engine):
    docker("slow", "echo begun; sleep 3600")

    def stop() -> None:
        engine.started.wait(120)
        stop_current()

    stopper, begun = threading.Thread(target=stop), time.monotonic()
    stopper.start()
    assert isinstance(worker("slow"), Failed)
    stopper.join()
    assert time.monotonic() - begun < 600
    assert (engine.only.removed, engine.only.stopped_with) == (True, 10)
    assert engine.only.process is not None
    assert engine.only.process.wait(120) != 0


def test_an_error_on_the_way_leaves_no_container(worker, engine: Engine):
    engine.broken = {"start"}
    docker("run", "true")
    assert "the engine is ill" in worker("run").error
    assert engine.only.removed


def test_without_a_connection_the_engine_is_that_of_the_environment(worker, engine: Engine, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'engine.sock'}")
    DockerOperator(task_id="run", image="alpine:3", command="echo here")
    assert worker("run") == Succeeded()
    assert worker.plain("run") == "here"


def test_an_engine_that_is_not_there_is_told(worker, monkeypatch):
    monkeypatch.setenv("TIDEMILL_CONN_ENGINE", "unix:///nowhere.sock")
    docker("run", "true")
    assert "engine of containers does not answer" in worker("run").error


@pytest.mark.parametrize(
    ("given", "told"),
    [({"mounts": ["/a"]}, "no mount"), ({"mem_limit": "much"}, "amount of memory"), ({"pull": "often"}, "often"),
     ({"auto_remove": "maybe"}, "maybe")],
)  # fmt: skip
def test_mistakes_are_told_where_the_task_is_made(worker, given, told):
    with pytest.raises(UserError, match=told):
        DockerOperator(task_id="x", image="alpine:3", **given)
