"""`Connection`, `Variable` and `BaseHook`: the project's connections and variables, as Airflow's files ask for them."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.compat.airflow import reach
from tidemill.compat.airflow.exceptions import AirflowException, AirflowNotFoundException
from tidemill.compat.airflow.finder import not_served
from tidemill.compat.airflow.providers import infos
from tidemill.model import airflow
from tidemill.model.errors import SettingsError
from tidemill.model.masking import GIVEN, secrets_within
from tidemill.ports.tasks import OwnVariables

_NEEDED: Any = object()


class Connection:
    """The address of a service, in Airflow's parts.

    Args:
        conn_id: its name.
        conn_type, description, host, login, password, schema, port: its parts.
        extra: JSON, as text or as it is.
        uri: all of that as an address, instead.
    """

    def __init__(
        self,
        conn_id: str | None = None,
        conn_type: str | None = None,
        description: str | None = None,
        host: str | None = None,
        login: str | None = None,
        password: str | None = None,
        schema: str | None = None,
        port: int | None = None,
        extra: Any = None,
        uri: str | None = None,
    ) -> None:
        parts: Mapping[str, Any] = {
            "conn_type": conn_type, "description": description, "host": host, "login": login, "password": password,
            "schema": schema, "port": port, "extra": extra,
        }  # fmt: skip
        if uri is not None:
            if any(value is not None for value in parts.values()):
                raise AirflowException("A connection is made of its uri or of its parts, not of both.")
            parts = airflow.parts_of(uri, conn_id or "")
        self.conn_id = conn_id
        self.conn_type, self.description = parts["conn_type"], parts["description"]
        self.host, self.login, self.password = parts["host"], parts["login"], parts["password"]
        self.schema, self.port = parts["schema"], parts["port"]
        given = parts["extra"]
        self.extra: str | None = given if isinstance(given, str | None) else json.dumps(given)
        for value in (self.password, *secrets_within(self.extra_dejson)):
            GIVEN.add(value or "")

    @classmethod
    def get(cls, conn_id: str) -> Connection:
        """A connection of the project. Raises AirflowNotFoundException."""
        known = reach.connections()
        try:
            found = None if known is None else known.get(conn_id)
        except SettingsError as error:
            if "cannot name" not in error.what:
                raise
            found = None
        if found is None:
            raise AirflowNotFoundException(
                f"The conn_id `{conn_id}` isn't defined: set TIDEMILL_CONN_{conn_id.upper()}, "
                f"or tidemill connections add {conn_id}"
            )
        parts = found["airflow"] if "airflow" in found else airflow.to_theirs(found)
        return cls(conn_id, **{name: parts[name] for name in airflow.FIELDS})

    @classmethod
    def get_connection_from_secrets(cls, conn_id: str) -> Connection:
        """An older name of `get`."""
        return cls.get(conn_id)

    @classmethod
    def from_json(cls, value: str, conn_id: str | None = None) -> Connection:
        """A connection of its JSON."""
        return cls(conn_id, uri=value)

    @property
    def extra_dejson(self) -> Any:
        """`extra` as values; nothing where it is no JSON."""
        try:
            return json.loads(self.extra) if self.extra else {}
        except ValueError:
            return {}

    def get_extra_dejson(self) -> Any:
        """An older name of `extra_dejson`."""
        return self.extra_dejson

    def get_password(self) -> str | None:
        """An older name of `password`."""
        found: str | None = self.password
        return found

    def get_uri(self) -> str:
        """All of it as an address."""
        return airflow.address_of({**self._parts(), "extra": self.extra_dejson or self.extra})

    def as_json(self) -> str:
        """All of it as JSON."""
        return airflow.text_of({**self._parts(), "extra": self.extra_dejson or self.extra or None})

    def to_dict(self, **_options: Any) -> dict[str, Any]:
        """All of it by name."""
        return {"conn_id": self.conn_id, **self._parts(), "extra": self.extra_dejson}

    def get_hook(self, *, hook_params: Mapping[str, Any] | None = None) -> Any:
        """The hook of its kind, of a package of providers that is installed. Raises AirflowException."""
        for info in infos():
            for one in info.get("connection-types", ()):
                if one["connection-type"] == self.conn_type:
                    module, _, name = one["hook-class-name"].rpartition(".")
                    made = getattr(importlib.import_module(module), name)
                    return made(**{made.conn_name_attr: self.conn_id}, **(hook_params or {}))
        raise AirflowException(f'Unknown hook type "{self.conn_type}"')

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in airflow.FIELDS}

    def __repr__(self) -> str:
        return f"<Connection {self.conn_id}>"


class VariableNotFound(AirflowNotFoundException, KeyError):
    """There is no such variable."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Served(type):
    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(name) if name.startswith("__") else not_served(f"airflow.models.Variable.{name}")


