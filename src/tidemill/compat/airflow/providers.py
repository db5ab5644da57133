"""What packages of providers (`apache-airflow-providers-...`) ask of Airflow beside its operators and hooks."""

from __future__ import annotations

import functools
import getpass
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from tidemill.authoring.task_context import get_current_context
from tidemill.model.masking import GIVEN, secrets_within
from tidemill.operators.branching import skip_all_except

#: The version of Airflow that packages of providers find: that whose names are served.
VERSION = "3.3.2"


class ArgNotSet:
    """The kind of `NOTSET`."""


#: Stands for an argument that was not given.
NOTSET = ArgNotSet()


class SetDuringExecution(ArgNotSet):
    """The kind of `SET_DURING_EXECUTION`."""


#: Stands for an argument that `execute` finds itself.
SET_DURING_EXECUTION = SetDuringExecution()
#: Which versions of Airflow's names are served: packages of providers ask.
AIRFLOW_V_3_0_PLUS = AIRFLOW_V_3_3_PLUS = True


def is_arg_set(value: Any) -> bool:
    """Whether an argument was given."""
    return value is not NOTSET


class BaseOperatorLink:
    """A link of Airflow's pages: it can be imported, and is not shown."""

    name = ""


class SkipMixin:
    """What tells a run which tasks are decided against."""

    def skip_all_except(self, ti: Any, branch_task_ids: Any) -> None:
        """Decide for some of the tasks right after this one, and against the others."""
        skip_all_except(get_current_context(), branch_task_ids)


class ProvidersManager:
    """Which packages of providers there are: none that anybody need know of."""

    providers: Mapping[str, Any] = {}
    hooks: Mapping[str, Any] = {}


class NoLineage:
    """Hears what hooks read and write, and forgets it: lineage comes of `inlets` and `outlets`."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_given, **_named: None


def get_hook_lineage_collector() -> NoLineage:
    """What hears what hooks read and write."""
    return NoLineage()


def mask_secret(secret: Any, name: str | None = None) -> None:
    """Hide a value from now on; of a mapping, what its names tell to be secret."""
    values = [secret] if isinstance(secret, str) else secrets_within(secret)
    for value in values:
        GIVEN.add(value)


def import_string(path: str) -> Any:
    """What a dotted path names. Raises ImportError."""
    module, _, name = path.rpartition(".")
    found = importlib.import_module(module)
    try:
        return getattr(found, name)
    except AttributeError:
        raise ImportError(f'Module "{module}" does not define a "{name}" attribute/class') from None


def qualname(of: Any) -> str:
    """The dotted path of a class, a function, or the class of a value."""
    named = of.func if isinstance(of, functools.partial) else of
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


def iter_namespace(of: ModuleType) -> Iterator[Any]:
    """The modules of a package."""
    return pkgutil.iter_modules(of.__path__, f"{of.__name__}.")


def merge_dicts(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both; what both have is the second's, and mappings in them are merged likewise."""
    made = dict(first)
    for name, value in second.items():
        both = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = merge_dicts(made[name], value) if both else value
    return made


def exactly_one(*given: Any) -> bool:
    """Whether one of them holds, and no other."""
    return sum(map(bool, given)) == 1


def at_most_one(*given: Any) -> bool:
    """Whether not more than one of them was given, and holds."""
    return sum(bool(one) for one in given if is_arg_set(one)) <= 1


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of a list, each of a size but the last."""
    if size <= 0:
        raise ValueError("a part has one item or more")
    return (items[at : at + size] for at in range(0, len(items), size))


def prune_dict(value: Any, mode: str = "strict") -> Any:
    """A mapping without what is None, or with `mode="truthy"` what is false; likewise what is in it."""
    holds: Callable[[Any], bool] = bool if mode == "truthy" else (lambda one: one is not None)
    if isinstance(value, dict):
        found = {name: prune_dict(one, mode) for name, one in value.items() if holds(one)}
        return {name: one for name, one in found.items() if holds(one)}
    if isinstance(value, list):
        return [one for one in (prune_dict(one, mode) for one in value if holds(one)) if holds(one)]
    return value


def to_boolean(text: str | None) -> bool:
    """Whether a text says so: "true", "yes", "on", "1" and their first letters."""
    return (text or "").strip().lower() in ("on", "t", "true", "y", "yes", "1")


def getuser() -> str:
    """Who runs this process."""
    return getpass.getuser()


def poke_mode_only(cls: Any) -> Any:
    """Accepted: how a sensor of this kind gives back its worker is no matter here."""
    return cls


def determine_kwargs(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the named values a function takes, after those that it is given in order."""
    takes = list(inspect.signature(function).parameters.values())
    if any(one.kind is one.VAR_KEYWORD for one in takes):
        named = {one.name for one in takes[: len(args)] if one.kind is not one.VAR_KEYWORD}
        return {name: kwargs[name] for name in kwargs if name not in named}
    return {one.name: kwargs[one.name] for one in takes[len(args) :] if one.name in kwargs}


def infos() -> Iterator[Mapping[str, Any]]:
    """What the packages of providers that are installed say of themselves."""
    for entry in entry_points(group="apache_airflow_provider"):
        yield entry.load()()


def kind_of_provider(name: str) -> Any:
    """The kind `@task.name` of a package of providers; None where no package has it."""
    for info in infos():
        for one in info.get("task-decorators", ()):
            if one["name"] == name:
                return import_string(one["class-name"])
    return None
