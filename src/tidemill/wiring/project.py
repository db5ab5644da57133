"""Loading a project's pipeline files, and the version of its code."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from tidemill.adapters.localfs.code import CodeFolder
from tidemill.adapters.localfs.ignored import IgnoredFiles
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.authoring.registry import Declared
from tidemill.compat.airflow.finder import serving_file
from tidemill.compat.airflow.reach import within
from tidemill.model.errors import DefinitionError, TidemillError, UnknownName
from tidemill.plan.code import PIPELINES, folder_of, folders_of, version_of
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.importing import hidden_by_installed, make_importable, module_name
from tidemill.wiring.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


#: Files register what they declare, and import each other, in one place of the process: threads take turns at that.
_turn = threading.RLock()


def _forget_turns() -> None:
    """A forked process has none of the threads that may have held the lock."""
    global _turn
    _turn = threading.RLock()


os.register_at_fork(after_in_child=_forget_turns)


def _in_turn(load: Callable[P, R]) -> Callable[P, R]:
    @wraps(load)
    def one_at_a_time(*args: P.args, **kwargs: P.kwargs) -> R:
        with _turn:
            return load(*args, **kwargs)

    return one_at_a_time


@_in_turn
def load_pipelines(settings: Settings) -> dict[str, Pipeline]:
    """Import every pipeline file of the project and return the pipelines that they made, by name.

    Raises:
        DefinitionError: a file does not load; the place is the user's line.
    """
    for error in _load_all(settings).values():
        raise error
    return registry.collected()


@_in_turn
def load_what_loads(settings: Settings) -> tuple[dict[str, Pipeline], dict[str, TidemillError]]:
    """Import every pipeline file of the project; the pipelines by name, and why some files do not load, by path."""
    errors = _load_all(settings)
    return {name: made for name, made in registry.collected().items() if _file_of(made) not in errors}, errors


def _file_of(made: Declared) -> str:
    return made.place.rpartition(":")[0]


def _load_all(settings: Settings) -> dict[str, TidemillError]:
    """Import every pipeline file of the project; returns why some do not load, by path."""
    registry.clear()
    files = pipeline_files(settings)
    make_importable(settings, files)
    errors: dict[str, TidemillError] = {}
    with within(reach_of(settings)):
        for file in files:
            try:
                _load(file)
            except TidemillError as error:
                errors[str(file)] = error
    return errors


def pipeline_files(settings: Settings) -> list[Path]:
    """The files that make the project's pipelines, without those that `.airflowignore` leaves out."""
    left_out = ignored_files(settings, settings.root)
    found = {f for pattern in settings.pipelines for f in settings.root.glob(pattern) if f.suffix in PIPELINES}
    return sorted(file for file in found if not left_out(file.relative_to(settings.root).as_posix()))


def ignored_files(settings: Settings, root: Path) -> IgnoredFiles:
    """What `.airflowignore` leaves out in a folder of the project's code."""
    bases = [folder_of(pattern) for pattern in settings.pipelines]
    return IgnoredFiles(root, bases, settings.airflow.ignore)


@_in_turn
def declared_in(settings: Settings, file: Path) -> dict[str, Declared]:
    """Import one file and return what it made, pipelines and DAGs, by name; no setting need name the file.

    Raises:
        DefinitionError: the file does not load; the place is the user's line.
    """
    registry.clear()
    make_importable(settings, [file])
    with within(reach_of(settings)):
        _load(file)
    return registry.declared()


@_in_turn
def load_file(settings: Settings, file: Path) -> dict[str, Pipeline]:
    """The data-first pipelines that one file makes; see `declared_in`."""
    declared_in(settings, file)
    return registry.collected()


@_in_turn
def find_declared(settings: Settings, name: str) -> Declared:
    """Load the project and return one pipeline or DAG; files of others need not load.

    Raises:
        DefinitionError: there is none of that name, and a file that may make it does not load.
        UnknownName: with the nearest names.
    """
    errors = _load_all(settings)
    made = {name: one for name, one in registry.declared().items() if _file_of(one) not in errors}
    if name not in made:
        for error in errors.values():
            raise error
        raise UnknownName.of("pipeline", name, made, where=", ".join(settings.pipelines))
    return made[name]


def find_pipeline(settings: Settings, name: str) -> Pipeline:
    """Load the project and return one pipeline.

    Raises:
        UnknownName: with the nearest names.
    """
    pipelines = load_pipelines(settings)
    if name not in pipelines:
        raise UnknownName.of("pipeline", name, pipelines, where=", ".join(settings.pipelines))
    return pipelines[name]


def _load(file: Path) -> None:
    if file.suffix != ".py":
        _read_document(file)
        return
    name = module_name(file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a file that is imported by one after it is not run twice
    try:
        with serving_file(file):
            spec.loader.exec_module(module)
    except TidemillError as error:
        error.where = error.where or _place_in(error, file)
        raise
    except SystemExit as error:
        what = f"The file ends the program when it is imported (exit code {error.code})."
        hint = 'what only a script does belongs under if __name__ == "__main__":'
        raise DefinitionError(what, where=_place_in(error, file), hint=hint) from error
    except Exception as error:
        hint = f"python {file}"
        if isinstance(error, ModuleNotFoundError) and error.name:
            hint = f"install {error.name.partition('.')[0]} into this environment, or mend the import"
        hint = hidden_by_installed(error) or hint
        raise DefinitionError(f"{type(error).__name__}: {error}", where=_place_in(error, file), hint=hint) from error


def _read_document(file: Path) -> None:
    """Read a pipeline that is declared in YAML. Raises DefinitionError, UnknownName: the place is the user's line."""
    from tidemill.adapters.yaml.documents import YamlDocuments
    from tidemill.authoring.written import pipeline_of

    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise DefinitionError("The file is not UTF-8.", where=str(file)) from None
    pipeline_of(YamlDocuments().read(text, str(file)))


def _place_in(error: BaseException, file: Path) -> str:
    """The line of the user's file where an error came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1].lineno}" if lines else str(file)


def code_version(settings: Settings) -> str:
    """A hash of the project's code files: the same code, the same version."""
    root = settings.root
    files = CodeFolder(root, folders_of(settings.pipelines)).scan()
    return version_of({path: hashlib.sha256((root / path).read_bytes()).digest() for path in files})
