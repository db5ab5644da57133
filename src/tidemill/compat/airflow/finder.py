"""Lets `import airflow...` in a user's file find our names, for as long as the file is loaded or its tasks run.

Where the real package is installed, this stands aside: nothing is served. Modules below `airflow` that we do not serve
but that are installed (packages of providers) are found where they lie.
"""

from __future__ import annotations

import importlib
import linecache
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from tidemill.authoring.place import here
from tidemill.compat.airflow.names import INSTEAD, SERVED
from tidemill.compat.airflow.reach import Reach, within
from tidemill.model.errors import DefinitionError
from tidemill.model.place import user_frame

ROOT = "airflow"
#: Every package above a module that is served.
_FOLDERS = frozenset(
    ".".join(parts[:length]) for name in SERVED for parts in [name.split(".")] for length in range(1, len(parts))
)


class NotServed(DefinitionError, ModuleNotFoundError):
    """Airflow has it, or had it, and we do not: an ImportError, so that a file may try another name then."""


class _Finder(MetaPathFinder, Loader):
    """Finds modules by the table of names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname.partition(".")[0] != ROOT:
            return None
        if fullname in SERVED or fullname in _FOLDERS:
            spec = ModuleSpec(fullname, self, is_package=True)
            spec.submodule_search_locations = _folders(fullname)
            return spec
        found = PathFinder.find_spec(fullname, path)
        if found is None:
            raise not_served(fullname)
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `importlib.abc.Loader`."""
        return _Served(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`; names are looked up when they are asked for."""


class _Served(ModuleType):
    """A module of names."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in SERVED.get(self.__name__, {}):
            if name == "__all__":
                return sorted(SERVED.get(self.__name__, ()))
            raise AttributeError(name)
        target = SERVED.get(self.__name__, {}).get(name)
        if target is None:
            whole = f"{self.__name__}.{name}"
            if whole in SERVED or whole in _FOLDERS:
                return importlib.import_module(whole)
            raise not_served(whole)
        module, _, attribute = target.partition(":")
        found = importlib.import_module(module)
        value: Any = getattr(found, attribute) if attribute else found
        if not attribute or attribute in vars(found):  # what a module says by its own `__getattr__` may change
            self.__dict__[name] = value
        return value


def not_served(name: str) -> NotServed:
    """The error for a name of Airflow's that is not served, with the line that asks for it."""
    last = name.rpartition(".")[2]
    # Of `from airflow.providers.x.y import Z`, Python looks for `airflow.providers.x` first: the line says the rest.
    statement = _statement()
    asked = {name, last, *re.findall(r"\w+", statement)}
    instead = next((hint for one, hint in INSTEAD.items() if one in asked), None)
    elsewhere = sorted(module for module, names in SERVED.items() if last in names)
    if instead is not None:
        hint = instead
    elif elsewhere:
        hint = f"from {min(elsewhere, key=len)} import {last}"
    elif package := _package(name, statement):
        hint = f"pip install --no-deps {package}, and what it needs (docs/airflow.md); or a task of tidemill.operators"
    else:
        hint = "docs/airflow.md says what runs unchanged, and what to use instead"
    return NotServed(f'"{name}" of Airflow is not served here.', where=here() or None, hint=hint)


def _statement() -> str:
    """The text of the user's statement that is being executed; empty where it is not known."""
    frame = user_frame()
    if frame is None:
        return ""
    first, last = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))[:2]
    return "".join(linecache.getlines(frame.f_code.co_filename)[(first or 1) - 1 : last])


#: Packages of providers are called after their module, and so are parts of these.
_GROUPS = ("apache", "atlassian", "cncf", "common", "dbt", "microsoft")


def _package(name: str, statement: str) -> str | None:
    """The package of providers that has a module; None: it is none of one."""
    if not name.startswith(f"{ROOT}.providers."):
        return None
    whole = next((one for one in re.findall(r"[\w.]+", statement) if one.startswith(name)), name)
    parts = whole.split(".")[2:]
    return "-".join(("apache-airflow-providers", *parts[: 2 if parts[0] in _GROUPS else 1])).replace("_", "-")


def _folders(name: str) -> list[str]:
    """Where modules below a served one may lie as files."""
    parts = name.split(".")
    return [str(place) for one in sys.path if (place := Path(one or ".").joinpath(*parts)).is_dir()]


def _is_found(module: ModuleType, folders: Sequence[str]) -> bool:
    """Whether a module that was loaded from a file would be loaded from it again.

    A package without a file is made anew: what is found now may have one.
    """
    file = Path(getattr(module, "__file__", None) or "")
    stem = file.parent if file.stem == "__init__" else file.parent / file.name.partition(".")[0]
    parts = module.__name__.split(".")
    return any(Path(one or ".").absolute().joinpath(*parts) == stem for one in folders)


def is_installed() -> bool:
    """Whether the real package is there; a folder with packages of providers alone is not it."""
    return _is_below(tuple(sys.path))


@lru_cache(maxsize=16)
def _is_below(_search: tuple[str, ...]) -> bool:
    """The same, remembered for a search path: looking for it lists all of its folders (1 ms)."""
    found = PathFinder.find_spec(ROOT)
    return found is not None and found.origin is not None


_finder = _Finder()
#: Guards what follows: threads may load files, or run what they declare, at the same time.
_turn = threading.RLock()
#: How many blocks are open, and the modules that were loaded within the last one.
_open = 0
_kept: dict[str, ModuleType] = {}
#: `sys.path` by which their folders were found.
_searched: list[str] = []


@contextmanager
def serving(reach: Reach | None = None) -> Iterator[None]:
    """Serve Airflow's names within this block; afterwards nobody finds them any more.

    Modules that were loaded in one block are there again in the next: a file is not executed twice for that.

    Args:
        reach: what they reach of a project; None: what the block around this one does.
    """
    with within(reach), _serving():
        yield


def serving_file(file: Path, reach: Reach | None = None) -> AbstractContextManager[None]:
    """`serving` while a file is loaded or its tasks run, if it has the word, as Airflow's own search for DAGs has it.

    In others, libraries that ask whether Airflow is there are told that it is not: one that was told otherwise, as dlt,
    would go on asking where nothing is served.
    """
    try:
        named = ROOT.encode() in file.read_bytes()
    except OSError:  # whoever loads it tells; what was typed into a notebook is no file
        named = False
    return serving(reach) if named else nullcontext()


@contextmanager
def _serving() -> Iterator[None]:
    global _open
    with _turn:
        ours = _open > 0 or not (ROOT in sys.modules or is_installed())
        if ours and not _open:
            _begin()
        _open += ours
    try:
        yield
    finally:
        with _turn:
            _open -= ours
            if ours and not _open:
                _end()


def _begin() -> None:
    if _searched != sys.path:
        _searched[:] = sys.path
        for name, module in list(_kept.items()):
            if isinstance(module, _Served):
                module.__path__ = _folders(name)
            elif not _is_found(module, _searched):
                del _kept[name]
    sys.modules.update(_kept)
    sys.meta_path.insert(0, _finder)


def _end() -> None:
    sys.meta_path.remove(_finder)
    _kept.clear()
    for name in [name for name in list(sys.modules) if name == ROOT or name.startswith(f"{ROOT}.")]:
        _kept[name] = sys.modules.pop(name)


def _after_fork() -> None:
    """A child has the blocks that its parent's thread was in, and a lock that nobody holds."""
    global _turn
    _turn = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
