"""Policies of columns: what happens to values before a table is written.

drop                the column is not written
mask, mask(4)       `***`; with a number, `***` and that many last characters
hash, hash(NAME)    HMAC-SHA-256 by the salt of secret NAME ("hash-salt"); equal values have equal hashes
encrypt(NAME)       AES-SIV by the key of secret NAME; equal values are encrypted alike, and the key gives them back
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidemill.model.errors import DefinitionError, UnknownName

#: The salt of `hash`, unless another one is named.
SALT = "hash-salt"
_TEXT = re.compile(r"\s*([a-z]+)\s*(?:\(\s*([A-Za-z0-9_-]+)\s*\))?\s*")


class PolicyKind(StrEnum):
    """What happens to the values of a column."""

    #: They are not written.
    DROP = "drop"
    #: The last characters are kept at most.
    MASK = "mask"
    #: Equal values can still be found to be equal.
    HASH = "hash"
    #: Who has the key can have them back.
    ENCRYPT = "encrypt"


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to one column.

    Args:
        kind: see the module's text.
        keep: characters that a mask leaves.
        secret: the name of the salt or key.
    """

    kind: PolicyKind
    keep: int = 0
    secret: str = ""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read `hash`, `mask(4)`, `encrypt(pii-key)`. Raises DefinitionError, UnknownName."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise DefinitionError(f'"{text}" is no policy.', hint='"drop", "mask(4)", "hash" or "encrypt(pii-key)"')
        name, argument = found[1], found[2]
        if name not in list(PolicyKind):
            raise UnknownName.of("policy", name, list(PolicyKind))
        kind = PolicyKind(name)
        if kind is PolicyKind.DROP and argument is None:
            return cls(kind)
        if kind is PolicyKind.MASK and (argument is None or argument.isdigit()):
            return cls(kind, keep=int(argument or 0))
        if kind is PolicyKind.HASH:
            return cls(kind, secret=argument or SALT)
        if kind is PolicyKind.ENCRYPT and argument is not None:
            return cls(kind, secret=argument)
        wanted = {PolicyKind.DROP: "drop", PolicyKind.MASK: "mask(4)"}.get(kind, "encrypt(pii-key)")
        raise DefinitionError(f'"{text}" is no policy.', hint=f'"{wanted}"')

    def __str__(self) -> str:
        argument = self.secret or (str(self.keep) if self.keep else "")
        return f"{self.kind}({argument})" if argument else str(self.kind)


def split_column(column: str) -> tuple[str, str]:
    """The child table and the column that a policy is about: `items.email` is column `email` of the child `items`."""
    child, _, name = column.rpartition(".")
    return child, name


def of_child(policies: Mapping[str, Policy], child: str) -> dict[str, Policy]:
    """The policies of one table of a feed, by its columns; "" is the feed's own table."""
    return {name: p for column, p in policies.items() for own, name in [split_column(column)] if own == child}
