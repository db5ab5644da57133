"""What tasks ask people: the questions that are open, and taking in an answer.

task -> deferred, with its question -> page, command, API -> answer -> xcom and "due" wish -> the same try goes on
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidemill.model.errors import Refused
from tidemill.model.graph import TaskKey
from tidemill.model.instance import Due
from tidemill.model.question import ANSWER, Answer, Question
from tidemill.model.run import DeferredTask
from tidemill.plan.question import answer_to
from tidemill.ports.metadata import Metadata, Tx
from tidemill.ports.runstore import wish_json
from tidemill.ports.xcoms import FIRED


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that nobody has answered yet, and the task that asks."""

    task: DeferredTask
    question: Question

    def facts(self) -> dict[str, Any]:
        """What is told of it; times as they are."""
        asked = {**self.question.as_json(), "asked_at": self.question.asked_at, "until": self.question.until}
        return {"run_id": self.task.run_id, "task": self.task.task, "map_index": self.task.map_index, **asked}


def open_questions(tx: Tx, run_id: int | None = None) -> list[OpenQuestion]:
    """The questions of a run, or of all, that nobody has answered yet."""
    made = []
    for one in tx.runs.deferred(run_id):
        found = json.loads(one.trigger)
        if found.get("trigger") == ANSWER and "by" not in found:
            made.append(OpenQuestion(one, Question.from_json(found["arguments"])))
    return made


def listed_questions(tx: Tx) -> list[dict[str, Any]]:
    """All of them with their pipelines, as they are told, oldest first."""
    found = open_questions(tx)
    ids = dict.fromkeys(one.task.run_id for one in found)
    of = {one.run.id: one.pipeline for one in tx.runs.listed(run_ids=list(ids))} if ids else {}
    told = [{**one.facts(), "pipeline": of[one.task.run_id]} for one in found]
    return sorted(told, key=lambda one: (one["asked_at"], one["run_id"], one["task"], one["map_index"]))


def answer(
    metadata: Metadata,
    run_id: int,
    key: TaskKey,
    chosen: Sequence[str],
    form: Mapping[str, Any],
    by: str,
    now: datetime,
    *,
    anyone: bool = False,
    dry_run: bool = False,
) -> Answer:
    """Answer what a task asks; the task goes on. For the arguments see `answer_to`.

    Raises:
        Refused: it does not ask, others are asked, or somebody else has just answered.
        UnknownName, UserError: the answer does not fit.
    """
    with metadata.write() as tx:
        found = next((one for one in open_questions(tx, run_id) if (one.task.task, one.task.map_index) == key), None)
        if found is None:
            raise Refused(f'"{key[0]}" of run {run_id} asks nothing now.', hint=f"tidemill runs show {run_id}")
        made = answer_to(found.question, chosen, form, by, now, anyone=anyone)
        if dry_run:
            return made
        # The row of the task decides who was first; whoever comes later sees it changed.
        taken = json.dumps({**json.loads(found.task.trigger), "by": by})
        if not tx.runs.change_trigger(found.task, taken):
            raise Refused(f'Somebody else has just answered "{key[0]}" of run {run_id}.')
        tx.xcoms.put(run_id, key[0], key[1], [(FIRED, json.dumps({"answer": made.as_json()}))])
        tx.events.add("wish", {**wish_json(Due(key)), "run_id": run_id}, now)
    return made
