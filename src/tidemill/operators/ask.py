"""Tasks that ask people: they wait, without a worker, until somebody has answered by a page, a command or the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from tidemill.authoring.arguments import as_functions, as_length
from tidemill.authoring.params import schemas_of
from tidemill.authoring.signals import Defer, FailTask, SensorTimeout
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError
from tidemill.model.question import ANSWER, Answer, Question
from tidemill.operators.branching import skip_everything_after
from tidemill.operators.sensors import STATE
from tidemill.plan.params import check_schemas
from tidemill.plan.question import answer_in_default
from tidemill.ports.xcoms import FIRED


class AskOperator(BaseOperator):
    """Asks people, and waits for the answer; hands over `{"chosen": [...], "form": {...}, "by": ..., "at": ...}`.

    Args:
        subject: what is asked, in a line; a template.
        options: what may be chosen.
        body: more of it; a template.
        defaults: an option, or several, that count as chosen when the time is over; without them the task fails then.
        multiple: several may be chosen.
        form: what else is to be filled in: `Param`s or defaults, by name.
        people: names of users who may answer; none: all operators of the pipeline.
        timeout: how long it waits; seconds, "2h" or a timedelta. None: for ever.
        on_ask: functions of the context, one or several, called when it begins to wait.
        options_of_task: those of every task.

    Raises:
        DefinitionError: there is nothing to choose from, or the defaults are no options.
    """

    kind = "ask"
    template_fields: Sequence[str] = ("subject", "body")

    def __init__(
        self,
        *,
        subject: str,
        options: Sequence[str] = ("OK",),
        body: str = "",
        defaults: str | Sequence[str] | None = None,
        multiple: bool = False,
        form: Mapping[str, Any] | None = None,
        people: str | Sequence[str] = (),
        timeout: float | str | timedelta | None = None,
        on_ask: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        **options_of_task: Any,
    ) -> None:
        super().__init__(**options_of_task)
        self.subject = subject
        self.options = [options] if isinstance(options, str) else list(options)
        self.body = body
        self.defaults = [defaults] if isinstance(defaults, str) else None if defaults is None else list(defaults)
        self.multiple = multiple
        self.form = dict(form or {})
        self.people = (people,) if isinstance(people, str) else tuple(people)
        self.timeout = None if timeout is None else as_length(timeout)
        self.on_ask = as_functions(on_ask)
        self._check()

    def _check(self) -> None:
        if not self.options or not all(self.options):
            raise DefinitionError(
                f'"{self.task_id}" has no options to choose from.', where=self.place, hint='options=["Yes", "No"]'
            )
        if strange := [one for one in self.defaults or () if one not in self.options]:
            raise DefinitionError(f'{strange} of "{self.task_id}" are no options of it.', where=self.place)
        if self.defaults is not None and (not self.defaults or (len(self.defaults) > 1 and not self.multiple)):
            raise DefinitionError(
                f'"{self.task_id}" has {len(self.defaults)} defaults.', where=self.place, hint="one; or multiple=True"
            )
        # A default need not fit: an empty text stands for what is to be filled in.
        check_schemas(
            {name: {word: value for word, value in schema.items() if word != "default"}
             for name, schema in schemas_of(self.form).items()}, where=self.place,
        )  # fmt: skip

    def execute(self, context: TaskContext) -> Any:
        """Ask; once somebody has answered, or the time is over, go on."""
        ti, now = context["ti"], context.services.clock.now()
        state: Mapping[str, Any] = ti.xcom_pull(key=STATE) or {}
        if state.get("asked") != ti.try_number:
            until = None if self.timeout is None else now + self.timeout
            question = Question(
                self.subject, tuple(self.options), self.body or "", None if self.defaults is None
                else tuple(self.defaults), self.multiple, schemas_of(self.form), self.people, now, until,
            )  # fmt: skip
            for function in self.on_ask:
                function(context)
            self.log.info("asks: %s", self.subject)
            ti.xcom_push(STATE, {"asked": ti.try_number, "question": question.as_json()})
            ti.xcom_push(FIRED, None)
            raise Defer(ANSWER, question.as_json(), self.timeout)
        question = Question.from_json(state["question"])
        fired = ti.xcom_pull(key=FIRED) or {}
        if "answer" in fired:
            answer = Answer.from_json(fired["answer"])
            self.log.info("%s has answered: %s", answer.by, ", ".join(answer.chosen))
            return self.answered(answer, context)
        if question.until is None or now < question.until:  # woken for nothing
            raise Defer(ANSWER, question.as_json(), None if question.until is None else question.until - now)
        in_default = answer_in_default(question, now)
        if in_default is None:
            raise self.over(f'nobody has answered "{question.subject}" within {self.timeout}')
        self.log.info("nobody has answered within %s: %s", self.timeout, ", ".join(in_default.chosen))
        return self.answered(in_default, context)

    def answered(self, answer: Answer, context: TaskContext) -> Any:
        """What it hands over; subclasses may do more."""
        return answer.as_json()

    def over(self, what: str) -> Exception:
        """What is raised when nobody has answered in time."""
        return SensorTimeout(what)


class ApprovalOperator(AskOperator):
    """Asks whether what follows may run: "Approve" or "Reject". Rejected, it skips the tasks right after it.

    Args:
        fail_on_reject: it fails instead, without another try.
        ignore_downstream_trigger_rules: everything after it is skipped, whatever its trigger rule.
        options: those of `AskOperator`, but for `options` and `multiple`.
    """

    kind = "approval"
    decides = True
    APPROVE, REJECT = "Approve", "Reject"

    def __init__(
        self, *, fail_on_reject: bool = False, ignore_downstream_trigger_rules: bool = False, **options: Any
    ) -> None:
        super().__init__(**{**options, "options": [self.APPROVE, self.REJECT], "multiple": False})
        self.fail_on_reject = fail_on_reject
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def answered(self, answer: Answer, context: TaskContext) -> Any:
        """Skip or fail where it is rejected."""
        if answer.chosen == (self.REJECT,):
            if self.fail_on_reject:
                raise self.rejected(f"{answer.by or 'nobody in time'}: rejected")
            self.log.info("rejected: what follows is skipped")
            skip_everything_after(context, whatever_its_rule=self.ignore_downstream_trigger_rules)
        return super().answered(answer, context)

    def rejected(self, what: str) -> Exception:
        """What is raised where a rejection is a failure."""
        return FailTask(what)
