"""Tasks that ask people: they wait without a worker or a scheduler, and go on with what somebody has answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tidemill as tm
from harness.asking import AskingMill
from harness.webapi import Api, serving
from tidemill.authoring import registry
from tidemill.cli.main import root
from tidemill.flow.questions import answer
from tidemill.model.errors import DefinitionError, Refused, UnknownName, UserError
from tidemill.model.question import Question
from tidemill.model.run import RunState
from tidemill.operators import ApprovalOperator, AskOperator, EmptyOperator
from tidemill.plan.question import answer_to
from tidemill.wiring.services import system_clock
from tidemill.wiring.trials import try_dag


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AskingMill]:
    monkeypatch.chdir(tmp_path)
    made = AskingMill(tmp_path)
    yield made
    made.metadata.close()


def test_an_answer_by_the_api_lets_the_next_scheduler_go_on(mill: AskingMill) -> None:
    run = mill.begin()
    mill.turn(run, "first", "deferred")
    mill.wake(run)
    mill.turn(run, "woken", "deferred")
    with serving(mill.settings) as api:
        [asked] = api.get("questions")["questions"]
        assert (asked["pipeline"], asked["task"], asked["subject"]) == ("sends", "ask", "Send 3 letters?")
        assert api.get(f"runs/{run.id}")["questions"][0]["options"] == ["Yes", "No"]
        assert "Send 3 letters?" in str(api.ask("GET", f"/pipelines/sends?run={run.id}").data)
        path, good = f"runs/{run.id}/answer", {"task": "ask", "chosen": ["No"], "form": {"why": "rain"}}
        assert refused(api, path, {**good, "chosen": ["Perhaps"]}) == 404
        assert refused(api, path, {**good, "form": {"why": "?"}}) == 422
        assert api.post(path, good, dry_run="true")["dry_run"] is True
        assert api.post(path, good)["by"] == "local"
        assert refused(api, path, good) == 409, "it has been answered"
        assert api.get("questions")["questions"] == []
    mill.turn(run, "second", RunState.SUCCESS)
    found = mill.result(run)
    assert (found["chosen"], found["form"], found["by"]) == (["No"], {"why": "rain"}, "local")


def refused(api: Api, path: str, body: Any) -> int:
    return api.ask("POST", path, body).status


def test_commands_show_what_is_asked_and_answer_it(mill: AskingMill) -> None:
    run = mill.begin()
    mill.turn(run, "first", "deferred")

    def said(*words: str, at: tuple[str, str] = ("--project", str(mill.folder))) -> str:
        result = CliRunner().invoke(root, [*at, *words])
        assert result.exit_code == 0, result.output
        return result.output

    with serving(mill.settings) as api:
        words = ("runs", "questions", "--json")
        assert said(*words, at=("--server", api.url)) == said(*words)
    assert "Send 3 letters?" in said("runs", "questions")
    assert f"tidemill runs answer {run.id} ask Yes --param why=..." in said("runs", "show", str(run.id))
    with serving(mill.settings) as api:
        words = ("runs", "answer", str(run.id), "ask", "Yes", "--param", "why=12", "--json")
        made = json.loads(said(*words, at=("--server", api.url)))
    assert (made["chosen"], made["form"]) == (["Yes"], {"why": "12"})
    assert "no task asks anything" in said("runs", "questions")
    with pytest.raises(Refused, match="asks nothing"):
        answer(mill.metadata, run.id, ("count", -1), ["Yes"], {}, "ada", system_clock().now())


@pytest.fixture
def dag() -> Iterator[tm.DAG]:
    registry.clear()
    with tm.DAG("asks") as made:
        yield made
    registry.clear()


def test_a_trial_answers_and_time_runs_out(dag: tm.DAG) -> None:
    told: list[str] = []
    AskOperator(task_id="late", subject="?", options=["a", "b"], defaults="b", timeout=timedelta(days=2),
                form={"n": 7}, on_ask=lambda context: told.append(context["task"].task_id))  # fmt: skip
    AskOperator(task_id="never", subject="?", timeout=5, retries=3, retry_delay=0)
    AskOperator(task_id="nobody", subject="?")
    AskOperator(task_id="several", subject="?", options=["a", "b", "c"], multiple=True)
    trial = try_dag(dag, answers={"several": ["c", "a"]})
    assert {task: str(state) for task, state in trial.states.items()} == {
        "late": "success", "never": "failed", "nobody": "failed", "several": "success"
    }  # fmt: skip
    late = trial.result("late")
    assert (late["chosen"], late["form"], late["by"]) == (["b"], {"n": 7}, None)
    assert trial.result("several")["chosen"] == ["c", "a"]
    assert told == ["late"]
    assert trial.tries["never"] == 2, "asked, and woken when its time was over; it is not asked again"


@pytest.mark.parametrize(
    ("more", "chosen", "states"),
    [
        ({}, "Approve", ["success", "success"]),
        ({}, "Reject", ["success", "skipped"]),
        ({"fail_on_reject": True}, "Reject", ["failed", "upstream_failed"]),
    ],
)
def test_an_approval(dag: tm.DAG, more: Any, chosen: str, states: list[str]) -> None:
    ApprovalOperator(task_id="may", subject="May it run?", **more) >> EmptyOperator(task_id="after")
    trial = try_dag(dag, answers={"may": chosen})
    assert [str(state) for state in trial.states.values()] == states


def test_answers_that_are_none(dag: tm.DAG) -> None:
    now = system_clock().now()
    one = Question("?", ("a", "b"), people=("ada",))
    for chosen, by, wrong in ((["a"], "max", Refused), (["c"], "ada", UnknownName), ([], "ada", UserError),
                              (["a", "b"], "ada", UserError)):  # fmt: skip
        with pytest.raises(wrong):
            answer_to(one, chosen, {}, by, now)
    assert answer_to(one, ["a"], {}, "max", now, anyone=True).chosen == ("a",)
    for wrongly in ({"options": []}, {"options": ["a"], "defaults": "b"}, {"options": ["a", "b"], "defaults": []}):
        with pytest.raises(DefinitionError):
            AskOperator(task_id="x", subject="?", **wrongly)  # type: ignore[arg-type]
