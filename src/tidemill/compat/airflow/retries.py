"""Policies of tries: what an exception means for the next one. They are asked in the worker, as under Airflow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tidemill.authoring.place import here
from tidemill.authoring.signals import TaskSignal
from tidemill.compat.airflow.exceptions import AirflowFailException
from tidemill.compat.airflow.providers import import_string
from tidemill.model.errors import DefinitionError
from tidemill.model.place import told


class RetryAction(StrEnum):
    """What follows from a failure."""

    #: Another try, as long as there are any left.
    RETRY = "retry"
    #: No other try.
    FAIL = "fail"
    #: As the task says.
    DEFAULT = "default"


@dataclass(frozen=True)
class RetryDecision:
    """What a policy has decided.

    Args:
        action: see `RetryAction`.
        retry_delay: before the next try, instead of the task's own.
        reason: for people, in the log.
    """

    action: RetryAction = RetryAction.DEFAULT
    retry_delay: timedelta | None = None
    reason: str | None = None

    @classmethod
    def fail(cls, reason: str | None = None) -> RetryDecision:
        """No other try."""
        return cls(RetryAction.FAIL, reason=reason)

    @classmethod
    def retry(cls, delay: timedelta | None = None, reason: str | None = None) -> RetryDecision:
        """Another try."""
        return cls(RetryAction.RETRY, delay, reason)

    @classmethod
    def default(cls) -> RetryDecision:
        """As the task says."""
        return cls()


class RetryPolicy:
    """Base of policies."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """What follows from an exception; subclasses say it."""
        return RetryDecision()


@dataclass
class RetryRule:
    """What follows from some exceptions.

    Args:
        exception: a class, its dotted path, or a list of such; a path that leads nowhere matches nothing.
        action, retry_delay, reason: see `RetryDecision`.
        match_subclasses: those of a class are meant, too.
    """

    exception: Any
    action: RetryAction = RetryAction.RETRY
    retry_delay: timedelta | None = None
    reason: str | None = None
    match_subclasses: bool = True

    def __post_init__(self) -> None:
        for one in self._several():
            if not isinstance(one, type) and not (isinstance(one, str) and "." in one):
                hint = 'ConnectionError, or "requests.exceptions.HTTPError"'
                raise DefinitionError(f"{one!r} is no exception.", where=here(), hint=hint)

    def _several(self) -> Sequence[Any]:
        return self.exception if isinstance(self.exception, list) else [self.exception]

    def matches(self, exc: BaseException) -> bool:
        """Whether an exception is one of these."""
        kinds = [one if isinstance(one, type) else _found(one) for one in self._several()]
        if self.match_subclasses:
            return isinstance(exc, tuple(kind for kind in kinds if kind is not None))
        return type(exc) in kinds


def _found(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:
        return None


class ExceptionRetryPolicy(RetryPolicy):
    """The first rule that matches decides.

    Args:
        rules: in their order.
        default: where none matches.
    """

    def __init__(self, rules: Sequence[RetryRule], default: RetryAction = RetryAction.DEFAULT) -> None:
        self.rules = list(rules)
        self.default = default

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """See `RetryPolicy`."""
        for rule in self.rules:
            if rule.matches(exception):
                return RetryDecision(rule.action, rule.retry_delay, rule.reason)
        return RetryDecision(self.default)


def judge(policy: RetryPolicy, error: Exception, context: Any, log: logging.Logger) -> None:
    """Let a policy decide on an exception: one that shall not be tried again is raised as one that says so."""
    if isinstance(error, TaskSignal):
        return
    ti = context["ti"]
    found = policy.evaluate(error, ti.try_number, ti.max_tries, context)
    if found.reason:
        log.info("the policy of tries says %s: %s", RetryAction(found.action).value, found.reason)
    if found.action == RetryAction.FAIL:
        raise AirflowFailException(told(error)) from error
    if found.action == RetryAction.RETRY and found.retry_delay is not None:
        error.retry_after = found.retry_delay.total_seconds()  # type: ignore[attr-defined]
