"""`tidemill connections`, and its `secrets`: what they are called and where they are from, never what they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.failure import explain, show
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.singer import singer
from tidemill.cli.text import count
from tidemill.model.errors import TidemillError, UserError

if TYPE_CHECKING:
    from tidemill.wiring.connection_care import Listed

_NAME = click.argument("name")


@click.group(cls=Group)
def connections() -> None:
    """Look at connections, add them, and test them.

    A connection is an address with its login, by a name: postgresql://me:secret@host/shop. It is looked up in the
    environment (TIDEMILL_CONN_NAME), in .env, and in the project's store, where it is encrypted; [secrets] in
    tidemill.toml names other places. No command shows a password.
    """


@connections.command("ls", cls=Command)
@pass_invocation
def list_connections(invocation: Invocation) -> None:
    """List connections: kind, host, and where they are from."""
    from tidemill.wiring.connection_care import listed_connections

    found = listed_connections(invocation.known_settings())
    if invocation.json:
        invocation.out.object({"connections": [_object(one, "kind", "host") for one in found]})
        return
    _print(invocation, found, ["connection", "kind", "host", "from"], "tidemill connections add NAME")


@connections.command("add", cls=Command)
@_NAME
@pass_invocation
def add_connection(invocation: Invocation, name: str) -> None:
    """Keep a connection in the store, encrypted.

    The address is asked for without showing it, or read from standard input: echo ... | tidemill connections add NAME.
    The first time makes a key in a file outside the project, unless TIDEMILL_SECRET_KEY is set.
    """
    from tidemill.wiring.connection_care import keep_connection

    settings = invocation.known_settings()
    keep_connection(settings, name, _asked(f"address of {name}"))
    _done(invocation, "added", name, f"tidemill connections test {name}")


@connections.command("test", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@pass_invocation
def try_connections(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Connect, and tell in a line whether it works.

    Without a name all connections are tried, one after the other; the exit code is that of the worst.
    """
    from tidemill.wiring.connection_care import listed_connections, test_connection

    settings, failed = invocation.known_settings(), [0]
    told: list[dict[str, Any]] = []
    for name in dict.fromkeys(names) or [one.name for one in listed_connections(settings)]:
        try:
            said = test_connection(settings, name)
        except TidemillError as error:
            if len(names) == 1:
                raise
            told.append({"connection": name, "works": False, "error": explain(error, invocation).as_json()})
            failed.append(error.exit_code)
            if not invocation.json:
                invocation.out.facts([("failed", name)])
                show(explain(error, invocation))
        else:
            told.append({"connection": name, "works": True, "said": said})
            if not invocation.json:
                invocation.out.facts([("works", name, said)])
    if invocation.json:
        invocation.out.object(told[0] if len(names) == 1 else {"connections": told})
    elif not told:
        _print(invocation, [], ["connection"], "tidemill connections add NAME")
    return max(failed)


@connections.command("rm", cls=Command)
@_NAME
@pass_invocation
def remove_connection(invocation: Invocation, name: str) -> None:
    """Forget a connection of the store."""
    from tidemill.model.secret import connection_name

    _remove(invocation, connection_name(name), name, "connection")


@connections.group(cls=Group)
def secrets() -> None:
    """Keep salts and keys that policies and the archive name.

    Secrets are looked up where connections are: TIDEMILL_SECRET_NAME in the environment or in .env, the store, and
    the other places of [secrets] in tidemill.toml. No command shows one.
    """


@secrets.command("ls", cls=Command)
@pass_invocation
def list_secrets(invocation: Invocation) -> None:
    """List secrets, and where they are from."""
    from tidemill.wiring.connection_care import listed_secrets

    found = listed_secrets(invocation.known_settings())
    if invocation.json:
        invocation.out.object({"secrets": [_object(one) for one in found]})
        return
    _print(invocation, found, ["secret", "from"], "tidemill connections secrets set NAME")


@secrets.command("set", cls=Command)
@_NAME
@pass_invocation
def set_secret(invocation: Invocation, name: str) -> None:
    """Keep a secret in the store: asked for, or standard input."""
    from tidemill.wiring.connection_care import keep_secret

    keep_secret(invocation.known_settings(), name, _asked(name))
    _done(invocation, "kept", name, "tidemill connections secrets ls")


@secrets.command("generate", cls=Command)
@_NAME
@pass_invocation
def generate_secret(invocation: Invocation, name: str) -> None:
    """Make a key in the store; an older one stays, to read.

    What was encrypted by the older key can still be read; what is written from now on is encrypted by the new one.
    """
    from tidemill.adapters.crypto.keys import generated
    from tidemill.wiring.connection_care import keep_secret
    from tidemill.wiring.secrets import stored_secrets

    settings = invocation.known_settings()
    before = stored_secrets(settings).get(name)
    keep_secret(settings, name, " ".join([generated(), *([before.reveal()] if before else [])]))
    _done(invocation, "rotated" if before else "made", name, "tidemill connections secrets ls")


@secrets.command("rm", cls=Command)
@_NAME
@pass_invocation
def remove_secret(invocation: Invocation, name: str) -> None:
    """Forget a secret of the store; what only it opens is lost."""
    _remove(invocation, name, name, "secret")


@secrets.command("key", cls=Command)
@pass_invocation
def make_store_key(invocation: Invocation) -> None:
    """Make the key of the store, in a file that only you read."""
    from tidemill.wiring.connection_care import make_key

    path = make_key(invocation.known_settings())
    _done(invocation, "made", path, "tidemill connections add NAME")


@secrets.command("renew", cls=Command)
@pass_invocation
def renew_secrets(invocation: Invocation) -> None:
    """Encrypt the store by the newest key: older ones may go then."""
    from tidemill.wiring.secrets import stored_secrets

    renewed = stored_secrets(invocation.known_settings()).renew()
    if invocation.json:
        invocation.out.object({"renewed": renewed})
        return
    invocation.out.facts([("renewed", count(renewed, "secrets"))])


def _asked(what: str) -> str:
    """What is typed unseen at a terminal, or all of standard input without its last line end."""
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, err=True))
    given = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not given:
        raise UserError("Nothing was given.", hint="type it when asked, or send it to standard input")
    return given


def _remove(invocation: Invocation, secret: str, name: str, kind: str) -> None:
    from tidemill.model.errors import UnknownName
    from tidemill.wiring.secrets import stored_secrets

    stored = stored_secrets(invocation.known_settings())
    if not stored.remove(secret):
        prefix = secret.removesuffix(name)
        known = [one.removeprefix(prefix) for one in stored.names() if one.startswith(prefix)]
        raise UnknownName.of(f"{kind} in the store", name, known)
    _done(invocation, "removed", name, f"tidemill {kind}s ls")


def _done(invocation: Invocation, verb: str, name: str, command: str) -> None:
    if invocation.json:
        invocation.out.object({verb: name})
        return
    invocation.out.facts([(verb, name)])
    invocation.out.next(command)


def _object(one: Listed, *names: str) -> dict[str, Any]:
    return {"name": one.name, **{name: getattr(one, name) for name in names}, "from": one.origin, "error": one.error}


def _print(invocation: Invocation, found: list[Listed], heading: list[str], command: str) -> None:
    out = invocation.out
    if not found:
        out.line(f"no {heading[0]}s")
    else:
        full = len(heading) > 2
        rows = [[one.name, *([one.kind, one.host] if full else []), one.origin] for one in found]
        out.grid([Column(name, yields=index) for index, name in enumerate(heading)], rows)
        for one in found:
            if one.error:
                out.note(f"{one.name}: {one.error}")
    out.next(command)


connections.add_command(singer)
