"""`XCom`, `Pool`, `DagRun` and `TaskInstance` of `airflow.models`: rows of a database there, here the reads that have
a meaning without one. Whatever else is asked of them is refused with its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.authoring.task_context import get_current_context
from tidemill.compat.airflow import reach
from tidemill.compat.airflow.exceptions import AirflowException
from tidemill.compat.airflow.finder import not_served
from tidemill.plan.dispatch import DEFAULT_POOL, DEFAULT_SLOTS
from tidemill.ports.xcoms import RETURNED


class Model(type):
    """Of classes that stand for a table of Airflow's: what is not there is told as a name that is not served."""

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(name) if name.startswith("_") else not_served(f"airflow.models.{cls.__name__}.{name}")


class XCom(metaclass=Model):
    """What tasks of this run have handed over."""

    @classmethod
    def get_one(
        cls,
        *,
        task_id: str | None = None,
        key: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
        **where: Any,
    ) -> Any:
        """What a task handed over; None where there is nothing.

        Raises:
            AirflowException: another run is meant: what it handed over is not reached from here.
        """
        context = get_current_context()
        ti = context["ti"]
        asked = {dag_id, run_id, where.get("execution_date"), where.get("logical_date")}
        if where.get("include_prior_dates") or asked - {None, ti.dag_id, ti.run_id, context["logical_date"]}:
            raise AirflowException(
                "XCom.get_one reaches values of this run only: what is handed to other runs belongs into a table, "
                "a file, or the conf of TriggerDagRunOperator"
            )
        index = None if map_index is None or map_index < 0 else map_index
        return ti.xcom_pull(task_ids=task_id, key=key or RETURNED, map_indexes=index)


class Pool(metaclass=Model):
    """A pool of the project: `[pools]` in `tidemill.toml`.

    Args:
        pool: its name.
        slots: how many it has.
    """

    DEFAULT_POOL_NAME = "default_pool"

    def __init__(self, pool: str, slots: int) -> None:
        self.pool = pool
        self.slots = slots

    @classmethod
    def get_pool(cls, pool_name: str, **_session: Any) -> Pool | None:
        """A pool; None where there is none of that name."""
        return next((one for one in cls.get_pools() if one.pool == pool_name), None)

    @classmethod
    def get_pools(cls, **_session: Any) -> list[Pool]:
        """All of them."""
        known: Mapping[str, int] = {DEFAULT_POOL: DEFAULT_SLOTS, **reach.project().pools}
        return [cls(cls.DEFAULT_POOL_NAME if name == DEFAULT_POOL else name, slots) for name, slots in known.items()]


class DagRun(metaclass=Model):
    """Stands in annotations; a task finds its run in the context."""


class TaskInstance(metaclass=Model):
    """Stands in annotations; a task finds itself in the context."""
