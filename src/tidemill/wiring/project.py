"""Loading a project's pipeline files, and the version of its code."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.errors import DefinitionError, TidemillError, UnknownName
from tidemill.wiring.settings import STATE_FOLDER, Settings

_CODE = (".py", ".sql", ".toml", ".lock", ".yml", ".yaml")
_SKIP = {STATE_FOLDER, ".git", ".venv", "venv", "__pycache__", "node_modules", "tests"}


def load_pipelines(settings: Settings) -> dict[str, Pipeline]:
    """Import every pipeline file of the project and return the pipelines that they made, by name.

    Raises:
        DefinitionError: a file does not load; the place is the user's line.
    """
    registry.clear()
    files = sorted({f for pattern in settings.pipelines for f in settings.root.glob(pattern) if f.suffix == ".py"})
    _make_importable(settings, files)
    for file in files:
        _load(file)
    return registry.collected()


def load_file(settings: Settings, file: Path) -> dict[str, Pipeline]:
    """Import one file and return the pipelines that it made, by name; no setting need name the file.

    Raises:
        DefinitionError: the file does not load; the place is the user's line.
    """
    registry.clear()
    _make_importable(settings, [file])
    _load(file)
    return registry.collected()


def find_pipeline(settings: Settings, name: str) -> Pipeline:
    """Load the project and return one pipeline.

    Raises:
        UnknownName: with the nearest names.
    """
    pipelines = load_pipelines(settings)
    if name not in pipelines:
        raise UnknownName.of("pipeline", name, pipelines, where=", ".join(settings.pipelines))
    return pipelines[name]


def _make_importable(settings: Settings, files: Iterable[Path]) -> None:
    """Let the user's files import each other, and packages in the project's folder."""
    for path in (str(settings.root), *dict.fromkeys(str(f.parent) for f in files)):
        if path not in sys.path:
            sys.path.insert(0, path)


def _load(file: Path) -> None:
    # A file imported by another one under its plain name is not run twice.
    loaded = sys.modules.get(file.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        del sys.modules[file.stem]
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except TidemillError as error:
        error.where = error.where or _place_in(error, file)
        raise
    except Exception as error:
        raise DefinitionError(
            f"{type(error).__name__}: {error}", where=_place_in(error, file), hint=f"python {file}"
        ) from error


def _place_in(error: BaseException, file: Path) -> str:
    """The line of the user's file where an error came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1].lineno}" if lines else str(file)


def code_version(root: Path) -> str:
    """A hash of the project's code files (Python, SQL, settings, lock files): the same code, the same version."""
    digest = hashlib.sha256()
    for file in sorted(_code_files(root)):
        digest.update(str(file.relative_to(root)).encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _code_files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name in _SKIP or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _code_files(entry)
        elif entry.suffix in _CODE:
            yield entry
