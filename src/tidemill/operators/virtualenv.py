"""Functions that run in a virtual environment of their own, with packages that the project does not have.

The environment is made once for each list of requirements, by uv where there is one, and kept. The function's source is
run there by itself: it imports what it needs within, and sees nothing of its module. Arguments and result are pickled.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import inspect
import pickle
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, RunFailed, UserError
from tidemill.operators.python import Decorated, PythonOperator

#: Environments are kept here, below the project's folder.
_FOLDER = Path(".tidemill", "venvs")
_PICKLE = 4
_PROGRAM = """\
import pickle, sys
with open(sys.argv[1], "rb") as file:
    args, kwargs = pickle.load(file)
{source}
result = {name}(*args, **kwargs)
with open(sys.argv[2], "wb") as file:
    pickle.dump(result, file, protocol={protocol})
"""


class VirtualenvOperator(PythonOperator):
    """Runs a function in a virtual environment.

    Args:
        requirements: packages, as pip takes them.
        python_version: `3.12`; by default the Python that runs this. Another one needs uv.
        system_site_packages: also see the packages of the Python that runs this.
        options: those of `PythonOperator`; variables of the context are handed over only in `op_args` and `op_kwargs`.
    """

    kind = "virtualenv"
    _process: subprocess.Popen[str] | None = None

    def __init__(
        self,
        *,
        requirements: str | Sequence[str] = (),
        python_version: str | None = None,
        system_site_packages: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.requirements = [requirements] if isinstance(requirements, str) else list(requirements)
        self.python_version = python_version
        self.system_site_packages = system_site_packages

    def call(self, context: TaskContext) -> Any:
        """Run the function there."""
        source = _source(self.python_callable, self.place)
        python = self._environment(context.services.root / _FOLDER)
        with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
            folder = Path(name)
            try:
                (folder / "in").write_bytes(pickle.dumps((self.op_args, self.op_kwargs), protocol=_PICKLE))
            except Exception as error:
                raise UserError(
                    f"An argument cannot be taken to another Python: {error}.", where=self.place, hint="plain values"
                ) from None
            program = _PROGRAM.format(source=source, name=self.python_callable.__name__, protocol=_PICKLE)
            (folder / "program.py").write_text(program, "utf-8")
            self._run([str(python), "-I", str(folder / "program.py"), str(folder / "in"), str(folder / "out")])
            # What the user's own function has just written.
            return pickle.loads((folder / "out").read_bytes())  # noqa: S301  # see the line above

    def on_kill(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _run(self, command: list[str]) -> None:
        lines: list[str] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            for line in self._process.stdout or ():
                lines.append(line.rstrip())
                self.log.info("%s", lines[-1])
            code = self._process.wait()
        except BaseException:
            self.on_kill()
            raise
        if code:
            shown = "".join(f"\n    {line}" for line in lines[-5:])
            raise RunFailed(f"It ended with exit code {code} in its environment.{shown}", where=self.place)

    def _environment(self, folder: Path) -> Path:
        """The Python of the environment, which is made if it is not there; two workers wait for each other."""
        version = self.python_version or f"{sys.version_info.major}.{sys.version_info.minor}"
        text = "\n".join([version, str(self.system_site_packages), *sorted(self.requirements)])
        made = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        python = made / "bin" / "python"
        if (made / ".ready").exists():
            return python
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{made.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (made / ".ready").exists():
                shutil.rmtree(made, ignore_errors=True)
                self.log.info("makes an environment with %s", ", ".join(self.requirements) or "nothing else")
                self._make(made, python, version)
                (made / ".ready").touch()
        return python

    def _make(self, made: Path, python: Path, version: str) -> None:
        uv = shutil.which("uv")
        site = ["--system-site-packages"] if self.system_site_packages else []
        if uv is not None:
            wanted = self.python_version or sys.executable
            self._run([uv, "venv", "--quiet", "--python", wanted, *site, str(made)])
            install = [uv, "pip", "install", "--quiet", "--python", str(python)]
        elif self.python_version in (None, f"{sys.version_info.major}.{sys.version_info.minor}"):
            self._run([sys.executable, "-m", "venv", *site, str(made)])
            install = [str(python), "-m", "pip", "install", "--quiet"]
        else:
            raise UserError(
                f"Python {version} needs uv.", where=self.place, hint="install uv, or leave python_version out"
            )
        if self.requirements:
            self._run([*install, *self.requirements])


class ExternalPythonOperator(VirtualenvOperator):
    """Runs a function in a Python that is there already.

    Args:
        python: its program.
        options: those of `PythonOperator`.
    """

    kind = "external_python"
    template_fields: Sequence[str] = ("python", *PythonOperator.template_fields)

    def __init__(self, *, python: str, **options: Any) -> None:
        super().__init__(**options)
        self.python = str(python)

    def _environment(self, folder: Path) -> Path:
        """The Python. Raises UserError: it is not there."""
        found = shutil.which(self.python)
        if found is None:
            raise UserError(f'There is no Python "{self.python}".', where=self.place, hint="the path of its program")
        return Path(found)


class DecoratedVirtualenv(Decorated, VirtualenvOperator):
    """`@task.virtualenv`."""


def _source(function: Callable[..., Any], place: str) -> str:
    """A function's source without its decorators.

    Raises:
        DefinitionError: it has none, or is no plain function.
    """
    hint = "a function by `def` in a file, which imports what it needs within"
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        raise DefinitionError(
            "This function has no source that could be run elsewhere.", where=place, hint=hint
        ) from None
    made = tree.body[0]
    if not isinstance(made, ast.FunctionDef):
        raise DefinitionError("This is no plain function, and cannot be run elsewhere.", where=place, hint=hint)
    made.decorator_list = []
    return ast.unparse(made)
