"""`tidemill stream reset, replay`: beginning anew, and a look at what a stream makes of the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tidemill.cli.command import Command
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count
from tidemill.model.json_values import jsonable

_STREAM = click.argument("name", metavar="STREAM")


@click.command(cls=Command, asks=True)
@_STREAM
@click.option("--to", default="earliest", show_default=True, metavar="WHERE",
              help="earliest, latest, a time ('2026-01-15 12:00'), or an offset.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would go, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def reset(invocation: Invocation, name: str, to: str, dry_run: bool, yes: bool) -> None:
    """Let a stream begin anew, from chosen offsets of its topics.

    What it remembers goes: its state, its changelogs, rows between its stages. What it has written stays, so results
    come again for messages that it reads again. It must not be running: `tidemill stream pause` lets it
    rest beside `tidemill up`.
    """
    streams, out = invocation.installation.streams, invocation.out
    found = streams.preview_reset(name, to)
    if not invocation.json:
        out.facts([
            ("would read", f"{one['topic']}[{one['partition']}]",
             f"from {'its table' if one['offset'] is None else count(one['offset'])}",
             f"instead of {count(one['before'])}" if one["before"] is not None else "as at first")
            for one in found["positions"]
        ])  # fmt: skip
        out.facts([*(("would empty", topic) for topic in found["cleared"]),
                   *(("would remove", f"state {store}") for store in found["stores"])])  # fmt: skip
    if not dry_run:
        if not (yes or invocation.json):
            click.confirm(f"Reset {found['stream']}?", abort=True, err=True)
        streams.reset(name, to)
    if invocation.json:
        out.object({**found, "dry_run": dry_run})
    elif not dry_run:
        out.facts([("reset", found["stream"])])
        out.next(f"tidemill stream lag {found['stream']}")


@click.command(cls=Command, here="it runs the stream's code over all of the range, on this computer")
@_STREAM
@click.option("--from", "since", required=True, metavar="TIME", help="Messages of this time and later.")
@click.option("--until", metavar="TIME", help="Up to, not including, this time; left out, now.")
@click.option("--to", metavar="TOPIC", help="Send the rows there; else they are shown, a JSON object a line.")
@pass_invocation
def replay(invocation: Invocation, name: str, since: str, until: str | None, to: str | None) -> None:
    """Run a range of the past through a stream's function.

    The code is that of today.

    In memory: no position moves, no state and no table is touched, no function of yours gets rows. Times are those of
    messages. Windows that the range does not close give nothing, and what was before it is not known.
    """
    import json

    from tidemill.wiring.services import system_clock
    from tidemill.wiring.stream_replay import replay as replay_stream
    from tidemill.wiring.stream_reset import read_time

    rows: list[dict[str, Any]] = []
    out = invocation.out

    def shown(target: str, row: Mapping[str, Any]) -> None:
        if invocation.json:
            rows.append({"to": target, "row": dict(row)})
        else:
            out.line(json.dumps(jsonable(row), ensure_ascii=False))

    end = system_clock().now() if until is None else read_time(until)
    done = replay_stream(invocation.streams, name, read_time(since), end, shown if to is None else None, to)
    counts = {"messages": done.messages, "rows": done.rows, "failed": done.failed, "late": done.late}
    if invocation.json:
        out.object({"stream": name, **counts, **({"topic": to} if to else {"results": rows})})
        return
    aside = f", {count(done.failed, 'failed rows')}, {count(done.late, 'late rows')}" if done.failed + done.late else ""
    out.note(f"{count(done.messages, 'messages')} gave {count(done.rows, 'rows')}{f' to {to}' if to else ''}{aside}")
