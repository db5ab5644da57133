"""Small values that Airflow's files import: days of the week, states, settings, notifiers."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from tidemill.compat.airflow.exceptions import AirflowConfigException
from tidemill.compat.airflow.settings import folder
from tidemill.model.errors import UnknownName
from tidemill.plan.fields import render_field

_NEEDED = object()


class WeekDay(IntEnum):
    """A day of the week; Monday is 1."""

    MONDAY = 1
    TUESDAY = 2
    WEDNESDAY = 3
    THURSDAY = 4
    FRIDAY = 5
    SATURDAY = 6
    SUNDAY = 7

    @classmethod
    def of(cls, given: Any) -> frozenset[WeekDay]:
        """A day by its name or value, or several. Raises UnknownName."""
        several = [given] if isinstance(given, str | WeekDay) or not isinstance(given, Iterable) else list(given)
        names = [one.name if isinstance(one, WeekDay) else str(one).upper() for one in several]
        for name in names:
            if name not in cls.__members__:
                raise UnknownName.of("day of the week", name, cls.__members__)
        return frozenset(cls[name] for name in names)


class TaskInstanceState(StrEnum):
    """States of a task."""

    REMOVED = "removed"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    RESTARTING = "restarting"
    FAILED = "failed"
    UP_FOR_RETRY = "up_for_retry"
    UP_FOR_RESCHEDULE = "up_for_reschedule"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"
    DEFERRED = "deferred"


class DagRunState(StrEnum):
    """States of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class State:
    """States as they were named before."""

    NONE = None
    REMOVED, SCHEDULED, QUEUED, RUNNING = "removed", "scheduled", "queued", "running"
    SUCCESS, FAILED, SKIPPED, DEFERRED = "success", "failed", "skipped", "deferred"
    UP_FOR_RETRY, UP_FOR_RESCHEDULE, UPSTREAM_FAILED = "up_for_retry", "up_for_reschedule", "upstream_failed"
    finished = frozenset(("success", "failed", "skipped", "upstream_failed", "removed"))


class WeightRule(StrEnum):
    """What is added to the weight of a task."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    ABSOLUTE = "absolute"


class PriorityWeightStrategy:
    """Base of a user's own weight rule: its tasks count with their own weight alone here."""


class BaseNotifier:
    """Base of what is given as a callback instead of a function; its template fields are rendered when it is called."""

    template_fields: Sequence[str] = ()

    def __init__(self, **_options: Any) -> None:
        pass

    @property
    def log(self) -> logging.Logger:
        """The log of its class."""
        return logging.getLogger(f"{type(self).__module__}.{type(self).__name__}")

    def notify(self, context: Any) -> None:
        """Tell; subclasses say whom."""

    def __call__(self, context: Any) -> None:
        """It is called as a function is."""
        from tidemill.plan.template import Sandbox

        rendered = copy.copy(self)  # the next call has other values
        for name in self.template_fields:
            setattr(
                rendered,
                name,
                render_field(getattr(self, name, None), context, sandbox=Sandbox, where=type(self).__name__),
            )
        rendered.notify(context)


class AirflowParsingContext(NamedTuple):
    """For which DAG a file is read, where it makes several: here always for all of them."""

    dag_id: str | None = None
    task_id: str | None = None


def get_parsing_context() -> AirflowParsingContext:
    """See `AirflowParsingContext`."""
    return AirflowParsingContext()


def apply_defaults(function: Any) -> Any:
    """What stands above `__init__` in files of before Airflow 2: default arguments are filled in without it."""
    return function


#: What files and packages of providers ask for as if it were always there: Airflow's own values.
_DEFAULTS = {
    "AIRFLOW__CORE__DEFAULT_TIMEZONE": "utc",
    "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": "default",
    "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": "",
    "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": "",
    "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "False",
    "AIRFLOW__OPERATORS__DEFAULT_OWNER": "airflow",
}


class _Settings:
    """`conf`: settings of Airflow, of the environment: `AIRFLOW__SECTION__KEY`; and a few that are there by themselves,
    the project's folders among them.
    """

    def get(self, section: str, key: str, fallback: Any = _NEEDED, **_options: Any) -> Any:
        """A setting. Raises AirflowConfigException: it is not there, and nothing stands for it."""
        name = f"AIRFLOW__{section}__{key}".upper()
        if name in os.environ:
            return os.environ[name]
        if section == "core" and (found := folder(key)) is not None:
            return found
        if fallback is _NEEDED and name in _DEFAULTS:
            return _DEFAULTS[name]
        if fallback is _NEEDED:
            raise AirflowConfigException(f"section/key [{section}/{key}] not found; {name} in the environment sets it")
        return fallback

    def getboolean(self, section: str, key: str, fallback: Any = _NEEDED) -> Any:
        """A setting that is true or false."""
        found = self.get(section, key, fallback)
        return found.strip().lower() in ("t", "true", "1") if isinstance(found, str) else found

    def getint(self, section: str, key: str, fallback: Any = _NEEDED) -> Any:
        """A whole number."""
        found = self.get(section, key, fallback)
        return int(found) if isinstance(found, str) else found

    def getfloat(self, section: str, key: str, fallback: Any = _NEEDED) -> Any:
        """A number."""
        found = self.get(section, key, fallback)
        return float(found) if isinstance(found, str) else found

    def getimport(self, section: str, key: str, fallback: Any = None) -> Any:
        """What the dotted path of a setting names. Raises ImportError."""
        found = self.get(section, key, fallback)
        if not found:
            return None
        module, _, name = str(found).rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except AttributeError:
            raise ImportError(f'Module "{module}" has no "{name}"') from None

    def getjson(self, section: str, key: str, fallback: Any = _NEEDED) -> Any:
        """The value of a setting's JSON."""
        found = self.get(section, key, fallback)
        return json.loads(found) if isinstance(found, str) else found


conf = _Settings()