class Variable(metaclass=_Served):
    """The project's variables; within tasks they can be set, too, in the project's store."""

    @classmethod
    def get(
        cls,
        key: str,
        default: Any = _NEEDED,
        deserialize_json: bool = False,
        *,
        default_var: Any = _NEEDED,
    ) -> Any:
        """A variable, as text or as the value of its JSON; else a default.

        Raises:
            VariableNotFound: there is none, and no default; it is a KeyError.
        """
        known = reach.variables()
        found = None if known is None else known.get(key)
        if found is None:
            other = default if default_var is _NEEDED else default_var
            if other is _NEEDED:
                raise VariableNotFound(f"Variable {key} does not exist: set TIDEMILL_VAR_{key.upper()}")
            return other
        if not deserialize_json:
            return found
        made = json.loads(found)
        for text in secrets_within(made):
            GIVEN.add(text)
        return made

    @classmethod
    def set(cls, key: str, value: Any, description: str | None = None, serialize_json: bool = False) -> None:
        """Set a variable, as text or as JSON; `description` is not kept.

        Raises:
            AirflowException: no task is being executed: a file that is loaded changes nothing.
            SettingsError: it is in another place than the store, cannot be kept, or there is no store.
        """
        cls._within_task().set(key, json.dumps(value, indent=2) if serialize_json else str(value))

    @classmethod
    def setdefault(cls, key: str, default: Any, description: str | None = None, deserialize_json: bool = False) -> Any:
        """A variable, or where there is none, a value that it has from now on. Raises as `set` does."""
        found = cls.get(key, None, deserialize_json)
        if found is not None:
            return found
        cls.set(key, default, serialize_json=deserialize_json)
        return default

    @classmethod
    def delete(cls, key: str) -> int:
        """Forget a variable of the store; returns how many there were. Raises as `set` does."""
        return int(cls._within_task().delete(key))

    @classmethod
    def _within_task(cls) -> OwnVariables:
        known = reach.variables_of_task()
        if known is None:
            raise AirflowException("A variable is set within a task only: a file that is loaded changes nothing.")
        return known


class LoggingMixin:
    """What has a log."""

    @property
    def log(self) -> logging.Logger:
        """The log of its class."""
        return logging.getLogger(f"{type(self).__module__}.{type(self).__name__}")

    @property
    def logger(self) -> Callable[[], logging.Logger]:
        """An older name of `log`."""
        return lambda: self.log


class BaseHook(LoggingMixin):
    """Base of hooks: what reaches a service by a connection."""

    conn_name_attr = "conn_id"

    def __init__(self, logger_name: str | None = None) -> None:
        super().__init__()

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """A connection of the project. Raises AirflowNotFoundException."""
        return Connection.get(conn_id)

    @classmethod
    def get_hook(cls, conn_id: str, hook_params: Mapping[str, Any] | None = None) -> Any:
        """The hook of a connection's kind. Raises AirflowNotFoundException, AirflowException."""
        return cls.get_connection(conn_id).get_hook(hook_params=hook_params)

    def get_conn(self) -> Any:
        """What the hook is about; subclasses make it."""
        raise AirflowException(f"{type(self).__name__} has no get_conn()")

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """How Airflow's pages ask for a connection: they are not here."""
        return {}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The same."""
        return {}


class ConnectionsOfTask:
    """`conn.name.host` in templates."""

    def get(self, conn_id: str, default_conn: Any = None) -> Any:
        """A connection, or another value."""
        try:
            return Connection.get(conn_id)
        except AirflowNotFoundException:
            return default_conn

    def __getattr__(self, conn_id: str) -> Connection:
        if conn_id.startswith("_"):
            raise AttributeError(conn_id)
        return Connection.get(conn_id)
