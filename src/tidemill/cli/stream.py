"""`tidemill stream`: streams by hand."""

from __future__ import annotations

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.invocation import Invocation, pass_invocation


@click.group(cls=Group)
def stream() -> None:
    """Run streams, and look after them."""


@stream.command(cls=Command, objects=False)
@click.argument("names", nargs=-1, metavar="[STREAM]...")
@pass_invocation
def run(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Run streams in this process until Ctrl-C.

    STREAM is `pipeline.stream`, or a pipeline's name for all of its; without one every stream of the project runs.
    More processes, also on other computers, share the work.
    """
    from tidemill.wiring.serving import asked_to_stop
    from tidemill.wiring.streaming import run_streams

    settings = invocation.known_settings()
    with asked_to_stop() as (stopping, _):
        return run_streams(settings, names, stopping, invocation.out.note)
