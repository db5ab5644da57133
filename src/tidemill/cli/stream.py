"""`tidemill stream`: streams by hand, and what they do. Topics, letters and the past have files of their own."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.stream_letters import dlq, redrive
from tidemill.cli.stream_past import replay, reset
from tidemill.cli.stream_pauses import pause, resume
from tidemill.cli.stream_sources import refeed, sources
from tidemill.cli.stream_topics import feed, peek, topics
from tidemill.cli.text import count, duration, moment, size

if TYPE_CHECKING:
    from tidemill.ports.asked import Facts

_STYLES = {
    "running": "good",
    "recovering": "warn",
    "failed": "bad",
    "wrong": "bad",
    "gone": "bad",
    "stopped": "dim",
    "pausing": "warn",
    "paused": "warn",
}


@click.group(cls=Group)
def stream() -> None:
    """Run streams, and look after them."""


@stream.command(cls=Command, objects=False)
@click.argument("names", nargs=-1, metavar="[STREAM]...")
@click.option("--metrics", metavar="HOST:PORT", help="Serve this process's metrics there, at /metrics.")
@pass_invocation
def run(invocation: Invocation, names: tuple[str, ...], metrics: str | None) -> int:
    """Run streams in this process until Ctrl-C.

    STREAM is `pipeline.stream`, its own name where no other is called so, or a pipeline's name for all of its; without
    one every stream of the project runs.
    More processes, also on other computers, share the work.
    """
    from tidemill.wiring.serving import asked_to_stop
    from tidemill.wiring.streaming import run_streams

    settings = invocation.known_settings()
    shown = settings.metrics.at(metrics) if metrics else None
    with asked_to_stop() as (stopping, _):
        return run_streams(settings, names, stopping, invocation.out.note, shown)


@stream.command("ls", cls=Command, asks=True)
@pass_invocation
def list_streams(invocation: Invocation) -> None:
    """List streams: where from and to, who works on them, what waits."""
    found = invocation.installation.streams.listed()
    out = invocation.out
    if invocation.json:
        out.object({"streams": found})
        return
    if not found:
        out.note("no pipeline declares a stream; see @pipeline.stream")
        return
    columns = [
        Column("stream"), Column("state"), Column("reads"), Column("writes"), Column("guarantee", yields=3),
        Column("members", right=True, yields=2), Column("messages/s", right=True, yields=1),
        Column("lag", right=True), Column("dead letters", right=True),
    ]  # fmt: skip
    out.grid(columns, [_row(one) for one in found])
    for one in found:
        if one["error"] and one["state"] in ("failed", "wrong"):
            out.line()
            head, *more = short(one["error"]).splitlines()
            out.line(f"{out.styled('error:', 'bad')} {one['stream']}: {head}")
            for line in more:
                out.line(line)
    out.next(f"tidemill stream show {found[0]['stream']}")


def _row(one: Facts) -> list[str]:
    letters = count(one["dead_letters"])
    return [
        one["stream"], Styled(one["state"], _STYLES[one["state"]]), ", ".join(one["reads"]),
        ", ".join(one["writes"]) or "-", one["guarantee"], count(one["members"]), _rate(one["counts"]["rate"]),
        count(one["lag"]), Styled(letters, "warn") if one["dead_letters"] else letters,
    ]  # fmt: skip


@stream.command(cls=Command, asks=True)
@click.argument("name", metavar="STREAM")
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show a stream's topology, and what its processes do.

    A stage is what one task does with a partition. An exchange sends rows to where those of equal keys meet.
    """
    found = invocation.installation.streams.one(name)
    out = invocation.out
    if invocation.json:
        out.object(found)
        return
    counts = found["counts"]
    facts: list[tuple[str, ...]] = [
        ("stream", found["stream"], found["state"]),
        ("declared", short(found["place"])),
        ("reads", ", ".join(found["reads"])),
        *(("fed", topic, f"from {source}") for topic, source in found["sources"].items()),
        ("writes", ", ".join(found["writes"]) or "-"),
        ("guarantee", found["guarantee"]),
        ("lag", count(sum(one["lag"] for one in found["lag"]), "messages")),
    ]
    if found["processes"]:
        done = f"{count(counts['messages'], 'messages')}, {_rate(counts['rate'])} a second"
        facts += [
            ("did", done, f"{count(counts['checkpoints'], 'checkpoints')}"),
            ("state", size(counts["state_bytes"])),
            ("aside", f"{count(counts['failed'], 'failed rows')}, {count(counts['late'], 'late rows')}"),
        ]
    out.facts([[*fact, *[""] * (3 - len(fact))] for fact in facts])
    out.line()
    _print_nodes(invocation, found)
    if found["checks"]:
        out.line()
        _print_checks(invocation, found["checks"])
    if found["processes"]:
        out.line()
        _print_processes(invocation, found["processes"])
    if found["error"]:
        out.line()
        head, *more = short(found["error"]).splitlines()
        out.line(f"{out.styled('error:', 'bad')} {head}  ({moment(found['error_at'])})")
        for line in more:
            out.line(line)
    out.next(f"tidemill stream lag {found['stream']}")


