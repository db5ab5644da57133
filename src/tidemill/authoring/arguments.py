"""Reading the arguments of tasks and DAGs: names, lengths of time, functions, assets, classes of exceptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from tidemill.authoring.place import here
from tidemill.model.condition import Published
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.timetable import parse_duration

#: What may name a task, a group or a DAG.
_ID = re.compile(r"[A-Za-z0-9_.-]{1,250}")


def check_id(name: Any, kind: str) -> str:
    """Return `name` if it can name a `kind` of thing: letters, digits, `_`, `-` and `.`.

    Raises:
        DefinitionError: it does not fit.
    """
    if not isinstance(name, str) or not _ID.fullmatch(name):
        fixed = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(name)).strip("_")[:250] or "x"
        raise DefinitionError(
            f"{name!r} cannot name a {kind}: letters, digits, dashes, dots and underscores, at most 250.",
            where=here(),
            hint=f'"{fixed}"',
        )
    return name


def as_length(value: float | str | timedelta) -> timedelta:
    """Seconds, `"5m"` or a timedelta. Raises DefinitionError."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float):
        return timedelta(seconds=value)
    try:
        return parse_duration(value)
    except (DefinitionError, AttributeError):
        hint = '300, "5m" or timedelta(...)'
        raise DefinitionError(f"{value!r} is no length of time.", where=here(), hint=hint) from None


def as_functions(value: Any) -> tuple[Callable[..., Any], ...]:
    """A function, several, or none. Raises DefinitionError."""
    made = tuple(value) if isinstance(value, list | tuple) else (() if value is None else (value,))
    for one in made:
        if not callable(one):
            raise DefinitionError(
                f"A callback is a function, not {one!r}.", where=here(), hint="def tell(context): ..."
            )
    return made


def assets(value: Any) -> tuple[str, ...]:
    """Assets by name: texts, `published(...)`, tables of pipelines, and Airflow's assets with their addresses."""
    if value is None:
        return ()
    found = value if isinstance(value, list | tuple | set) else [value]
    return tuple(asset_name(one) for one in found)


def asset_name(one: Any) -> str:
    """What an asset is called. Raises DefinitionError."""
    if isinstance(one, str):
        return one
    if isinstance(one, Published):
        return one.asset
    pipeline = getattr(one, "pipeline", None)
    if pipeline is not None:
        return f"{pipeline.name}.{one.name}"
    name = getattr(one, "uri", None) or getattr(one, "name", None)
    if isinstance(name, str):
        return name
    raise DefinitionError(f"{one!r} is no asset.", where=here(), hint='"pipeline.table" or "s3://bucket/key"')


def exception_classes(value: Any) -> tuple[type[BaseException], ...]:
    """One class of exceptions, or several. Raises DefinitionError."""
    made = value if isinstance(value, list | tuple) else (value,)
    for one in made:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise DefinitionError(
                f"{one!r} is no class of exceptions.", where=here(), hint="retry_on=(ConnectionError,)"
            )
    return tuple(made)


def one_of(kind: str, value: str, known: Sequence[str]) -> str:
    """A word that must be one of several. Raises UnknownName."""
    if value not in known:
        raise UnknownName.of(kind, value, known, where=here())
    return value
