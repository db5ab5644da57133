"""A connection to Redshift by its driver, and the driver's errors in our words."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from tidemill.model.errors import Conflict, DataError, SettingsError, TidemillError, Unreachable
from tidemill.ports.destination import NoRoom

#: Seconds that a cluster has to take a connection. Statements may take hours, so their answers are waited for.
_TIMEOUT = 20
#: SQLSTATEs of logins that are refused, of an end of the server, of what lost against another transaction, and of a
#: full disk.
_LOGIN = ("28000", "28P01", "3D000")
_GONE = ("08", "57P")
_LOST = ("40001", "40P01")
_FULL = "53100"


class Cluster:
    """An open connection. Statements commit by themselves until `begin`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str) -> int:
        """Run a statement; gives the number of rows that it changed, -1 where it tells none."""
        with self._cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.rowcount)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._cursor() as cursor:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def described(self, query: str, most: int | None) -> tuple[list[tuple[str, int, int]], list[tuple[Any, ...]]]:
        """The columns of a query (name, OID, modifier of the type) and its rows, `most` of them at most."""
        with self._cursor() as cursor:
            cursor.execute(query)
            found = cursor.fetchall() if most is None else cursor.fetchmany(most)
            names = [
                (label.decode() if isinstance(label := one["label"], bytes) else str(label), one)
                for one in cursor.ps["row_desc"]
            ]
            columns = [(name, int(one["type_oid"]), int(one["type_modifier"])) for name, one in names]
            return columns, [tuple(row) for row in found]

    def _cursor(self) -> Any:
        made = self._connection.cursor()
        # Values are literals. In the driver's own style it would take a % outside of quotes for the place of one.
        made.paramstyle = "qmark"
        return made

    def begin(self) -> None:
        """Begin a transaction."""
        self.run("BEGIN")

    def commit(self) -> None:
        """Commit it."""
        self.run("COMMIT")

    def roll_back(self) -> None:
        """Undo what was begun; where the connection has ended, the cluster does it."""
        with suppress(Exception):
            self.run("ROLLBACK")


@contextmanager
def opened(parts: Mapping[str, Any]) -> Iterator[Cluster]:
    """Connect, and be connected.

    Args:
        parts: what the driver takes: host, port, user, password, database, iam, cluster_identifier ...

    Raises:
        SettingsError: no driver, or the login is refused; the bucket or the role is.
        Unreachable: the cluster, or the bucket, does not answer. NoRoom: the cluster's disk is full.
        Conflict: another transaction was first.
        DataError: the cluster refuses what it is asked.
    """
    try:
        import redshift_connector
        import redshift_connector.error
    except ImportError:
        raise SettingsError("Redshift needs a driver.", hint='pip install "tidemill[redshift]"') from None
    connection: Any = None
    try:
        connection = redshift_connector.connect(**{"timeout": _TIMEOUT, "application_name": "tidemill", **parts})
        connection.autocommit = True
        # It counted for connecting; a COPY may take longer.
        connection._usock.settimeout(None)
        yield Cluster(connection)
    except TidemillError:
        raise
    except (redshift_connector.error.Error, OSError, struct.error) as error:
        raise translated(error) from None
    finally:
        if connection is not None:
            with suppress(Exception):
                connection.close()


def translated(error: Exception) -> TidemillError:
    """The driver's error as ours."""
    told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    # Of a connection that is refused the driver gives words of its own, and then the system's.
    cause = error.args[-1] if error.args and isinstance(error.args[-1], BaseException) else error
    code, said = str(told.get("C", "")), str(told.get("M") or cause)
    said = " ".join(said.split()).rstrip(".")
    if not told or code.startswith(_GONE):
        return Unreachable(f"Redshift does not answer: {said or type(error).__name__}.")
    if code.startswith(_LOGIN):
        return SettingsError(f"Redshift refuses the login: {said}.")
    if code in _LOST or said.startswith("1023") or "could not serialize" in said:
        return Conflict(f"Another transaction was first: {said}.")
    if code == _FULL or said.lower().startswith("disk full"):
        return NoRoom("The disk of Redshift", said)
    if "not authorized to assume" in said or "Status 403" in said or "default IAM role" in said:
        return SettingsError(
            f"Redshift may not read the bucket: {said}.", hint="?iam_role=arn:aws:iam::...:role/... in the connection"
        )
    if "S3ServiceException" in said or "Status 5" in said:
        return Unreachable(f"Redshift's way to the bucket is barred: {said}.")
    return DataError(f"Redshift refuses it: {said}.")
