"""`airflow.settings`: folders of the project and its time zone. Looked up each time: a process may change versions."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from tidemill.compat.airflow import reach

#: Settings of folders, as `conf.get("core", ...)` names them.
FOLDERS = {"AIRFLOW_HOME": "airflow_home", "DAGS_FOLDER": "dags_folder", "PLUGINS_FOLDER": "plugins_folder"}


def folder(setting: str) -> str | None:
    """A folder by the name of its setting; None: there is no such setting, or it is not known."""
    project = reach.project()
    found = {"airflow_home": project.home, "dags_folder": project.dags, "plugins_folder": reach.plugins()}.get(setting)
    return None if found is None else str(found)


def __getattr__(name: str) -> Any:
    if name == "TIMEZONE":
        return ZoneInfo(reach.project().of_dags.get("timezone", "UTC"))
    if name in FOLDERS:
        return folder(FOLDERS[name]) or ""
    raise AttributeError(name)
