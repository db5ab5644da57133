"""Secrets as values: what may name one, what it is called elsewhere, and a value that does not show itself."""

from __future__ import annotations

import re
from typing import NoReturn

from tidemill.model.errors import SettingsError
from tidemill.model.masking import HIDDEN

#: Prefixes of variables of the environment.
CONNECTION, SECRET = "TIDEMILL_CONN_", "TIDEMILL_SECRET_"
#: Before the name of a secret that is a connection's address.
CONNECTIONS = "connections/"
#: The variable with the key of the store; so no secret may be called "key".
STORE_KEY = "TIDEMILL_SECRET_KEY"
#: A secret is at most so many bytes: more is a file.
LARGEST = 64 << 10

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_IN_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,62}")


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


def canonical(name: str) -> str:
    """The one name of a secret: case does not matter, nor whether it has dashes or underscores, as variables have none.

    Raises:
        SettingsError: nothing can be called so.
    """
    bare = name.removeprefix(CONNECTIONS)
    if not _NAME.fullmatch(bare) or (bare == name and bare.lower() == "key"):
        raise SettingsError(f'"{name}" cannot name a secret.', hint='letters, digits, "_" and "-"; "key" is taken')
    if bare == name:
        return bare.lower().replace("_", "-")
    return CONNECTIONS + bare.lower().replace("-", "_")


def variable_of(name: str) -> str:
    """The variable of the environment that a secret is in: `TIDEMILL_CONN_SHOP_DB`, `TIDEMILL_SECRET_PII_KEY`."""
    prefix = CONNECTION if name.startswith(CONNECTIONS) else SECRET
    return prefix + name.removeprefix(CONNECTIONS).upper().replace("-", "_")


def name_of(variable: str) -> str | None:
    """The secret that a variable holds; None: it holds none."""
    for prefix, folder in ((CONNECTION, CONNECTIONS), (SECRET, "")):
        rest = variable.removeprefix(prefix)
        if rest != variable and variable != STORE_KEY and _IN_VARIABLE.fullmatch(rest):
            return canonical(folder + rest)
    return None
