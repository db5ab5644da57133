"""Airflow's own example files run as they are: each loads, and its tasks end as they do under Airflow.

`tests/data/airflow/answers.json` has what Airflow said, `differences.json` what is otherwise, and why. Both directions
are held: a difference that is gone must leave the list.
"""

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness import services
from harness.airflowfiles import answers, differences, example_files, needs
from tidemill.model.batch import Interval
from tidemill.model.errors import TidemillError
from tidemill.plan.schedule import parse_moment
from tidemill.testing.clock import ManualClock
from tidemill.wiring.project import declared_in
from tidemill.wiring.settings import Settings
from tidemill.wiring.trials import try_dag


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What each file makes, or its error."""
    files = example_files()
    with pytest.MonkeyPatch.context() as patch:
        root = next(iter(files.values())).parents[2]
        patch.syspath_prepend(str(root))
        # What we have ourselves comes first: these may bring other versions of it.
        patch.setattr(sys, "path", [*sys.path, str(needs())])
        for name in ("https_proxy", "HTTPS_PROXY"):  # where they ask the world, nobody answers
            patch.setenv(name, "http://127.0.0.1:9")
            patch.delenv(name.replace("https", "no").replace("HTTPS", "NO"), raising=False)
        # Airflow's own environment has no pandas; with it a file computes holidays for a hundred days, for seconds.
        patch.setitem(sys.modules, "pandas", None)
        patch.setitem(sys.modules, "pandas.tseries.holiday", None)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("AIRFLOW_HOME", str(home))
        patch.setenv("PATH", f"{_without_sleep(home)}:{os.environ['PATH']}")
        found = {}
        for name, file in files.items():
            try:
                found[name] = declared_in(Settings(root, "examples", ("airflow/**/*.py",)), file)
            except TidemillError as error:
                found[name] = error
        yield found


def _without_sleep(folder: Path) -> Path:
    """A folder with a command `sleep` that takes no time: forty tasks do nothing else for five seconds."""
    program = folder / "bin" / "sleep"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program.parent


def test_every_file_loads_or_is_listed_with_its_reason(made):
    failed = {name: str(error) for name, error in made.items() if isinstance(error, TidemillError)}
    listed = differences()["files"]
    assert sorted(failed) == sorted(listed)
    assert [name for name, entry in listed.items() if entry["says"] not in failed[name]] == []
    assert all(entry["reason"] for entry in listed.values())


def test_a_file_that_does_not_load_says_where(made):
    for name in differences()["files"]:
        assert f"{Path(name).name}:" in (made[name].where or ""), name


def test_tasks_end_as_they_do_under_airflow(made, tmp_path, request, monkeypatch):
    """The states of runs and of all their tasks are those that Airflow's `dag.test()` gave."""
    monkeypatch.chdir(tmp_path)
    listed, asked = differences()["dags"], answers()
    day = parse_moment(asked["day"], "UTC")
    interval = Interval(day, day + timedelta(days=1))
    unlike, same = {}, 0
    for name, file in asked["files"].items():
        now = datetime.fromisoformat(file.get("asked", asked["asked"]))
        for dag_id, answer in (file.get("dags") or {}).items():
            if isinstance(made.get(name), TidemillError) or not answer or "tasks" not in answer:
                continue
            if listed.get(dag_id, {}).get("run") is False:
                continue
            trial = try_dag(made[name][dag_id], interval, root=tmp_path, clock=ManualClock(now))
            ended = {"state": str(trial.state), "tasks": {task: str(state) for task, state in trial.states.items()}}
            if ended == answer:
                same += 1
            else:
                wrong = {
                    t: (ended["tasks"].get(t), s) for t, s in answer["tasks"].items() if ended["tasks"].get(t) != s
                }
                unlike[dag_id] = wrong
    assert {dag_id: wrong for dag_id, wrong in unlike.items() if dag_id not in listed} == {}
    assert sorted(unlike) == sorted(dag_id for dag_id, entry in listed.items() if entry.get("run", True))
    assert same > 0
    services.tell(request, f"{same} DAGs of Airflow's examples end as under Airflow, {len(unlike)} otherwise")


def test_the_example_that_asks_people_goes_on_with_their_answers(made, tmp_path, caplog):
    """Under Airflow `dag.test()` waits for them, so there is no answer of its own to compare with."""
    caplog.set_level("INFO")
    dag = made["standard/example_hitl_operator.py"]["example_hitl_operator"]
    answers = {
        "wait_for_input": {"chosen": "OK", "form": {"information": "it rains"}},
        "wait_for_option": "option 2",
        "wait_for_multiple_options": ["option 4", "option 6"],
        "valid_input_and_options": "Approve",
        "choose_a_branch_to_run": "task_2",
    }
    trial = try_dag(dag, answers=answers, root=tmp_path)
    ended = {task: str(state) for task, state in trial.states.items()}
    assert ended == {
        **dict.fromkeys((*answers, "wait_for_default_option", "task_2"), "success"),
        "task_1": "skipped",
        "task_3": "skipped",
    }
    assert trial.result("wait_for_default_option")["chosen_options"] == ["option 7"]
    assert "Input: it rains" in caplog.text, "templates of notifiers are rendered"
    rejected = try_dag(dag, answers={**answers, "valid_input_and_options": "Reject"}, root=tmp_path)
    assert {str(rejected.states[f"task_{n}"]) for n in (1, 2, 3)} == {"skipped"}
