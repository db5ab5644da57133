"""What tasks ask people: the list, and answering."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow import control, questions
from tidemill.flow.facts.runs import listed_run
from tidemill.model.access import LOCAL
from tidemill.web.table import LARGEST_ID, Asked, Body


class QuestionItem(Struct):
    """What a task asks; `form` is JSON schema by name. `until`: then `defaults` count, or the task fails."""

    run_id: int
    task: str
    map_index: int
    subject: str
    options: list[str]
    body: str
    defaults: list[str] | None
    multiple: bool
    form: dict[str, dict[str, Any]]
    people: list[str]
    asked_at: datetime
    until: datetime | None


class OpenQuestion(QuestionItem):
    """The same, with its pipeline."""

    pipeline: str


class Questions(Struct):
    """What tasks ask, oldest first."""

    questions: list[OpenQuestion]


class AnswerBody(Body, frozen=True):
    """An answer: options, and values of the form."""

    task: str
    chosen: Annotated[list[str], Meta(max_length=500)] = []
    form: dict[str, Any] = {}
    index: Annotated[int, Meta(ge=0, le=LARGEST_ID)] | None = None


class Answered(Struct):
    """What was answered; `by`: whose name is kept with it."""

    run_id: int
    task: str
    chosen: list[str]
    form: dict[str, Any]
    by: str
    at: datetime
    dry_run: bool


def of_run(asked: Asked) -> list[str]:
    """The pipeline of the run that the path names."""
    with asked.backend.metadata.read() as tx:
        return [listed_run(tx, asked.path["run_id"]).pipeline]


def list_questions(asked: Asked) -> dict[str, Any]:
    """What tasks ask, of pipelines that the asker may see."""
    with asked.backend.metadata.read() as tx:
        return {"questions": [one for one in questions.listed_questions(tx) if asked.sees(one["pipeline"])]}


def answer(asked: Asked) -> dict[str, Any]:
    """Answer what a task asks; the task goes on."""
    run_id, body, who = asked.path["run_id"], asked.body, asked.principal
    made = questions.answer(
        asked.backend.metadata, run_id, control.whole(body.task, body.index), body.chosen, body.form, who.name,
        asked.backend.clock.now(), anyone=who == LOCAL, dry_run=asked.query.dry_run,
    )  # fmt: skip
    if not asked.query.dry_run:
        asked.backend.ring()
    return {"run_id": run_id, "task": body.task, **made.as_json(), "at": made.at, "dry_run": asked.query.dry_run}
