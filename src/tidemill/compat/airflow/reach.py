"""What Airflow's names reach of the project: connections, variables, pools, folders, settings of DAGs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidemill.authoring.task_context import get_current_context
from tidemill.model.errors import UserError
from tidemill.ports.tasks import Connections, OwnVariables, Variables


@dataclass(frozen=True)
class Reach:
    """A project's values.

    Args:
        connections, variables: None: there are none here.
        of_dags: arguments of DAGs that they do not give themselves, and `timezone`.
        home: the project's folder; None: it is not known.
        code: where its code lies, in the version that is loaded; `dags`: the folder of DAG files there.
        pools: slots by pool.
    """

    connections: Connections | None = None
    variables: Variables | None = None
    of_dags: Mapping[str, Any] = field(default_factory=dict)
    home: Path | None = None
    code: Path | None = None
    dags: Path | None = None
    pools: Mapping[str, int] = field(default_factory=dict)


#: The folder of plug-ins, beside that of DAG files.
PLUGINS = "plugins"
_NOTHING = Reach()
_open: list[Reach] = []


@contextmanager
def within(reach: Reach | None) -> Iterator[None]:
    """Within this block a project is reached; the outermost one, as that is the one that a run belongs to."""
    if reach is None or _open:
        yield
        return
    _open.append(reach)
    try:
        yield
    finally:
        _open.remove(reach)


def project() -> Reach:
    """The project that is reached; one with nothing where none is."""
    return _open[0] if _open else _NOTHING


def plugins() -> Path | None:
    """The folder of plug-ins, which need not be there."""
    code = project().code
    return None if code is None else code / PLUGINS


def connections() -> Connections | None:
    """The connections of the task that is being executed, else of the project."""
    found = _of_task("connections")
    return found if found is not None else project().connections


def variables() -> Variables | None:
    """The variables of the task that is being executed, else of the project."""
    found = _of_task("variables")
    return found if found is not None else project().variables


def variables_of_task() -> OwnVariables | None:
    """The variables of the task that is being executed, to set them; None: none is."""
    found: OwnVariables | None = _of_task("variables")
    return found


def _of_task(name: str) -> Any:
    try:
        return getattr(get_current_context().services, name)
    except UserError:
        return None
