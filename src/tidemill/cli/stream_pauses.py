"""`tidemill stream pause, resume`: a stream that nobody works on for a while, such as for a reset beside `up`."""

from __future__ import annotations

import click

from tidemill.cli.command import Command
from tidemill.cli.invocation import Invocation, pass_invocation

_STREAM = click.argument("name", metavar="STREAM")
#: Seconds between two looks whether processes have let go.
_LOOK = 0.3


@click.command(cls=Command, asks=True)
@_STREAM
@click.option("--wait", "seconds", type=click.IntRange(min=0), default=120, show_default=True, metavar="SECONDS",
              help="How long to wait until its processes have let go; 0: not at all.")  # fmt: skip
@pass_invocation
def pause(invocation: Invocation, name: str, seconds: int) -> int:
    """Let no process work on a stream, until it is resumed.

    Its processes, those of `up` and those begun by hand, make what they have done count, and let go. Messages wait in
    its topics meanwhile. A stream that is paused can be reset.
    """
    from tidemill.wiring.services import system_clock

    streams, out, clock = invocation.installation.streams, invocation.out, system_clock()
    stream = streams.pause(name, paused=True)
    until = clock.monotonic() + seconds
    while (state := streams.state(stream)) == "pausing" and clock.monotonic() < until:
        clock.sleep(_LOOK)
    if invocation.json:
        out.object({"stream": stream, "state": state})
    else:
        out.facts([(state, stream)])
        if state == "paused":
            out.next(f"tidemill stream reset {stream}")
        else:
            out.note("a process has not let go yet; it does after what it is at")
            out.next(f"tidemill stream show {stream}")
    return 0 if state == "paused" or seconds == 0 else 1


@click.command(cls=Command, asks=True)
@_STREAM
@pass_invocation
def resume(invocation: Invocation, name: str) -> None:
    """Let processes work on a stream again.

    Those of `up` begin within a second or two.
    """
    streams, out = invocation.installation.streams, invocation.out
    stream = streams.pause(name, paused=False)
    if invocation.json:
        out.object({"stream": stream, "state": streams.state(stream)})
        return
    out.facts([("resumed", stream)])
    out.next(f"tidemill stream show {stream}")
