"""Listeners of plug-ins: what they hear of tasks, of runs, and of the assets that a run has told.

Of tasks they hear in the worker; of runs, and of assets, in the process that calls what a DAG wants to be called then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.assets import Asset
from tidemill.compat.airflow.events import NEWEST, AssetEvent
from tidemill.compat.airflow.moments import in_pendulum
from tidemill.compat.airflow.plugins import loaded_plugins, texts_of_plugins
from tidemill.compat.airflow.providers import determine_kwargs

if TYPE_CHECKING:
    from tidemill.model.asset import Told

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
_OF_RUNS = {"begun": "on_dag_run_running", "success": "on_dag_run_success", "failure": "on_dag_run_failed"}
#: What it hears of assets when they are told, in this order, each with the name of its parameter.
_OF_ASSETS = {
    "on_asset_created": "asset", "on_dataset_created": "dataset", "on_asset_changed": "asset",
    "on_dataset_changed": "dataset", "on_asset_event_emitted": "asset_event",
}  # fmt: skip
Heard = Callable[[TaskContext], Any]


def hookimpl(function: Any = None, **options: Any) -> Any:
    """Mark a function of a listener; the order among listeners is that of their names here."""

    def mark(one: Any) -> Any:
        setattr(one, _MARK, options)
        return one

    return mark if function is None else mark(function)


def heard_of_task(event: str) -> tuple[Heard, ...]:
    """What listeners call on an event of a task; functions of its context, as callbacks are."""
    hook, before = _OF_TASKS[event]

    def about(context: TaskContext) -> dict[str, Any]:
        known = {"task_instance": context["ti"], "error": context["exception"]}
        return {**known, "previous_state": before, "session": None}

    return tuple(_telling(one, about) for one in _hooks(hook))


def heard_of_run(event: str) -> tuple[Heard, ...]:
    """The same on an event of a run; when it has ended well, first of the assets that it has told."""

    def about(context: TaskContext) -> dict[str, Any]:
        return {"dag_run": context["dag_run"], "msg": event}

    of_assets = _OF_ASSETS if event == "success" else ()
    heard = [_telling_assets(one, hook) for hook in of_assets for one in _hooks(hook)]
    return (*heard, *(_telling(one, about) for one in _hooks(_OF_RUNS.get(event, ""))))


def events_of_runs(*, assets: bool) -> tuple[str, ...]:
    """The events of runs that a listener may want to hear of, by the words in the files of plug-ins: none is executed.

    Args:
        assets: whether the runs tell any.
    """
    words = {word for text in texts_of_plugins() for word in re.findall(r"\bon_(?:dag_run|asset|dataset)_\w+", text)}
    wanted = {event for event, hook in _OF_RUNS.items() if hook in words}
    if assets and words & _OF_ASSETS.keys():
        wanted.add("success")
    return tuple(event for event in _OF_RUNS if event in wanted)


def _telling(function: Any, about: Callable[[TaskContext], dict[str, Any]]) -> Heard:
    def tell(context: TaskContext) -> None:
        function(**determine_kwargs(function, (), about(context)))

    tell.__name__ = f"{function.__module__}.{function.__name__}"
    return tell


def _telling_assets(function: Any, hook: str) -> Heard:
    def tell(context: TaskContext) -> None:
        told = context["assets_told"]
        for event in _events(_new(told, context) if hook.endswith("_created") else told, context):
            value = event if hook == "on_asset_event_emitted" else event.asset
            function(**determine_kwargs(function, (), {_OF_ASSETS[hook]: value}))

    tell.__name__ = f"{function.__module__}.{function.__name__}"
    return tell


def _new(told: Iterable[Told], context: TaskContext) -> list[Told]:
    """The assets that no run has told before this one, each once."""
    known, own = context.services.assets, context["dag_run"].id
    first: dict[str, Told] = {}
    for one in told:
        first.setdefault(one.asset, one)
    if known is None:  # in a test
        return list(first.values())
    return [one for name, one in first.items() if all(e.run_id >= own for e in known.events([name], NEWEST))]


def _events(told: Iterable[Told], context: TaskContext) -> list[AssetEvent]:
    run, tasks = context["dag_run"], context["dag"].task_dict
    at = in_pendulum(run.end_date)
    made = []
    for one in told:
        addresses = getattr(tasks.get(one.task), "outlet_addresses", {})
        asset = Asset(one.asset, addresses.get(one.asset, ""))
        made.append(AssetEvent(asset, one.extra, at, run.dag_id, one.task, run.run_id, one.map_index, one.key))
    return made


def _hooks(name: str) -> list[Any]:
    listeners = [listener for plugin in loaded_plugins() for listener in plugin.listeners]
    found = (getattr(listener, name, None) for listener in listeners)
    return [one for one in found if hasattr(one, _MARK)]
