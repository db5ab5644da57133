"""Shell commands as tasks: a process group of their own, output line by line in the log."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tidemill.authoring.signals import SkipTask
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import RunFailed, UserError
from tidemill.operators.process import Program, code_text, told_environment
from tidemill.operators.python import Decorated, arguments_for

#: Lines of output that the error of a failed command shows.
_LAST_LINES = 5


class BashOperator(BaseOperator):
    """Runs a command in bash. Its last line of output is what the task returns.

    It has a process group of its own, which ends as a whole when the task is stopped or its time is over.

    Args:
        bash_command: the command, or a file that ends in `.sh` or `.bash`; a template.
        env: its environment; without `append_env` nothing else is in it but PATH and HOME as here.
        append_env: `env` is added to the environment as it is here.
        cwd: the folder in which it runs; relative to the project, and by default the project itself.
        skip_on_exit_code: the task counts as skipped; 99 by default. None: never.
        output_processor: makes of the last line what the task returns: `json.loads`.
        options: those of every task.
    """

    kind = "bash"
    template_fields: Sequence[str] = ("bash_command", "env", "cwd")
    template_ext: Sequence[str] = (".sh", ".bash")
    _program: Program | None = None

    def __init__(
        self,
        *,
        bash_command: Any,
        env: Mapping[str, str] | None = None,
        append_env: bool = False,
        cwd: str | None = None,
        skip_on_exit_code: int | Collection[int] | None = 99,
        output_processor: Callable[[str], Any] = lambda line: line,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.bash_command = bash_command
        self.env = None if env is None else dict(env)
        self.append_env = append_env
        self.cwd = cwd
        found = (skip_on_exit_code,) if isinstance(skip_on_exit_code, int) else skip_on_exit_code
        self.skip_on_exit_code = frozenset(found or ())
        self.output_processor = output_processor

    def execute(self, context: TaskContext) -> Any:
        """Run the command to its end."""
        return self.output_processor(self.run(str(self.bash_command), context))

    def run(self, command: str, context: TaskContext) -> str:
        """Run a command; returns its last line.

        Raises:
            SkipTask: it ended with a code that means so.
            RunFailed: it ended with another code.
            UserError: there is no such folder.
        """
        folder = context.services.root / (self.cwd or ".")
        if not folder.is_dir():
            raise UserError(
                f'There is no folder "{self.cwd}" to run in.', where=self.place, hint="mkdir, or another cwd="
            )
        last: deque[str] = deque(maxlen=_LAST_LINES)

        def line(text: str) -> None:
            last.append(text)
            self.log.info("%s", text)

        self._program = self._program or Program()
        code = self._program.run(["bash", "-c", command], folder, self._environment(context), line)
        if code in self.skip_on_exit_code:
            raise SkipTask(f"the command ended with {code}")
        if code:
            shown = "".join(f"\n    {line}" for line in last)
            raise RunFailed(
                f"The command ended with {code_text(code)}.{shown}", where=self.place, hint="its log has all output"
            )
        return last[-1] if last else ""

    def on_kill(self) -> None:
        """End the whole process group, first politely."""
        self._program = self._program or Program()
        self._program.end()

    def _environment(self, context: TaskContext) -> dict[str, str]:
        """The command's environment, with what tells it about its run."""
        own = {str(name): str(value) for name, value in (self.env or {}).items()}
        if self.env is None or self.append_env:
            base = dict(os.environ)
        else:
            base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**told_environment(base, context["ti"]), **own}


class DecoratedBash(Decorated, BashOperator):
    """`@task.bash`: the function returns the command."""

    template_fields: Sequence[str] = (*BashOperator.template_fields, "op_args", "op_kwargs")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(bash_command=None, **options)
        self.python_callable = python_callable
        self.op_args = tuple(op_args)
        self.op_kwargs = dict(op_kwargs or {})

    def execute(self, context: TaskContext) -> Any:
        """Ask the function for the command, render it, and run it."""
        named = arguments_for(self.python_callable, self.op_args, self.op_kwargs, context)
        command = self.python_callable(*self.op_args, **named)
        if not isinstance(command, str) or not command.strip():
            raise UserError(
                f"{self.python_callable.__name__}() returned {command!r}, which is no command.",
                where=self.place,
                hint='return "echo hello"',
            )
        return self.output_processor(self.run(_rendered(command, context, self.place), context))


def _rendered(command: str, context: TaskContext, where: str) -> str:
    from tidemill.plan.fields import render_field
    from tidemill.plan.template import Sandbox

    return str(render_field(command, context, sandbox=Sandbox, where=where))
