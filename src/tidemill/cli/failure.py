"""Failures as people read them: what happened, where, what to try; a traceback only with `--debug`."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import click

from tidemill.cli.invocation import Invocation
from tidemill.cli.output import paint_for
from tidemill.model.errors import TidemillError
from tidemill.model.masking import hide

_OWN = str(Path(__file__).resolve().parent.parent)
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, ready to be shown.

    `code` is the user's line that raised it, where there is one.
    """

    kind: str
    what: str
    where: str | None = None
    hint: str | None = None
    code: str | None = None
    exit_code: int = 1

    def lines(self, paint: Callable[[str, str], str]) -> list[str]:
        """The message. An error out of the user's own code begins with the user's line."""
        if self.code is not None:
            first = [paint(str(self.where), "heading"), f"    {self.code}", paint(self.what, "bad")]
        else:
            head, *more = self.what.splitlines() or [""]
            first = [f"{paint('error:', 'bad')} {head}", *(f"  {line}" for line in more)]
            first += [f"  at: {self.where}"] if self.where else []
        return [*first, *([f"  try: {self.hint}"] if self.hint else [])]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "kind": self.kind, "what": self.what, "where": self.where, "hint": self.hint, "exit_code": self.exit_code,
        }  # fmt: skip


def explain(error: BaseException, invocation: Invocation, *, place: str | None = None) -> Failure:
    """Turn an error into what is shown of it.

    Args:
        error: what was raised.
        invocation: the call, for paths relative to the project and for the command to try.
        place: where the failed task is declared, for errors that name no place themselves.
    """
    made = _explained(error, invocation, place)
    where, hint, code = (text and hide(text) for text in (made.where, made.hint, made.code))
    return replace(made, what=hide(made.what), where=where, hint=hint, code=code)


def _explained(error: BaseException, invocation: Invocation, place: str | None) -> Failure:
    kind = type(error).__name__
    if isinstance(error, TidemillError):
        where = error.where or place
        hint = short(error.hint) if error.hint else None
        return Failure(kind, error.what, short(where) if where else None, hint, exit_code=error.exit_code)
    if isinstance(error, click.ClickException):
        return _usage(error)
    said = f"{kind}: {str(error).strip()}" if str(error).strip() else kind
    debug = invocation.command("--debug")
    frame = user_line(error, invocation.root)
    if frame is not None:
        where = f"{short(frame.filename)}:{frame.lineno}, in {frame.name}"
        return Failure(kind, said, where, debug, code=(frame.line or "").strip())
    if place is not None:
        return Failure(kind, said, short(place), debug)
    if isinstance(error, OSError) and error.strerror:
        about = f": {short(os.fsdecode(error.filename))}" if error.filename is not None else ""
        return Failure(kind, f"{error.strerror}{about}.", None, debug)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    at = f"{Path(last[0].filename).name}:{last[0].lineno}" if last else None
    return Failure(kind, f"{said}\nThis is a defect of Tidemill, not of the project.", at, f"{debug}, and report it")


def _usage(error: click.ClickException) -> Failure:
    message = re.sub(r"'([^'\"]*)'", r'"\1"', error.format_message().replace("\n", " "))
    hint = getattr(error, "hint", None)
    ctx = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        message = f'There is no option "{error.option_name}".'
        near = difflib.get_close_matches(error.option_name, error.possibilities or (), n=2, cutoff=0.7)
        if near:
            hint = "did you mean " + " or ".join(f'"{p}"' for p in near) + "?"
    if hint is None and ctx is not None:
        hint = f"{ctx.command_path} --help"
    return Failure("UsageError", message, None, hint, exit_code=error.exit_code)


def print_traceback(error: BaseException) -> None:
    """Write a traceback to standard error, without secrets."""
    sys.stderr.write(hide("".join(traceback.format_exception(error))))


def user_line(error: BaseException, root: Path) -> traceback.FrameSummary | None:
    """The innermost line of the user's own files that led to the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if frame.filename.startswith(_OWN) or not file.is_absolute() or not file.is_relative_to(root):
            continue
        if not {"site-packages", ".venv", "venv"} & set(file.relative_to(root).parts):
            return frame
    return None


def short(place: str) -> str:
    """A place with its path relative to the current folder, where it is below that."""
    here = f"{Path.cwd()}{os.sep}"
    return place.replace(here, "")


def show(failure: Failure) -> None:
    """Write a failure to standard error."""
    for line in failure.lines(paint_for(sys.stderr)):
        print(line, file=sys.stderr)


def guarded(run: Callable[..., Any], *args: Any, **options: Any) -> NoReturn:
    """Run click's main; exit with the code that says how it went, after showing what went wrong."""
    invocation = Invocation()
    given = options.get("args") or (args[0] if args else None)
    invocation.arguments = list(given if given is not None else sys.argv[1:])
    options["standalone_mode"] = False
    try:
        try:
            code = run(*args, **options, obj=invocation)
            sys.stdout.flush()
        finally:
            invocation.close()
    except BrokenPipeError:
        # Whoever reads us has had enough (`| head`). The interpreter's last flush must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as nothing:
        click.echo(nothing.format_message())
        code = 0
    except Exception as error:
        code = fail(error, invocation)
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: Exception, invocation: Invocation) -> int:
    """Show an error, as text and with `--json` as an object; returns the exit code."""
    failure = explain(error, invocation)
    if invocation.debug:
        print_traceback(error)
    if invocation.json:
        invocation.out.object({"error": failure.as_json()})
    show(failure)
    return failure.exit_code
