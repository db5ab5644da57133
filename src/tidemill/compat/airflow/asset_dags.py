"""`@asset`: a function, its task, and its DAG, all by the name of the asset that it writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemill.authoring.place import here
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.assets import Asset, MultiAsset
from tidemill.compat.airflow.dag import DAG
from tidemill.compat.airflow.operators import PythonOperator
from tidemill.model.errors import DefinitionError

#: Arguments of an asset; those of its DAG are all others.
_OF_ASSET = ("name", "uri", "group", "extra", "access_control")
#: Parameters of the function that are variables of the context; any other one without a default is an asset.
_OF_CONTEXT = frozenset({
    "asset_state_store", "conf", "conn", "context", "dag", "dag_run", "data_interval_end", "data_interval_start", "ds",
    "ds_nodash", "inlet_events", "inlets", "logical_date", "macros", "map_index", "outlet_events", "outlets", "params",
    "partition_key", "run_id", "task", "task_instance", "task_state_store", "ti", "triggering_asset_events", "ts",
    "ts_nodash", "var",
})  # fmt: skip


class AssetOperator(PythonOperator):
    """The task of an asset: its function gets the assets that its parameters name, and itself as `self`.

    Args:
        asset: what it writes.
        options: those of `PythonOperator`.
    """

    def __init__(self, *, asset: Any, python_callable: Callable[..., Any], **options: Any) -> None:
        read = [Asset.ref(name=name) for name in _read_by(python_callable)]
        super().__init__(python_callable=python_callable, inlets=read, **options)
        self.asset = asset

    def call(self, context: TaskContext) -> Any:
        """Call it."""
        given = {name: Asset.ref(name=name) for name in _read_by(self.python_callable)}
        if "self" in inspect.signature(self.python_callable).parameters:
            given["self"] = self.asset
        self.op_kwargs = given
        return super().call(context)


def _read_by(function: Callable[..., Any]) -> list[str]:
    """The assets that the parameters of a function name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        name
        for name, one in inspect.signature(function).parameters.items()
        if one.kind in named and one.default is one.empty and name != "self" and name not in _OF_CONTEXT
    ]


class _AssetDecorator:
    """`@asset(schedule="@daily", uri="s3://bucket/key")`, and `@asset.multi(schedule=..., outlets=[...])`."""

    def __call__(self, **options: Any) -> Callable[[Callable[..., Any]], Asset]:
        """Make a function an asset.

        Args:
            options: `schedule`; those of `Asset`, by default with the function's name; those of `DAG`.
        """

        def decorate(function: Callable[..., Any]) -> Asset:
            given = {name: options[name] for name in _OF_ASSET if options.get(name) is not None}
            made = Asset(**{"name": _name_of(function), **given})
            _declare(function, made, made.name, [made], options)
            return made

        return _unless_bare(options, decorate)

    def multi(self, *, outlets: Sequence[Any], **options: Any) -> Callable[[Callable[..., Any]], MultiAsset]:
        """Make a function the writer of several assets.

        Args:
            outlets: the assets.
            options: `schedule` and others of `DAG`; `name`, by default the function's.
        """

        def decorate(function: Callable[..., Any]) -> MultiAsset:
            made = MultiAsset(options.get("name") or _name_of(function), tuple(outlets))
            _declare(function, made, made.name, outlets, options)
            return made

        return decorate


def _unless_bare(
    options: Mapping[str, Any], decorate: Callable[[Callable[..., Any]], Asset]
) -> Callable[[Callable[..., Any]], Asset]:
    if "schedule" not in options:
        raise DefinitionError("@asset needs a schedule.", where=here(), hint='@asset(schedule="@daily"), or None')
    return decorate


def _name_of(function: Callable[..., Any]) -> str:
    if function.__name__ == "<lambda>" or not inspect.isfunction(function):
        raise DefinitionError(
            "@asset stands above a function.", where=here(), hint="@asset(schedule=None)\ndef f(): ..."
        )
    return function.__name__


def _declare(
    function: Callable[..., Any], made: Any, name: str, outlets: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """The DAG of an asset, with its one task; both have its name, and take the function's text."""
    of_dag = {key: value for key, value in options.items() if key not in _OF_ASSET}
    of_dag.setdefault("doc_md", inspect.getdoc(function))
    with DAG(of_dag.pop("dag_id", None) or name, **of_dag):
        AssetOperator(task_id=name, asset=made, python_callable=function, outlets=outlets)


#: The decorator itself.
asset = _AssetDecorator()
