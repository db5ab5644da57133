"""Airflow's operators that ask people: ours, with its words for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.exceptions import AirflowException
from tidemill.compat.airflow.task import BaseOperator
from tidemill.compat.airflow.values import conf
from tidemill.model.errors import DefinitionError
from tidemill.model.question import Answer
from tidemill.operators import ask
from tidemill.operators.branching import skip_all_except


class HITLTimeoutError(AirflowException):
    """Nobody has answered in time."""


class HITLTriggerEventError(AirflowException):
    """Waiting for an answer has failed."""


class HITLRejectException(AirflowException):
    """Somebody has rejected it."""


class HITLOperator(BaseOperator, ask.AskOperator):
    """Asks people; see `tidemill.operators.AskOperator`.

    Args:
        subject, options, body, defaults, multiple: see there.
        params: what is to be filled in.
        notifiers: called when it begins to wait.
        assigned_users: those who may answer: users here have names, and one is meant by his `id` or his `name`.
        response_timeout: how long it waits.
        given: those of every task; `execution_timeout` stands for `response_timeout` where that is not there.
    """

    def __init__(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        notifiers: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        assigned_users: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        response_timeout: timedelta | None = None,
        execution_timeout: timedelta | None = None,
        **given: Any,
    ) -> None:
        users = [assigned_users] if isinstance(assigned_users, Mapping) else assigned_users or ()
        names = [str(user[word]) for user in users for word in ("id", "name") if user.get(word)]
        super().__init__(
            form=params, on_ask=notifiers, people=tuple(dict.fromkeys(names)),
            timeout=response_timeout or execution_timeout, **given,
        )  # fmt: skip

    def execute(self, context: TaskContext) -> Any:
        """See `AskOperator`. What is to be filled in stands in `params`, for those who are told."""
        self.params = self.form
        return super().execute(context)

    def answered(self, answer: Answer, context: TaskContext) -> Any:
        """What Airflow's operators hand over."""
        by = None if answer.by is None else {"id": answer.by, "name": answer.by}
        return {
            "chosen_options": list(answer.chosen), "params_input": dict(answer.form), "responded_at": answer.at,
            "responded_by_user": by,
        }  # fmt: skip

    def over(self, what: str) -> Exception:
        """See `AskOperator`: as under Airflow, another try asks again."""
        return HITLTimeoutError(what)

    def generate_link_to_ui(
        self, *, task_instance: Any, base_url: str | None = None, options: str | Collection[str] | None = None,
        params_input: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """The address of the page on which it can be answered; options and values are only made sure of.

        Raises:
            ValueError: they do not fit, or nobody says where pages are.
        """
        chosen = [options] if isinstance(options, str) else options or ()
        if strange := set(chosen) - set(self.options):
            raise ValueError(f"options {strange} are not valid options")
        if strange := set(params_input or ()) - set(self.form):
            raise ValueError(f"params {strange} are not valid params")
        base = base_url or conf.get("api", "base_url", fallback=None)
        if not base:
            raise ValueError("Not able to retrieve base_url")
        there = urlsplit(base)
        asked = urlencode({"run": task_instance.dag_run.id, "task": task_instance.task_id})
        return urlunsplit((there.scheme, there.netloc, f"/pipelines/{task_instance.dag_id}", asked, ""))

    @staticmethod
    def generate_link_to_ui_from_context(
        *, context: Any, base_url: str | None = None, options: Collection[str] | None = None,
        params_input: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """The same, of the task of a context. Raises ValueError: it asks nobody."""
        task = context["task"]
        if not isinstance(task, HITLOperator):
            raise ValueError("This method only supports HITLOperator")
        return task.generate_link_to_ui(
            task_instance=context["ti"], base_url=base_url, options=options, params_input=params_input
        )


class ApprovalOperator(ask.ApprovalOperator, HITLOperator):
    """Asks whether what follows may run."""

    def rejected(self, what: str) -> Exception:
        """As under Airflow, another try asks again."""
        return HITLRejectException(what)


class HITLBranchOperator(HITLOperator):
    """Asks which of the tasks right after it run.

    Args:
        options_mapping: ids of tasks by option; an option without one is an id itself.
        given: those of `HITLOperator`.
    """

    kind = "branch"
    decides = True

    def __init__(self, *, options_mapping: Mapping[str, str] | None = None, **given: Any) -> None:
        super().__init__(**given)
        self.options_mapping = dict(options_mapping or {})
        if strange := [one for one in self.options_mapping if one not in self.options]:
            raise DefinitionError(f'{strange} of "{self.task_id}" are no options of it.', where=self.place)

    def answered(self, answer: Answer, context: TaskContext) -> Any:
        """Decide."""
        skip_all_except(context, [self.options_mapping.get(one, one) for one in answer.chosen])
        return super().answered(answer, context)


class HITLEntryOperator(HITLOperator):
    """Asks for values to be filled in; "OK" is all that can be chosen, unless options are given."""

    OK = "OK"

    def __init__(self, **given: Any) -> None:
        if "options" not in given:
            given = {"defaults": [self.OK], **given, "options": [self.OK]}
        super().__init__(**given)
