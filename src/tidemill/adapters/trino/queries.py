"""Port `queries` on Trino, by its own client: rows come while the query runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from tidemill.model.errors import DataError, SettingsError, Unreachable
from tidemill.model.types import STRING
from tidemill.plan.asked_sql import presto_type
from tidemill.ports.queries import Answer

#: Rows that are taken at a time.
_AT_A_TIME = 2000


class TrinoQueries:
    """A coordinator.

    Args:
        parts: what the client takes: host, port, user, catalog, schema, http_scheme, verify.
        password: of the user; None: there is none. It is only sent by https.
    """

    dialect = "trino"

    def __init__(self, parts: Mapping[str, Any], password: str | None = None) -> None:
        self._parts = parts
        self._password = password

    @contextmanager
    def ask(self, sql: str, most: int | None) -> Iterator[Answer]:
        """Run one query."""
        try:
            import trino
        except ImportError:
            raise SettingsError("Trino needs its client.", hint='pip install "tidemill[trino]"') from None
        from requests.exceptions import RequestException

        untyped: Any = trino
        auth = untyped.auth.BasicAuthentication(self._parts["user"], self._password) if self._password else None
        try:
            with closing(
                untyped.dbapi.connect(**self._parts, auth=auth, source="tidemill", max_attempts=3)
            ) as connection:
                cursor = connection.cursor()
                try:
                    cursor.execute(sql)
                    columns = tuple((str(one[0]), presto_type(str(one[1]))) for one in cursor.description or ())
                    yield Answer(columns, _rows(cursor, [kind == STRING for _, kind in columns]))
                finally:
                    with suppress(Exception):
                        cursor.cancel()  # what is not taken any more is not computed
        except trino.exceptions.TrinoUserError as error:
            raise DataError(f"Trino refuses it: {error.message.rstrip('.')}.") from None
        except (trino.exceptions.TrinoConnectionError, trino.exceptions.HttpError, RequestException) as error:
            said = _short(error)
            if said.startswith(("error 401", "error 403")):
                raise SettingsError(f"Trino refuses the login: {said}.") from None
            raise Unreachable(f"Trino does not answer: {said}.") from None
        except trino.exceptions.TrinoAuthError as error:
            raise SettingsError(f"Trino refuses the login: {_short(error)}.") from None
        except trino.exceptions.Error as error:
            raise DataError(f"Trino has failed: {_short(error)}.") from None


def _rows(cursor: Any, texts: Sequence[bool]) -> Iterator[list[Any]]:
    while found := cursor.fetchmany(_AT_A_TIME):
        for row in found:
            yield [_text(value) if text else value for value, text in zip(row, texts, strict=True)]


def _text(value: Any) -> str | None:
    """What is text already, or has no type of ours: as JSON where it has parts."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
