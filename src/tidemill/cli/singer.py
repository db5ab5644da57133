"""`tidemill connections singer`: environments of taps, and what taps have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count

if TYPE_CHECKING:
    from tidemill.model.singer import Tap


@click.group(cls=Group)
def singer() -> None:
    """Install Singer taps, and ask them what they have."""


@singer.command(cls=Command)
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE...")
@click.option("--python", help="The version of Python in its environment.", metavar="VERSION")
@pass_invocation
def install(invocation: Invocation, packages: tuple[str, ...], python: str | None) -> None:
    """Make the environment of a tap.

    PACKAGE... is what `sources.singer` is given, together one environment. A run makes it, too, where it is not there.
    """
    from tidemill.wiring.connectors import tap_of

    settings = invocation.known_settings()
    command = tap_of(_tap(packages, None, python, {}), settings).command()
    if invocation.json:
        invocation.out.object({"command": command})
        return
    invocation.out.facts([("installed", packages[0], command[0])])
    invocation.out.next(f"tidemill connections singer discover {packages[0]} --config config.json")


@singer.command(cls=Command)
@click.argument("packages", nargs=-1, required=True, metavar="TAP...")
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Its settings, as JSON; env:NAME stands for a variable.")  # fmt: skip
@click.option("--executable", help="The program, where it is not called as the package.", metavar="NAME")
@click.option("--python", help="The version of Python in its environment.", metavar="VERSION")
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Keep the catalog there, for catalog=.")  # fmt: skip
@pass_invocation
def discover(
    invocation: Invocation,
    packages: tuple[str, ...],
    config: Path | None,
    executable: str | None,
    python: str | None,
    write: Path | None,
) -> None:
    """Ask a tap what it has: streams, keys, fields.

    TAP... is what `sources.singer` is given: packages, or a program of the project.
    """
    import tempfile

    from tidemill.model.errors import UserError
    from tidemill.plan.singer import entries, is_full_table, key_of
    from tidemill.wiring.connectors import tap_of

    settings = invocation.known_settings()
    try:
        given = {} if config is None else json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"The tap's settings are no JSON: {error}.", where=str(config)) from None
    with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
        catalog = tap_of(_tap(packages, executable, python, given), settings).discover(Path(folder))
    if write is not None:
        write.parent.mkdir(parents=True, exist_ok=True)
        write.write_text(json.dumps(catalog, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if invocation.json:
        invocation.out.object(catalog)
        return
    found = entries(catalog, "")
    columns = [Column("stream"), Column("key"), Column("comes"), Column("fields", yields=1, wraps=True)]
    invocation.out.grid(columns, [
        [name, ", ".join(key_of(one)) or "-", "whole" if is_full_table(one) else "as selected",
         ", ".join((one.get("schema") or {}).get("properties") or {})]
        for name, one in found.items()
    ])  # fmt: skip
    if write is not None:
        invocation.out.facts([("written", str(write), count(len(found), "streams"))])
    first = next(iter(found), "stream")
    invocation.out.next(f'sources.singer("{packages[0]}", select=["{first}.*"])')


def _tap(packages: tuple[str, ...], executable: str | None, python: str | None, config: dict[str, Any]) -> Tap:
    from tidemill.authoring.singer import read_program
    from tidemill.model.singer import Tap

    found, program = read_program(packages, executable)
    return Tap(program, found, python, config)
