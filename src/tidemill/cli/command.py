"""Commands and groups of Tidemill: global options at any place, "did you mean", help that fits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import click

from tidemill.cli.invocation import current

F = TypeVar("F", bound=Callable[..., Any])
#: Why most commands that cannot ask a server cannot.
_HERE = "it is about files of the project, or works on this computer"


class Suggestion(click.UsageError):
    """A wrong name on the command line, with what to try."""

    def __init__(self, message: str, hint: str, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def _project(hidden: bool = False) -> click.Option:
    return _option(
        ["--project"], "project", "The project's folder; else the one at or above the current folder.",
        type=click.Path(path_type=Path), metavar="FOLDER", hidden=hidden,
    )  # fmt: skip


def _server(hidden: bool = False) -> click.Option:
    return _option(
        ["--server"], "server", "Ask this server instead of a project here: https://host, or a name.",
        metavar="URL", hidden=hidden,
    )  # fmt: skip


def _branch(hidden: bool = False) -> click.Option:
    return _option(
        ["--branch"], "branch", "Read this branch or tag instead of main.", metavar="NAME", hidden=hidden
    )  # fmt: skip


def _json(hidden: bool = False) -> click.Option:
    return _option(["--json"], "json", "Write one JSON object to standard output and nothing else.", is_flag=True,
                   hidden=hidden)  # fmt: skip


def _quiet(hidden: bool = False) -> click.Option:
    return _option(["-q", "--quiet"], "quiet", "No progress and no notes.", is_flag=True, hidden=hidden)


def _verbose(hidden: bool = False) -> click.Option:
    return _option(["-v", "--verbose"], "verbose", "Show what libraries log; twice: all of it.", count=True,
                   hidden=hidden)  # fmt: skip


def _debug(hidden: bool = False) -> click.Option:
    return _option(["--debug"], "debug", "Show tracebacks.", is_flag=True, hidden=hidden)


def _version(hidden: bool = False) -> click.Option:
    def show(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            from tidemill.version import __version__

            click.echo(f"tidemill {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, hidden=hidden,
        help="Show the version and exit.",
    )  # fmt: skip


#: The options that every command takes, before or after its name.
GLOBAL_OPTIONS: tuple[Callable[..., click.Option], ...] = (
    _project, _server, _branch, _json, _quiet, _verbose, _debug, _version,
)  # fmt: skip


def _option(names: list[str], field: str, text: str, **options: Any) -> click.Option:
    def keep(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:
            invocation = current(ctx)
            if field == "quiet":
                invocation.out.quiet = True
            else:
                setattr(invocation, field, value)

    # The project and the form of the output must be known when another option is found wrong.
    return click.Option(names, help=text, expose_value=False, is_eager=True, callback=keep, **options)


def limit_option(default: int, text: str) -> Callable[[F], F]:
    """`--limit N`: how much of a list is shown."""
    least = click.IntRange(min=0)
    return click.option("--limit", type=least, metavar="N", default=default, show_default=True, help=text)


@contextmanager
def _only_ours(json: bool) -> Iterator[None]:
    """With `--json`, standard output gets one object and nothing else: what the user's code prints goes beside it."""
    if not json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


class Command(click.Command):
    """A command that also takes the global options after its name.

    Args:
        reads: True where `--branch` means something to it.
        objects: False where it has no answer for `--json`.
        asks: it can ask a server (`--server`); without that, it is about the project here.
        here: why it cannot, where it is for another reason than others.
        own: names of global options that the command defines itself, with another meaning.
    """

    def __init__(
        self, *args: Any, reads: bool = False, objects: bool = True, asks: bool = False, here: str = _HERE,
        own: Iterable[str] = (), **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **options)
        self.reads = reads
        self.objects = objects
        self.asks = asks
        self.here = here
        for make in GLOBAL_OPTIONS:
            option = make(hidden=not ((reads and make is _branch) or (asks and make is _server)))
            if option.name not in own:
                self.params.append(option)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; an option that would be ignored is refused."""
        invocation = current(ctx)
        for option, given in (("--branch", invocation.branch and not self.reads),
                              ("--json", invocation.json and not self.objects)):  # fmt: skip
            if given:
                raise Suggestion(f'"{ctx.command_path}" takes no {option}.', f"{ctx.command_path} --help", ctx)
        if invocation.remote is not None and not self.asks:
            raise _not_there(ctx, self.here, by_option=invocation.server is not None)
        if invocation.server is not None and invocation.project is not None:
            raise Suggestion("--server and --project are one too many.", "a server has its project", ctx)
        if invocation.verbose:
            import logging

            level = logging.INFO if invocation.verbose == 1 else logging.DEBUG
            logging.basicConfig(level=level, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True)
        with _only_ours(invocation.json):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the global options at the end."""
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("Global options: --project, --json, -q, -v, --debug (see tidemill --help).")


def _not_there(ctx: click.Context, why: str, *, by_option: bool) -> Suggestion:
    """A command that is about files here, and was to ask a server."""
    how = "without --server" if by_option else f"TIDEMILL_SERVER= {ctx.command_path}"
    return Suggestion(f'"{ctx.command_path}" cannot ask a server: {why}.', f"{how}, where the project is", ctx)


def adopted(command: click.Command) -> Command:
    """A plain click command of another layer, with the global options; it tells its story in words only."""
    return Command(
        command.name, callback=command.callback, params=list(command.params), help=command.help, epilog=command.epilog,
        objects=False,
    )  # fmt: skip


class Group(click.Group):
    """Commands under one name; a misspelt one is answered with the nearest."""

    command_class = Command

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        known = {parameter.name for parameter in self.params}
        self.params += [option for make in GLOBAL_OPTIONS if (option := make(hidden=True)).name not in known]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their definition, which is that of their use."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise Suggestion(f'There is no command "{name}".', _near(args, self.list_commands(ctx), ctx), ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first, then options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)


def _near(args: list[str], known: list[str], ctx: click.Context) -> str:
    import difflib
    import shlex

    found = difflib.get_close_matches(args[0], known, n=3, cutoff=0.5)
    if found:
        return "did you mean " + " or ".join(f'"{ctx.command_path} {n}"' for n in found) + "?"
    if ctx.parent is not None and "run" in known:  # of `tidemill backfill shop 2026-01-01..2026-01-31`
        return f"{ctx.command_path} run {shlex.join(args)}"
    return f"{ctx.command_path} --help"