def _print_nodes(invocation: Invocation, found: dict[str, Any]) -> None:
    columns = [
        Column("stage"), Column("node", right=True), Column("does"), Column("after"), Column("reads"),
        Column("writes"), Column("by", yields=3), Column("errors", yields=4), Column("count", right=True, yields=1),
        Column("a second", right=True, yields=2), Column("watermark", yields=2),
    ]  # fmt: skip
    parents: dict[int, list[str]] = {}
    for edge in found["edges"]:
        parents.setdefault(edge["to"], []).append(str(edge["from"]))
    tasks = {one["stage"]: one["tasks"] for one in found["stages"]}
    rows = []
    for node in found["nodes"]:
        counted = node["kind"] != "step" or node["writes"]
        reads = node["reads"] or node["joins"] or "-"
        mark = datetime.fromisoformat(node["watermark"]) if node["watermark"] else None
        rows.append([
            f"{node['stage']} x{tasks[node['stage']]}", str(node["node"]),
            node["verb"] or node["kind"], ", ".join(parents.get(node["node"], [])) or "-", reads,
            node["writes"] or "-", ", ".join(node["by"]) or "-", node["errors"],
            count(node["count"]) if counted else "-", _rate(node["rate"]) if counted else "-", moment(mark),
        ])  # fmt: skip
    invocation.out.grid(columns, rows)


def _print_checks(invocation: Invocation, checks: list[dict[str, Any]]) -> None:
    columns = [
        Column("check of"), Column("expects", wraps=True), Column("severity"), Column("rows", right=True),
        Column("failed", right=True), Column("share", right=True, yields=1), Column("met"),
    ]  # fmt: skip
    rows = []
    for one in checks:
        failed = count(one["failed"])
        share = f"{one['failed'] / one['rows']:.2%}" if one["rows"] else "-"
        met = "-" if one["passed"] is None else "yes" if one["passed"] else "no"
        rows.append([
            one["judged"], one["expected"] or one["name"], one["severity"], count(one["rows"]),
            Styled(failed, "warn") if one["failed"] else failed, share, Styled(met, "warn") if met == "no" else met,
        ])  # fmt: skip
    invocation.out.grid(columns, rows)


def _print_processes(invocation: Invocation, processes: list[dict[str, Any]]) -> None:
    columns = [
        Column("process"), Column("state"), Column("host"), Column("pid", right=True), Column("tasks"),
        Column("messages", right=True), Column("restarts", right=True), Column("recovered", right=True),
        Column("began"),
    ]  # fmt: skip
    rows = []
    for one in processes:
        recovering = one["recovering"]
        share = f"{100 * recovering[0] // max(recovering[1], 1)} %" if recovering else "-"
        rows.append([
            one["process"], Styled(one["state"], _STYLES[one["state"]]), one["host"], str(one["pid"]),
            " ".join(one["tasks"]) or "-", count(one["messages"]), count(one["restarts"]), share,
            moment(datetime.fromisoformat(one["began"])),
        ])  # fmt: skip
    invocation.out.grid(columns, rows)


@stream.command(cls=Command, asks=True)
@click.argument("name", metavar="[STREAM]", required=False)
@pass_invocation
def lag(invocation: Invocation, name: str | None) -> None:
    """Show what waits in each partition, and for how long.

    STREAM may be a pipeline's name, for all of its; without it every stream is shown.
    Topics between a stream's own stages are among them, and rows on their way to a table.
    """
    from tidemill.wiring.services import system_clock

    found = invocation.installation.streams.lag(name)
    if invocation.json:
        invocation.out.object(found)
        return
    now = system_clock().now()
    columns = [
        Column("stream"), Column("topic"), Column("partition", right=True), Column("committed", right=True),
        Column("end", right=True), Column("lag", right=True), Column("waits for", right=True),
    ]  # fmt: skip
    invocation.out.grid(columns, [_lag_row(stream, one, now) for stream, lags in found.items() for one in lags])


def _lag_row(stream: str, one: Facts, now: datetime) -> list[str]:
    since, behind = one["waiting_since"], count(one["lag"])
    return [
        stream, one["topic"], str(one["partition"]), count(one["committed"]), count(one["end"]),
        Styled(behind, "warn") if one["lag"] else behind,
        "-" if since is None else duration(max(0.0, (now - since).total_seconds())),
    ]  # fmt: skip


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 or rate == 0 else f"{rate:.1f}"


for _command in (topics, feed, peek, sources, refeed, dlq, redrive, pause, resume, reset, replay):
    stream.add_command(_command)
