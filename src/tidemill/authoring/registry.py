"""The pipelines that the files being loaded have made, and the runner behind `.run()`.

Authoring may not import wiring (layers): it finds the runner by name, as one finds an entry point, at the first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.authoring.place import is_interactive
from tidemill.model.errors import DefinitionError

if TYPE_CHECKING:
    from tidemill.authoring.pipeline import Pipeline


class Runner(Protocol):
    """Runs pipelines for `.run()`, `.preview()` and calls of decorated functions."""

    def run(self, pipeline: Pipeline, when: str | None, **options: Any) -> Any:
        """See `Pipeline.run`."""
        ...

    def preview(self, pipeline: Pipeline, table: str, when: str | None, rows: int) -> Any:
        """See `Pipeline.preview`."""
        ...

    def call(self, function: Callable[..., Any], frames: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """See `Table.__call__`."""
        ...


_pipelines: dict[str, Pipeline] = {}
_RUNNER = "tidemill.wiring.runner"


def add(pipeline: Pipeline) -> None:
    """Register a pipeline; a second one of that name replaces it in a notebook and is an error in files."""
    older = _pipelines.get(pipeline.name)
    if older is not None and not is_interactive(pipeline.place) and older.place != pipeline.place:
        raise DefinitionError(
            f'There are two pipelines named "{pipeline.name}".',
            where=pipeline.place,
            hint=f"the other one is at {older.place}",
        )
    for name, other in _pipelines.items():
        if name != pipeline.name and name.lower() == pipeline.name.lower():
            raise DefinitionError(
                f'Pipelines "{name}" and "{pipeline.name}" differ only in case, which SQL ignores.',
                where=pipeline.place,
                hint=f"the other one is at {other.place}",
            )
    _pipelines[pipeline.name] = pipeline


def collected() -> dict[str, Pipeline]:
    """The pipelines made so far, by name."""
    return dict(_pipelines)


def clear() -> None:
    """Forget all pipelines: before a project's files are loaded (again)."""
    _pipelines.clear()


def runner() -> Runner:
    """The runner of this installation."""
    made: Runner = importlib.import_module(_RUNNER).ProjectRunner()
    return made
