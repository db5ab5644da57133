"""Section `[airflow]` of a project's settings: what Airflow's own settings say where a DAG says nothing.

[airflow]                  all that DAG files of Airflow take from `airflow.cfg`; `tidemill import airflow` writes it
timezone = "Europe/Oslo"   of a `start_date` without one
catchup = true             catchup_by_default
max_active_runs = 16       max_active_runs_per_dag
max_active_tasks = 16      max_active_tasks_per_dag
ignore = "regexp"          how `.airflowignore` is read: "glob" as by Airflow 3, if nothing is said, or "regexp"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.model.errors import SettingsError, UnknownName
from tidemill.plan.ignored import SYNTAXES

AIRFLOW_KEYS = ("timezone", "catchup", "max_active_runs", "max_active_tasks", "ignore")


@dataclass(frozen=True, slots=True)
class AirflowSettings:
    """What holds for DAG files of Airflow; see the module's text. What is None is as for every DAG."""

    timezone: str | None = None
    catchup: bool | None = None
    max_active_runs: int | None = None
    max_active_tasks: int | None = None
    ignore: str = "glob"

    def of_dags(self) -> dict[str, Any]:
        """What DAGs get that do not say it: by the names of their arguments, and `timezone`."""
        given = asdict(self)
        return {name: given[name] for name in AIRFLOW_KEYS if name != "ignore" and given[name] is not None}


def read_airflow_settings(data: Mapping[str, Any], where: str) -> AirflowSettings:
    """The section. Raises SettingsError, UnknownName."""
    given = dict(data.get("airflow", {}))
    for name in ("max_active_runs", "max_active_tasks"):
        value = given.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise SettingsError(f"airflow.{name} = {value!r} is no number of them.", where=where, hint="1 or more")
    if not isinstance(given.get("catchup", False), bool):
        raise SettingsError(f"airflow.catchup = {given['catchup']!r} is neither true nor false.", where=where)
    if given.get("ignore", SYNTAXES[0]) not in SYNTAXES:
        raise UnknownName.of("syntax of .airflowignore", str(given["ignore"]), SYNTAXES, where=where)
    try:
        ZoneInfo(given.get("timezone", "UTC"))
    except (KeyError, ValueError, TypeError, OSError):
        what = f"airflow.timezone = {given['timezone']!r} is no time zone."
        raise SettingsError(what, where=where, hint='timezone = "Europe/Oslo"') from None
    return AirflowSettings(**given)
