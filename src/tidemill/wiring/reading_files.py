"""In a process of its own: imports pipeline files and tells what they make. What users' code does, happens here."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import FileFinder
from pathlib import Path
from types import FrameType
from typing import Any

from tidemill.adapters.system.reader import end_with_parent
from tidemill.compat.airflow.reach import Reach, within
from tidemill.model.definition import Definition
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.masking import hide
from tidemill.plan.code import BESIDE, SKIPPED, SUFFIXES, Patterns
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.project import declared_in
from tidemill.wiring.secrets import masker_of
from tidemill.wiring.settings import Settings, load_settings


class _TooSlow(BaseException):
    """Raised into a file that takes too long, wherever it is: a line to show."""


def serve(settings: Settings, limit: float, channel: int, *, reach: Reach | None = None) -> None:
    """Read each file that is asked for, until nobody asks any more.

    Args:
        settings: the project; its root is the folder of the code.
        limit: seconds for one file.
        channel: descriptor of a socket; each way a line of JSON for each file.
        reach: what Airflow's names reach, where the project's own folder is another one.
    """
    end_with_parent()
    # A file that is edited twice in a second could leave byte code behind that passes for the newer one's.
    sys.dont_write_bytecode = True
    masker_of(settings)
    reading = _Reading(settings, limit)
    with socket.socket(fileno=channel) as both, both.makefile("rb") as asked:
        for line in asked:
            with within(reach):
                answer = reading.read(json.loads(line))
            both.sendall(json.dumps(answer).encode() + b"\n")


def command_for(settings: Settings, limit: float, project: Path) -> list[str]:
    """The command of a new interpreter that does the same, with the socket as its standard input."""
    told = json.dumps([str(settings.root), settings.name, settings.pipelines, limit, str(project)])
    return [sys.executable, "-m", __name__, told]


class _Reading:
    """Reads files of one project, each as if it were the first."""

    def __init__(self, settings: Settings, limit: float) -> None:
        self._settings = settings
        self._root = str(settings.root) + os.sep
        self._is_pipeline = Patterns(settings.pipelines)
        self._limit = limit
        self._opened: set[str] = set()
        sys.addaudithook(self._hear)

    def read(self, file: str) -> dict[str, Any]:
        """What a file makes, as `adapters.system.reader.file_read` takes it."""
        made: dict[str, Any] = {"file": file}
        path = self._settings.root / file
        with self._alone() as used:
            try:
                _must_open(path)
                with _limited(self._limit):
                    made["definitions"] = [definition.as_json() for definition in self._definitions(path)]
            except FileNotFoundError:
                made["gone"] = True
            except TidemillError as error:
                if path.exists():
                    made["error"] = self._told(error)
                else:
                    made["gone"] = True
            except _TooSlow as error:
                made["late"] = True
                what = f"The file was still being read after {self._limit:g} s."
                hint = "what takes long belongs into a task; what stands in the file runs whenever it is read"
                made["error"] = self._told(DefinitionError(what, where=_last_line(error, path), hint=hint))
            except BaseException as error:  # what a definition is made of may be anything, and so may what it raises
                made["error"] = self._told(DefinitionError(_said(error), where=_last_line(error, path)))
        made["used"] = sorted(used - {file})
        return made

    def _definitions(self, path: Path) -> Iterator[Definition]:
        for pipeline in declared_in(self._settings, path).values():
            # A file that imports another pipeline file is not the one that makes what that one makes.
            own = self._relative(pipeline.place.rpartition(":")[0])
            if own == self._relative(str(path)) or not self._is_pipeline(own):
                yield self._placed(pipeline.definition(), path)

    def _placed(self, made: Definition, path: Path) -> Definition:
        """With places relative to the project: the same in every folder that holds this version."""
        tasks = {id_: replace(info, place=self._relative(info.place)) for id_, info in made.tasks.items()}
        return replace(made, file=self._relative(str(path)), place=self._relative(made.place), tasks=tasks)

    def _relative(self, text: str) -> str:
        return hide(text.replace(self._root, ""))

    def _told(self, error: TidemillError) -> dict[str, str | None]:
        return {
            "kind": type(error).__name__,
            "what": self._relative(error.what),
            "place": error.where and self._relative(error.where),
            "hint": error.hint and self._relative(error.hint),
        }

    @contextmanager
    def _alone(self) -> Iterator[set[str]]:
        """Read a file within this; afterwards modules of the project are forgotten, and where it has looked is told."""
        modules, path, folder, environment = dict(sys.modules), list(sys.path), os.getcwd(), dict(os.environ)
        self._opened.clear()
        self._forget_listings()
        used: set[str] = set()
        try:
            yield used
        finally:
            for name, module in list(sys.modules.items()):
                if modules.get(name) is module:
                    continue
                if own := self._own(str(getattr(module, "__file__", None))):
                    used.add(own)
                    del sys.modules[name]
                    # A file may be called like a module that this process needs: `json.py`.
                    sys.modules.update({name: modules[name]} if name in modules else {})
            used |= {own for opened in self._opened if (own := self._own(opened))}
            sys.path[:] = path
            os.chdir(folder)
            if os.environ != environment:
                os.environ.clear()
                os.environ.update(environment)

    def _forget_listings(self) -> None:
        """Have Python list the project's folders anew; of others it sees by their time that they have changed."""
        for folder, finder in sys.path_importer_cache.items():
            if isinstance(finder, FileFinder) and f"{folder}{os.sep}".startswith(self._root):
                finder.invalidate_caches()

    def _own(self, path: str) -> str | None:
        """The path relative to the project of a file of its code, or of a folder, which ends in a slash."""
        if not path.startswith(self._root) or not path.endswith((*SUFFIXES, *BESIDE, os.sep)):
            return None
        own = path[len(self._root) :]
        return None if SKIPPED & set(own.split(os.sep)) else own

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            self._opened.add(os.path.abspath(os.fsdecode(arguments[0])))
        # Not `os.listdir`, by which imports look for modules in all folders.
        elif event == "os.scandir" and isinstance(arguments[0], str | bytes):
            self._opened.add(os.path.abspath(os.fsdecode(arguments[0])) + os.sep)


def _must_open(path: Path) -> None:
    """Find out first whether the file can be opened: what else fails is the user's code."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DefinitionError(f"The file cannot be read: {error.strerror}.", where=str(path)) from error


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _TooSlow


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _last_line(error: BaseException, path: Path) -> str:
    """The line of the file that was being executed."""
    found, step = str(path), error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            found = f"{path}:{step.tb_lineno}"
        step = step.tb_next
    return found


def _main() -> None:
    root, name, pipelines, limit, project = json.loads(sys.argv[1])
    channel = os.dup(0)
    os.dup2(1, 0)
    reach = reach_of(load_settings(Path(project)), Path(root))
    serve(Settings(Path(root), name, tuple(pipelines)), limit, channel, reach=reach)


if __name__ == "__main__":
    _main()
