"""The kinds of tasks that users name, and what they are connected and ended by. Loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.authoring.decorators import setup as setup
    from tidemill.authoring.decorators import teardown as teardown
    from tidemill.authoring.edges import Label as Label
    from tidemill.authoring.edges import chain as chain
    from tidemill.authoring.edges import cross_downstream as cross_downstream
    from tidemill.authoring.signals import Defer as Defer
    from tidemill.authoring.signals import FailTask as FailTask
    from tidemill.authoring.signals import Reschedule as Reschedule
    from tidemill.authoring.signals import SensorTimeout as SensorTimeout
    from tidemill.authoring.signals import SkipTask as SkipTask
    from tidemill.authoring.task_context import get_current_context as get_current_context
    from tidemill.model.condition import FilesArrive as FilesArrive
    from tidemill.model.graph import TriggerRule as TriggerRule
    from tidemill.operators.ask import ApprovalOperator as ApprovalOperator
    from tidemill.operators.ask import AskOperator as AskOperator
    from tidemill.operators.base import BaseOperator as BaseOperator
    from tidemill.operators.bash import BashOperator as BashOperator
    from tidemill.operators.dbt import DbtProject as DbtProject
    from tidemill.operators.docker import DockerOperator as DockerOperator
    from tidemill.operators.email import EmailOperator as EmailOperator
    from tidemill.operators.empty import EmptyOperator as EmptyOperator
    from tidemill.operators.glue import GlueJobOperator as GlueJobOperator
    from tidemill.operators.http import HttpOperator as HttpOperator
    from tidemill.operators.http import HttpSensor as HttpSensor
    from tidemill.operators.kafka import KafkaProduceOperator as KafkaProduceOperator
    from tidemill.operators.latest_only import LatestOnlyOperator as LatestOnlyOperator
    from tidemill.operators.python import BranchPythonOperator as BranchPythonOperator
    from tidemill.operators.python import PythonOperator as PythonOperator
    from tidemill.operators.python import ShortCircuitOperator as ShortCircuitOperator
    from tidemill.operators.sensors import BaseSensor as BaseSensor
    from tidemill.operators.sensors import PokeReturnValue as PokeReturnValue
    from tidemill.operators.sensors import PythonSensor as PythonSensor
    from tidemill.operators.spark import SparkSubmitOperator as SparkSubmitOperator
    from tidemill.operators.sql import SqlOperator as SqlOperator
    from tidemill.operators.sql import SqlSensor as SqlSensor
    from tidemill.operators.trigger_dag_run import TriggerDagRunOperator as TriggerDagRunOperator
    from tidemill.operators.virtualenv import VirtualenvOperator as VirtualenvOperator
    from tidemill.operators.waiting import DateTimeSensor as DateTimeSensor
    from tidemill.operators.waiting import ExternalTaskSensor as ExternalTaskSensor
    from tidemill.operators.waiting import FileSensor as FileSensor
    from tidemill.operators.waiting import TableSensor as TableSensor
    from tidemill.operators.waiting import TimeDeltaSensor as TimeDeltaSensor
    from tidemill.operators.waiting import TimeSensor as TimeSensor

#: Public name -> the module that has it.
_PUBLIC = {
    # tasks
    "BaseOperator": "tidemill.operators.base",
    "BashOperator": "tidemill.operators.bash",
    "BranchPythonOperator": "tidemill.operators.python",
    "DbtProject": "tidemill.operators.dbt",
    "EmptyOperator": "tidemill.operators.empty",
    "LatestOnlyOperator": "tidemill.operators.latest_only",
    "PythonOperator": "tidemill.operators.python",
    "ShortCircuitOperator": "tidemill.operators.python",
    "TriggerDagRunOperator": "tidemill.operators.trigger_dag_run",
    "VirtualenvOperator": "tidemill.operators.virtualenv",
    # tasks that wait for people
    "ApprovalOperator": "tidemill.operators.ask",
    "AskOperator": "tidemill.operators.ask",
    # tasks with systems outside
    "DockerOperator": "tidemill.operators.docker",
    "EmailOperator": "tidemill.operators.email",
    "GlueJobOperator": "tidemill.operators.glue",
    "HttpOperator": "tidemill.operators.http",
    "KafkaProduceOperator": "tidemill.operators.kafka",
    "SparkSubmitOperator": "tidemill.operators.spark",
    "SqlOperator": "tidemill.operators.sql",
    # sensors
    "BaseSensor": "tidemill.operators.sensors",
    "PokeReturnValue": "tidemill.operators.sensors",
    "PythonSensor": "tidemill.operators.sensors",
    "DateTimeSensor": "tidemill.operators.waiting",
    "ExternalTaskSensor": "tidemill.operators.waiting",
    "FileSensor": "tidemill.operators.waiting",
    "HttpSensor": "tidemill.operators.http",
    "SqlSensor": "tidemill.operators.sql",
    "TableSensor": "tidemill.operators.waiting",
    "TimeDeltaSensor": "tidemill.operators.waiting",
    "TimeSensor": "tidemill.operators.waiting",
    # order
    "Label": "tidemill.authoring.edges",
    "chain": "tidemill.authoring.edges",
    "cross_downstream": "tidemill.authoring.edges",
    "setup": "tidemill.authoring.decorators",
    "teardown": "tidemill.authoring.decorators",
    "TriggerRule": "tidemill.model.graph",
    # how a task ends
    "SkipTask": "tidemill.authoring.signals",
    "FailTask": "tidemill.authoring.signals",
    "Reschedule": "tidemill.authoring.signals",
    "Defer": "tidemill.authoring.signals",
    "SensorTimeout": "tidemill.authoring.signals",
    # in a task, and schedules
    "get_current_context": "tidemill.authoring.task_context",
    "FilesArrive": "tidemill.model.condition",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        from difflib import get_close_matches

        near = get_close_matches(name, _PUBLIC, n=1)
        raise AttributeError(f'tidemill.operators has no "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
