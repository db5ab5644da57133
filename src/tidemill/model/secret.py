"""Secrets as values: what may name one, what it is called elsewhere, and a value that does not show itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from tidemill.model import airflow
from tidemill.model.errors import SettingsError
from tidemill.model.masking import HIDDEN

#: Prefixes of variables of the environment.
CONNECTION, SECRET, VARIABLE = "TIDEMILL_CONN_", "TIDEMILL_SECRET_", "TIDEMILL_VAR_"
#: Before the name of a secret that is a connection's address.
CONNECTIONS = "connections/"
#: Before the name of a variable: it is looked up where secrets are, and need not be one.
VARIABLES = "variables/"
#: The variable with the key of the store; so no secret may be called "key".
STORE_KEY = "TIDEMILL_SECRET_KEY"
#: A secret is at most so many bytes: more is a file.
LARGEST = 64 << 10

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_IN_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,62}")
_OF_VARIABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,249}")


class Secret:
    """A value that must not be shown; it neither prints nor pickles.

    Args:
        value: it.
        origin: where it was found, for people.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r}, origin={self.origin!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: it would be written down")


def connection_name(name: str) -> str:
    """What the secret of a connection is called: `connections/shop_db`. Raises SettingsError."""
    return canonical(CONNECTIONS + name)


def variable_name(name: str) -> str:
    """What a variable is called among secrets: `variables/region`. Raises SettingsError."""
    return canonical(VARIABLES + name)


def canonical(name: str) -> str:
    """The one name of a secret: case does not matter, nor whether it has dashes or underscores, as variables have none.
    The name of a variable is kept as it is.

    Raises:
        SettingsError: nothing can be called so.
    """
    if name.startswith(VARIABLES):
        if not _OF_VARIABLE.fullmatch(name.removeprefix(VARIABLES)):
            what = f'"{name.removeprefix(VARIABLES)}" cannot name a variable.'
            raise SettingsError(what, hint='letters, digits, "_", "-" and "."')
        return name
    bare = name.removeprefix(CONNECTIONS)
    if not _NAME.fullmatch(bare) or (bare == name and bare.lower() == "key"):
        raise SettingsError(f'"{name}" cannot name a secret.', hint='letters, digits, "_" and "-"; "key" is taken')
    if bare == name:
        return bare.lower().replace("_", "-")
    return CONNECTIONS + bare.lower().replace("-", "_")


def variable_of(name: str) -> str:
    """The variable of the environment that a secret is in: `TIDEMILL_CONN_SHOP_DB`, `TIDEMILL_SECRET_PII_KEY`."""
    if name.startswith(VARIABLES):
        return VARIABLE + name.removeprefix(VARIABLES).upper()
    prefix = CONNECTION if name.startswith(CONNECTIONS) else SECRET
    return prefix + name.removeprefix(CONNECTIONS).upper().replace("-", "_")


def found_among(variables: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """A secret among variables of an environment: which one holds it, and its value; None: none does.

    Connections and variables are also found by Airflow's names, after our own: `AIRFLOW_CONN_SHOP_DB`; the value of
    such a connection is its JSON.

    Raises:
        SettingsError: Airflow's variable holds no connection.
    """
    variable = variable_of(name)
    if value := variables.get(variable):
        return variable, value
    for ours, theirs in ((CONNECTION, airflow.CONNECTION), (VARIABLE, airflow.VARIABLE)):
        other = theirs + variable.removeprefix(ours)
        if variable.startswith(ours) and (value := variables.get(other)):
            if theirs == airflow.CONNECTION:
                value = airflow.text_of(airflow.parts_of(value, other))
            return other, value
    return None


def name_of(variable: str) -> str | None:
    """The secret that a variable holds; None: it holds none."""
    for prefix, folder in ((CONNECTION, CONNECTIONS), (airflow.CONNECTION, CONNECTIONS), (SECRET, "")):
        rest = variable.removeprefix(prefix)
        if rest != variable and variable != STORE_KEY and _IN_VARIABLE.fullmatch(rest):
            return canonical(folder + rest)
    return None
