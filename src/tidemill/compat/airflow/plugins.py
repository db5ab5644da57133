"""Plug-ins: those in the project's folder `plugins`, and those that installed packages bring by the entry point
`airflow.plugins`. Templates have their macros; what their listeners hear is in `listeners.py`.

A plug-in is executed when the first task of a process runs, never when DAG files are read: what these import of it
(operators, timetables) Python finds there by itself.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tidemill.compat.airflow import reach
from tidemill.compat.airflow.moments import MacrosOfAirflow
from tidemill.model.place import told

_log = logging.getLogger("tidemill.plugins")
#: The group of entry points by which packages name their plug-ins.
_GROUP = "airflow.plugins"


class AirflowPlugin:
    """Base of plug-ins; what else one may have (pages, links, menus) has no place here.

    Args:
        name: its name, by which templates have its macros: `macros.<name>.<function>`.
        macros: functions.
        listeners: modules or objects with functions that are marked by `airflow.listeners.hookimpl`.
    """

    name: str | None = None
    macros: Sequence[Any] = ()
    listeners: Sequence[Any] = ()

    @classmethod
    def on_load(cls, *_given: Any, **_named: Any) -> None:
        """Called once it is loaded; for subclasses."""


class MacrosOfPlugins(MacrosOfAirflow):
    """`macros` of templates, with those of plug-ins."""

    def __getattr__(self, name: str) -> Any:
        for plugin in loaded_plugins():
            if plugin.name == name:
                return SimpleNamespace(**{one.__name__: one for one in plugin.macros})
        raise AttributeError(name)


#: The plug-ins of each folder that was loaded.
_loaded: dict[Path, list[type[AirflowPlugin]]] = {}


def loaded_plugins() -> list[type[AirflowPlugin]]:
    """Those of the project, then those of packages; what cannot be loaded is told, and hurts nobody."""
    folder = reach.plugins()
    return [] if folder is None else [*_of_folder(folder), *_of_packages()]


def texts_of_plugins() -> Iterator[str]:
    """The files in which plug-ins may be, none of which is executed.

    The folder is looked through each time, so that the parser knows that DAG files depend on it.
    """
    yield from map(_text, _files())
    if reach.plugins() is not None:
        yield from _texts_of_packages()


def _of_folder(folder: Path) -> list[type[AirflowPlugin]]:
    if folder in _loaded:
        return _loaded[folder]
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


@cache
def _of_packages() -> list[type[AirflowPlugin]]:
    made = []
    for entry in entry_points(group=_GROUP):
        try:
            plugin = entry.load()
            if not (isinstance(plugin, type) and issubclass(plugin, AirflowPlugin)):
                raise TypeError("it is no AirflowPlugin")
            plugin.on_load()
            made.append(plugin)
        except Exception as error:
            _log.warning("the plug-in %s (%s) cannot be loaded: %s", entry.name, entry.value, told(error))
    return made


@cache
def _texts_of_packages() -> list[str]:
    return [_text(file) for file in sorted({one for e in entry_points(group=_GROUP) for one in _beside(e.module)})]


def _beside(module: str) -> list[Path]:
    """The file of an installed module, and those beside and below it in its package: listeners are often in those."""
    parts, places, spec = module.split("."), None, None
    for length in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:length]), places)
        if spec is None:
            return []
        places = spec.submodule_search_locations
    if spec is None or spec.origin is None:
        return []
    file = Path(spec.origin)
    return [file] if len(parts) == 1 and places is None else list(file.parent.rglob("*.py"))


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
