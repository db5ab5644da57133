"""Connections and secrets as people look after them: which there are, from where, and whether they work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from tidemill.model.errors import SettingsError, TidemillError, UnknownName, Unreachable
from tidemill.model.pipeline import FILE_SCHEMES
from tidemill.model.secret import CONNECTIONS, connection_name
from tidemill.plan.globs import Glob
from tidemill.wiring.object_settings import KINDS as STORES
from tidemill.wiring.outside import OutsideSystems, file_of
from tidemill.wiring.places import open_place
from tidemill.wiring.secrets import ProjectConnections, connection_of, key_file, secrets_of, store_keys, stored_secrets
from tidemill.wiring.settings import FILE, Settings

#: How long a broker may take to answer a test.
_PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Listed:
    """A connection or secret as lists show it: nothing of it is secret.

    `error` tells why it cannot be read.
    """

    name: str
    kind: str
    host: str
    origin: str
    error: str | None = None


def listed_connections(settings: Settings) -> list[Listed]:
    """All connections, each from the first place that has it; a place that does not answer is told of as one."""
    return [
        Listed(one.name.removeprefix(CONNECTIONS), *_shown(settings, one.name), one.origin, one.error)
        for one in listed_secrets(settings)
        if one.name.startswith(CONNECTIONS)
    ]


def listed_secrets(settings: Settings) -> list[Listed]:
    """All secrets, connections among them."""
    found: dict[str, Listed] = {}
    for place in secrets_of(settings).places:
        try:
            names = place.names()
        except TidemillError as error:
            found.setdefault(f"{CONNECTIONS}?", Listed(f"{CONNECTIONS}?", "", "", place.kind, error.what))
            continue
        for name in names:
            if name not in found:
                try:
                    secret = place.get(name)
                    found[name] = Listed(name, "", "", secret.origin if secret is not None else place.kind)
                except TidemillError as error:
                    found[name] = Listed(name, "", "", place.kind, error.what)
    return [found[name] for name in sorted(found)]


def _shown(settings: Settings, name: str) -> tuple[str, str]:
    """The kind and the host of a connection; nothing of one that cannot be read."""
    bare = name.removeprefix(CONNECTIONS)
    try:
        parts = ProjectConnections(secrets_of(settings)).get(bare)
    except TidemillError:
        return "", ""
    if parts is None:
        return "", ""
    port = f":{parts['port']}" if parts["port"] else ""
    # An address that is none may be anything, a bare token too.
    return (str(parts["conn_type"]), f"{parts['host']}{port}") if parts["conn_type"] else ("?", "")


def keep_connection(settings: Settings, name: str, address: str) -> Listed:
    """Put a connection into the store. Raises SettingsError: it is no address, or there is no key."""
    parts = connection_of(name, address.strip())
    if not parts["conn_type"]:
        raise SettingsError("This is no address.", hint="kind://login:password@host:port/path; encode @ as %40")
    return keep_secret(settings, connection_name(name), address.strip())


def keep_secret(settings: Settings, name: str, value: str) -> Listed:
    """Put a secret into the store; its first key is made where there is none. Raises SettingsError."""
    stored = stored_secrets(settings)
    if stored.kind not in settings.secrets.order:
        raise SettingsError(
            "The store is not among the places of secrets.",
            where=str(settings.root / FILE),
            hint="[secrets] from = [...]",
        )
    if store_keys(settings) is None:
        make_key(settings)
    stored.put(name, value)
    return Listed(name, "", "", "store")


def make_key(settings: Settings) -> str:
    """Make the file of the store's key; returns where. Raises SettingsError: there is one, or it cannot be made."""
    from tidemill.adapters.crypto.keys import generated, write_key_file

    path = key_file(settings)
    if path.resolve().is_relative_to(settings.root.resolve()):
        raise SettingsError("The file of keys would lie in the project.", where=str(path), hint="[secrets] key_file")
    try:
        write_key_file(path, generated())
    except FileExistsError:
        raise SettingsError("There is a file of keys already.", where=str(path)) from None
    except OSError as error:
        hint = "[secrets] key_file, or TIDEMILL_SECRET_KEY"
        raise SettingsError(f"The file of keys cannot be made: {error.strerror}.", where=str(path), hint=hint) from None
    return str(path)


def test_connection(settings: Settings, name: str) -> str:
    """Use a connection; returns what was found there, in a few words.

    Raises:
        UnknownName: there is no such connection. Unreachable, SettingsError: it does not work, and why.
    """
    connections = ProjectConnections(secrets_of(settings))
    found = connections.get(name)
    if found is None:
        known = [one.name for one in listed_connections(settings)]
        raise UnknownName.of("connection", name, known, where=f"connection {name}")
    kind = str(found["conn_type"])
    outside = OutsideSystems(connections, settings.root, settings)
    places = partial(_place, settings, connections, name)
    makers: dict[str, Callable[[], str]] = {
        **{one: partial(_web, outside, name) for one in ("http", "https")},
        **{one: places for one in (*FILE_SCHEMES, *STORES, "file") if one not in ("http", "https")},
        "kafka": partial(_kafka, outside, name),
        **{one: partial(_engine, settings, name) for one in ("athena", "trino")},
    }
    try:
        return makers.get(kind, partial(_database, found, settings))()
    except TidemillError as error:
        error.where = error.where or f"connection {name}"
        raise
    except OSError as error:
        raise Unreachable(f"{error.strerror or type(error).__name__}.", where=f"connection {name}") from None


# Not a test of pytest's, whatever its name.
test_connection.__test__ = False  # type: ignore[attr-defined]


def _web(outside: OutsideSystems, name: str) -> str:
    answer = outside.http(name).request("GET", "", headers={}, query={}, timeout=_PATIENCE.total_seconds())
    if answer.status in (401, 403, 407):
        raise SettingsError(f"The service refuses who asks: {answer.status}.")
    if answer.status >= 500:
        raise Unreachable(f"The service answers {answer.status}.")
    return f"answered {answer.status}"


def _place(settings: Settings, connections: ProjectConnections, name: str) -> str:
    with closing(open_place("", name, settings, connections, f"connection {name}")) as place:
        first = next(iter(place.list(Glob("*"))), None)
    return "listed, no file at its root" if first is None else f"listed, {first.path} and maybe more"


def _kafka(outside: OutsideSystems, name: str) -> str:
    with closing(outside.topics(name, _PATIENCE)) as topics:
        return f"{len(topics.names())} topics"


def _engine(settings: Settings, name: str) -> str:
    from tidemill.wiring.queries import open_queries

    with open_queries(settings, None, name).ask("SELECT 1", 1) as answer:
        next(answer.rows, None)
    return "answered SELECT 1"


def _database(found: Mapping[str, Any], settings: Settings) -> str:
    from tidemill.wiring.databases import database_of

    if found["conn_type"] == "duckdb" and found["schema"] and not file_of(found, settings.root).exists():
        raise SettingsError(f"There is no file {found['schema']} yet.", hint="a delivery to DuckDB makes it")
    database = database_of(found, settings)
    with database.opened():
        row = database.row(("select 1",))
    if row is None:
        raise SettingsError("The database does not answer SELECT 1 by a row.")
    return f"connected to {database.name}"
