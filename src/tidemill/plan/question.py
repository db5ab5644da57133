"""Whether an answer fits what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tidemill.model.errors import Refused, UnknownName, UserError
from tidemill.model.question import Answer, Question
from tidemill.plan.params import params_of


def answer_to(
    question: Question, chosen: Sequence[str], form: Mapping[str, Any], by: str, at: datetime, *, anyone: bool = False
) -> Answer:
    """An answer, if it is one.

    Args:
        question: what was asked.
        chosen: options; none stands for the only one that there is.
        form: values, by name; what is left out has its default.
        by: who answers.
        at: when.
        anyone: nobody is known by name: whoever reaches the project may answer.

    Raises:
        Refused: others are asked.
        UnknownName: there is no such option, or nothing of that name is asked for.
        UserError: none, or more than one, is chosen; a value does not fit, or is missing.
    """
    if question.people and by not in question.people and not anyone:
        raise Refused(f'"{by}" is not asked: {", ".join(question.people)} may answer.')
    picked = tuple(dict.fromkeys(chosen)) or (question.options if len(question.options) == 1 else ())
    for one in picked:
        if one not in question.options:
            raise UnknownName.of("option", one, question.options)
    if not picked or (len(picked) > 1 and not question.multiple):
        wanted = "at least one" if question.multiple else "one"
        what = f"{len(picked)} options are chosen, where {wanted} is wanted."
        raise UserError(what, hint=", ".join(question.options))
    return Answer(picked, params_of(question.form, form, strict=True), by, at)


def answer_in_default(question: Question, at: datetime) -> Answer | None:
    """What counts when nobody has answered in time; None: nothing does."""
    if question.defaults is None:
        return None
    return Answer(question.defaults, {name: schema.get("default") for name, schema in question.form.items()}, None, at)
