"""Plug-ins of the project's folder `plugins`: macros of theirs in templates, listeners that hear of tasks and runs.

A plug-in's file is executed when the first task of a process runs, never when DAG files are read: what these import of
it (operators, timetables) Python finds there by itself.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tidemill.compat.airflow import reach
from tidemill.compat.airflow.moments import MacrosOfAirflow
from tidemill.compat.airflow.providers import determine_kwargs
from tidemill.model.place import told

_log = logging.getLogger("tidemill.plugins")
#: What marks a function of a listener, as pluggy does it there.
_MARK = "airflow_impl"
#: What a listener hears of tasks, by the event of ours. Under Airflow, a try that fails is told, whether or not another
#: one follows.
_OF_TASKS = {
    "execute": ("on_task_instance_running", "queued"),
    "success": ("on_task_instance_success", "running"),
    "failure": ("on_task_instance_failed", "running"),
    "retry": ("on_task_instance_failed", "running"),
    "skipped": ("on_task_instance_skipped", "running"),
}
_OF_RUNS = {"success": "on_dag_run_success", "failure": "on_dag_run_failed"}
Heard = Callable[[Mapping[str, Any]], Any]


class AirflowPlugin:
    """Base of plug-ins; what else one may have (pages, links, menus) has no place here.

    Args:
        name: its name, by which templates have its macros: `macros.<name>.<function>`.
        macros: functions.
        listeners: modules or objects with functions that are marked by `hookimpl`.
    """

    name: str | None = None
    macros: Sequence[Any] = ()
    listeners: Sequence[Any] = ()

    @classmethod
    def on_load(cls, *_given: Any, **_named: Any) -> None:
        """Called once it is loaded; for subclasses."""


def hookimpl(function: Any = None, **options: Any) -> Any:
    """Mark a function of a listener; the order among listeners is that of their names here."""

    def mark(one: Any) -> Any:
        setattr(one, _MARK, options)
        return one

    return mark if function is None else mark(function)


class MacrosOfPlugins(MacrosOfAirflow):
    """`macros` of templates, with those of plug-ins."""

    def __getattr__(self, name: str) -> Any:
        for plugin in _plugins():
            if plugin.name == name:
                return SimpleNamespace(**{one.__name__: one for one in plugin.macros})
        raise AttributeError(name)


def heard_of_task(event: str) -> tuple[Heard, ...]:
    """What listeners call on an event of a task; functions of its context, as callbacks are."""
    hook, before = _OF_TASKS[event]
    heard = _hooks(hook)
    if not heard:
        return ()

    def about(context: Mapping[str, Any]) -> dict[str, Any]:
        known = {"task_instance": context["ti"], "error": context["exception"]}
        return {**known, "previous_state": before, "session": None}

    return tuple(_telling(one, about) for one in heard)


def heard_of_run(event: str) -> tuple[Heard, ...]:
    """The same on an event of a run."""

    def about(context: Mapping[str, Any]) -> dict[str, Any]:
        return {"dag_run": context["dag_run"], "msg": event}

    return tuple(_telling(one, about) for one in _hooks(_OF_RUNS[event])) if event in _OF_RUNS else ()


def events_of_runs() -> tuple[str, ...]:
    """The events of runs that a listener may want to hear of, by the words in the files of plug-ins: none is executed.

    The folder is looked through each time, so that the parser knows that DAG files depend on it.
    """
    words = {word for file in _files() for word in re.findall(r"\bon_dag_run_\w+", _text(file))}
    return tuple(event for event, hook in _OF_RUNS.items() if hook in words)


def _telling(function: Any, about: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Heard:
    def tell(context: Mapping[str, Any]) -> Any:
        return function(**determine_kwargs(function, (), about(context)))

    tell.__name__ = f"{function.__module__}.{function.__name__}"
    return tell


def _hooks(name: str) -> list[Any]:
    listeners = [listener for plugin in _plugins() for listener in plugin.listeners]
    found = (getattr(listener, name, None) for listener in listeners)
    return [one for one in found if hasattr(one, _MARK)]


#: The plug-ins of each folder that was loaded.
_loaded: dict[Path, list[type[AirflowPlugin]]] = {}


def _plugins() -> list[type[AirflowPlugin]]:
    """Those of the project; a file that cannot be loaded is told, and hurts nobody."""
    folder = reach.plugins()
    if folder is None or folder in _loaded:
        return _loaded.get(folder, []) if folder else []
    made = _loaded.setdefault(folder, [])
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for file in _files():
        if AirflowPlugin.__name__ in _text(file):
            try:
                made += _plugins_of(".".join(file.relative_to(folder).with_suffix("").parts))
            except Exception as error:
                _log.warning("the plug-in %s cannot be loaded: %s", file.relative_to(folder.parent), told(error))
    return made


def _plugins_of(name: str) -> list[type[AirflowPlugin]]:
    module = importlib.import_module(name.removesuffix(".__init__"))
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, AirflowPlugin)]
    made = [one for one in found if one.__module__ == module.__name__]
    for plugin in made:
        plugin.on_load()
    return made


def _files() -> list[Path]:
    """Files of Python in the folder of plug-ins."""
    found: list[Path] = []
    todo = [reach.plugins()]
    while todo:
        folder = todo.pop()
        if folder is None:
            continue
        try:
            with os.scandir(folder) as inside:
                entries = sorted(inside, key=lambda one: one.name)
        except OSError:  # there is none
            continue
        todo += [Path(one) for one in entries if one.is_dir() and one.name != "__pycache__"]
        found += [Path(one) for one in entries if one.name.endswith(".py")]
    return found


def _text(file: Path) -> str:
    return file.read_text("utf-8", "replace")
