"""What a driver's error means to the caller: retry, wait for a service, or change a setting."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tidemill.model.errors import Conflict, DefinitionError, Refused, SettingsError, TidemillError, Unreachable

MIGRATE = "tidemill doctor --migrate"

#: SQLSTATE prefix -> kind of failure. The longest prefix wins.
_STATES = {
    "40001": "conflict",  # serialization failure
    "40P01": "conflict",  # deadlock
    "55P03": "conflict",  # lock timeout
    "23505": "conflict",  # unique violation: two writers made the same record
    "23503": "dangling",
    "08": "unreachable",
    "53": "unreachable",  # out of memory, disk or connections
    "25P03": "unreachable",  # idle in a transaction for longer than the server allows
    "57P": "unreachable",  # shutdown, crash, starting up
    "57014": "conflict",  # cancelled by statement_timeout
    "25006": "settings",  # read-only server (a standby)
    "28": "settings",  # wrong password
    "3D000": "settings",  # no such database
    "42501": "settings",  # no permission
    "42P07": "foreign",  # a table of that name exists
}
#: Connection failures carry no SQLSTATE; these texts are of the user's settings, any other is of the server.
_WRONG_LOGIN = re.compile(
    r"password authentication failed|role .* does not exist|database .* does not exist|no password"
)

_ERRORS = {
    sqlite3.SQLITE_BUSY: "conflict",
    sqlite3.SQLITE_LOCKED: "conflict",
    sqlite3.SQLITE_CANTOPEN: "settings",
    sqlite3.SQLITE_READONLY: "settings",
    sqlite3.SQLITE_PERM: "settings",
    sqlite3.SQLITE_AUTH: "settings",
    sqlite3.SQLITE_NOTADB: "settings",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_FULL: "unreachable",
    sqlite3.SQLITE_IOERR: "unreachable",
    sqlite3.SQLITE_NOMEM: "unreachable",
}


@contextmanager
def told_apart(where: str, password: str | None = None) -> Iterator[None]:
    """Turn a driver's errors into ours; one that nobody foresaw stays as it is.

    Args:
        where: the database, for the message.
        password: struck out of what the driver says (a URL that was split wrongly can carry it into the host name).
    """
    try:
        yield
    except PoolTimeout as error:
        raise Conflict(f"All connections to {where} are in use in this process.", hint="try again") from error
    except DBAPIError as error:
        ours = _translate(error, where, password)
        if ours is None:
            raise
        raise ours from error
    except StatementError as error:
        if not isinstance(error.orig, TypeError | ValueError):
            raise
        raise DefinitionError(
            f"A value cannot be kept as JSON: {error.orig}.",
            hint="bookmarks and payloads are made of text, numbers, true/false, null, lists and dicts",
        ) from error


def _translate(error: DBAPIError, where: str, password: str | None) -> TidemillError | None:
    said = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if password:
        said = said.replace(password, "***")
    kind = _sqlite_kind(error.orig) if isinstance(error.orig, sqlite3.Error) else _postgresql_kind(error)
    match kind:
        case "conflict":
            return Conflict(f"Another writer was in the way: {said}.", where=where, hint="try again")
        case "unreachable":
            return Unreachable(f"The metadata database does not answer: {said}.", where=where, hint="try again later")
        case "settings":
            return SettingsError(
                f"The metadata database cannot be used: {said}.", where=where, hint="check its URL and permissions"
            )
        case "damaged":
            return SettingsError(f"The metadata database is damaged: {said}.", where=where, hint="restore its backup")
        case "foreign":
            return SettingsError(
                f"The database holds tables of another application: {said}.",
                where=where,
                hint="give Tidemill a database, or a schema, of its own",
            )
        case "dangling":
            return Refused(f"A record refers to one that does not exist: {said}.", where=where)
    return None


def _sqlite_kind(error: sqlite3.Error) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE or code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
        return "conflict"
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return "dangling"
    if code == sqlite3.SQLITE_ERROR and re.search(r"table \S+ already exists", str(error)):
        return "foreign"
    return _ERRORS.get(code & 0xFF)  # the low byte is the kind, the rest says more exactly where


def _postgresql_kind(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        if _WRONG_LOGIN.search(str(error.orig)):
            return "settings"
        broken = error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")
        return "unreachable" if broken else None
    fitting = [prefix for prefix in _STATES if state.startswith(prefix)]
    return _STATES[max(fitting, key=len)] if fitting else None
