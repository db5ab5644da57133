"""The pipelines that the files being loaded have made, and the runner behind `.run()`.

Authoring may not import wiring (layers): it finds the runner by name, as one finds an entry point, at the first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.authoring import current
from tidemill.authoring.place import is_interactive
from tidemill.model.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from tidemill.authoring.dag import DAG
    from tidemill.authoring.pipeline import Pipeline
    from tidemill.authoring.streams import Stream
    from tidemill.model.batch import Interval
    from tidemill.model.codec import CodecSpec
    from tidemill.model.definition import Definition
    from tidemill.model.frame import Frame, Topic
    from tidemill.ports.dbt import Dbt


class Declared(Protocol):
    """What a user's file makes: a data-first `Pipeline` or a task-first `DAG`."""

    name: str
    #: Where it was made, as `file:line`.
    place: str

    def definition(self) -> Definition:
        """It without its code. Raises DefinitionError, UnknownName."""
        ...


class Runner(Protocol):
    """Runs pipelines for `.run()`, `.preview()` and calls of decorated functions."""

    def run(self, pipeline: Pipeline, when: str | None, **options: Any) -> Any:
        """See `Pipeline.run`."""
        ...

    def preview(self, pipeline: Pipeline, table: str, when: str | None, rows: int) -> Any:
        """See `Pipeline.preview`."""
        ...

    def test(
        self, pipeline: Pipeline, interval: str | datetime | Interval | None, params: Mapping[str, Any] | None
    ) -> Any:
        """See `Pipeline.test`."""
        ...

    def call(self, function: Callable[..., Any], frames: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """See `Table.__call__`."""
        ...

    def peek(self, what: Topic | Frame | Stream, rows: int, messages: int, to: str | None = None) -> Any:
        """See `DeclaredTopic.peek`, `Frame.peek`, `Stream.peek`."""
        ...


class Trials(Protocol):
    """Runs DAGs in this process, for `.test()`."""

    def test(
        self,
        dag: DAG,
        interval: str | datetime | Interval | None,
        params: Mapping[str, Any] | None,
        tasks: Collection[str] | None,
        answers: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `DAG.test`."""
        ...


_declared: dict[str, Declared | Pipeline] = {}
_RUNNER = "tidemill.wiring.runner"
_TRIALS = "tidemill.wiring.trials"
_SERVICES = "tidemill.wiring.services"
_MELTANO = "tidemill.wiring.meltano"
_DBT = "tidemill.wiring.dbt"
_MESSAGES = "tidemill.wiring.messages"


def add(made: Declared | Pipeline) -> None:
    """Register a pipeline; a second one of that name replaces it in a notebook and is an error in files."""
    older = _declared.get(made.name)
    if older is not None and not is_interactive(made.place) and older.place != made.place:
        raise DefinitionError(
            f'There are two pipelines named "{made.name}".',
            where=made.place,
            hint=f"the other one is at {older.place}",
        )
    for name, other in list(_declared.items()):
        if name != made.name and name.lower() == made.name.lower():
            if is_interactive(made.place):
                del _declared[name]
                continue
            raise DefinitionError(
                f'Pipelines "{name}" and "{made.name}" differ only in case, which SQL ignores.',
                where=made.place,
                hint=f"the other one is at {other.place}",
            )
    _declared[made.name] = made


def declared() -> dict[str, Declared]:
    """What was made so far, pipelines and DAGs, by name."""
    return dict(_declared)


def collected() -> dict[str, Pipeline]:
    """The data-first pipelines among it, by name."""
    from tidemill.authoring.pipeline import Pipeline

    return {name: made for name, made in _declared.items() if isinstance(made, Pipeline)}


def clear() -> None:
    """Forget all pipelines: before a project's files are loaded (again)."""
    _declared.clear()
    current.forget()


def runner() -> Runner:
    """The runner of this installation."""
    made: Runner = importlib.import_module(_RUNNER).ProjectRunner()
    return made


def trials() -> Trials:
    """What runs DAGs for their tests."""
    made: Trials = importlib.import_module(_TRIALS).ProjectTrials()
    return made


def now() -> datetime:
    """The time at which a file is read: a user's own timetable tells what lies ahead of it."""
    made: datetime = importlib.import_module(_SERVICES).system_clock().now()
    return made


def yaml_of(file: Path) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """The content of a Meltano project's file, and the lines of its members."""
    made: tuple[Any, dict[tuple[str | int, ...], int]] = importlib.import_module(_MELTANO).read_project(file)
    return made


def dbt_of(place: str) -> tuple[list[Path], Dbt]:
    """For a pipeline file: the folders that paths in it are relative to, the project's first, and what runs dbt.

    Args:
        place: in the file, as `file:line`.
    """
    module = importlib.import_module(_DBT)
    roots: list[Path] = module.roots_of(Path(place.rpartition(":")[0]))
    made: Dbt = module.open_dbt(roots[0])
    return roots, made


def columns_of(codec: CodecSpec, topic: str) -> Mapping[str, str] | None:
    """The columns of a topic's messages and their types, by the schema that their codec is given.

    Raises:
        DefinitionError: the schema cannot be read.
    """
    made: Mapping[str, str] | None = importlib.import_module(_MESSAGES).columns_of(codec, topic)
    return made
