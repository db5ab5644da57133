"""`tidemill up` and `tidemill serve`: all that a project needs to run by itself, in one command or apart; its users."""

from __future__ import annotations

import click

from tidemill.cli.access import audit, tokens, users
from tidemill.cli.command import Command, Group
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.model.errors import UserError

_WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N",
    help="Tasks at the same time on this machine; else one for each core, at least four.",
)  # fmt: skip


@click.command(cls=Command, objects=False)
@_WORKERS
@pass_invocation
def up(invocation: Invocation, workers: int | None) -> int:
    """Start all that a project needs to run by itself.

    That is a scheduler with workers, the parser of pipelines, the attendant, and the streams, where a pipeline declares
    any. With the extra `web` it serves the API, and says where. With [metrics] or [otel] in the settings, metrics are
    served, too. Ctrl-C stops them all.

    Schedules begin runs by themselves from now on, and changed files of pipelines are read at once.
    """
    from tidemill.wiring.metrics import is_wanted
    from tidemill.wiring.serving import METRICS, PARTS

    settings = invocation.known_settings()
    shown = (METRICS,) if is_wanted(settings) else ()
    pages = settings.web.enabled and _has_web(invocation)
    if settings.web.enabled and not pages:
        invocation.out.note('without pages and API, for which a web server is needed: pip install "tidemill[web]"')
    return _serve(invocation, (*PARTS, *shown), workers, web=pages)


@click.group(cls=Group)
def serve() -> None:
    """Run one part of an installation; say who may use it."""


@serve.command(cls=Command, objects=False)
@_WORKERS
@pass_invocation
def scheduler(invocation: Invocation, workers: int | None) -> int:
    """Run a scheduler with its workers.

    Any number of them may work on one PostgreSQL database.
    """
    return _serve(invocation, ("scheduler",), workers)


@serve.command(cls=Command, objects=False)
@_WORKERS
@click.option("--queue", "queues", multiple=True, metavar="NAME", default=("default",), show_default=True,
              help="Serve this queue of tasks.")  # fmt: skip
@pass_invocation
def worker(invocation: Invocation, workers: int | None, queues: tuple[str, ...]) -> int:
    """Run workers that take tasks from the broker.

    The broker is that of the settings: [scheduler] broker. Any number of these, on any computers, work for one project.
    """
    return _serve(invocation, ("worker",), workers, queues)


@serve.command(cls=Command, objects=False)
@pass_invocation
def parser(invocation: Invocation) -> int:
    """Run the process that watches and reads pipelines' files."""
    return _serve(invocation, ("parser",), None)


@serve.command(cls=Command, objects=False)
@pass_invocation
def attendant(invocation: Invocation) -> int:
    """Run the process in which deferred tasks wait; it sends notices."""
    return _serve(invocation, ("attendant",), None)


@serve.command(cls=Command, objects=False)
@pass_invocation
def streams(invocation: Invocation) -> int:
    """Run the streams of all pipelines that the parser knows.

    Any number of these, on any computers that reach the broker, share the work. Changed code makes them begin anew.
    """
    return _serve(invocation, ("streams",), None)


@serve.command(cls=Command, objects=False)
@pass_invocation
def metrics(invocation: Invocation) -> int:
    """Serve the installation's metrics.

    To Prometheus at the address of the settings, [metrics] listen, and with [otel] to a collector. They show what is on
    record of all processes, on any computers.
    """
    from tidemill.wiring.metrics import see_wanted

    see_wanted(invocation.known_settings())
    return _serve(invocation, ("metrics",), None)


@serve.command(cls=Command, objects=False)
@pass_invocation
def web(invocation: Invocation) -> int:
    """Serve the API, at the address of the settings: [web] host, port.

    It shows what is on record of all processes, on any computers, and lets schedulers do what is asked.
    """
    if not _has_web(invocation):
        raise UserError("The API needs a web server.", hint='pip install "tidemill[web]"')
    return _serve(invocation, (), None, web=True)


def _has_web(invocation: Invocation) -> bool:
    """Whether the packages are there. Raises SettingsError: it would be open to others without a login."""
    from importlib.util import find_spec

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        return False
    from tidemill.web.server import see_safe

    see_safe(invocation.known_settings())
    return True


for _command in (users, tokens, audit):
    serve.add_command(_command)


def _serve(
    invocation: Invocation,
    parts: tuple[str, ...],
    workers: int | None,
    queues: tuple[str, ...] = ("default",),
    *,
    web: bool = False,
) -> int:
    from tidemill.version import __version__
    from tidemill.wiring.serving import up as serve_parts

    settings = invocation.known_settings()
    others = {}
    if web:
        from tidemill.web.server import NAME, web_main

        others[NAME] = web_main
    named = " and ".join((*parts, *others))
    invocation.out.note(f"tidemill {__version__}: {settings.name}, {named}; stop with Ctrl-C")
    return serve_parts(settings, parts=parts, workers=workers, queues=queues, told=invocation.out.note, others=others)
