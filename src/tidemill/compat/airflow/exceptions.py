"""Airflow's exceptions: those by which a task says how it ends are ours."""

from __future__ import annotations

from tidemill.authoring.signals import FailTask, SensorTimeout, SkipTask


class AirflowException(Exception):
    """Base of Airflow's errors: what users raise, and catch."""


class AirflowSkipException(AirflowException, SkipTask):
    """The task counts as skipped."""


class AirflowFailException(AirflowException, FailTask):
    """The task has failed, and is not tried again."""


class AirflowSensorTimeout(AirflowException, SensorTimeout):
    """A sensor has waited longer than it may."""


class AirflowTaskTimeout(AirflowException):
    """A user's own limit of time is over."""


class AirflowNotFoundException(AirflowException):
    """There is no such connection, variable or file."""


class AirflowConfigException(AirflowException):
    """A setting is not there."""


class AirflowOptionalProviderFeatureException(AirflowException):
    """A feature of a package of providers needs a package that is not there."""


class AirflowProviderDeprecationWarning(DeprecationWarning):
    """Something of a package of providers is going to be another way."""


class AirflowBadRequest(AirflowException):
    """A request makes no sense."""


class DagNotFound(AirflowException):
    """There is no such DAG."""
