"""Hides secret values in text that people will read: logs, errors, pages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

#: What stands in a secret's place.
HIDDEN = "***"
#: Shorter values are words and numbers that occur everywhere.
SHORTEST = 4
#: From this length on, a value is found within a longer text that was encoded (`user:password` of a web address), and
#: each line of a value (a key file) by itself.
_LONG = 8
#: A name with one of these in it is that of a secret.
_SECRET = (
    "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY", "FERNET_KEY",
    "AUTHORIZATION", "KEYFILE_DICT", "SERVICE_ACCOUNT",
)  # fmt: skip


class Masker:
    """Values to hide; they may become more while it is in use.

    A value is found as it is, and as it is written in web addresses, JSON, Python's `repr` and base64.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for value in values:
            self.add(value)

    def add(self, value: str) -> None:
        """Hide `value` from now on; one of less than four characters is left."""
        forms: set[str] = set()
        for part in (value, value.strip(), *(line.strip() for line in value.splitlines() if len(line) >= _LONG)):
            if len(part) >= SHORTEST:
                forms |= _forms(part)
        if forms <= self._forms:
            return
        self._forms |= forms
        count = 0
        while count != len(self._forms):  # another thread may add one meanwhile
            longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
            count = len(longest_first)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def forget(self) -> None:
        """Hide nothing any more."""
        self._forms, self._pattern = set(), None

    def mask(self, text: str) -> str:
        """`text` without the values."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)


#: Every secret that this process was given: whatever it writes down for people goes through this.
GIVEN = Masker()


def hide(text: str) -> str:
    """`text` without the secrets that this process was given."""
    return GIVEN.mask(text)


def is_secret(name: str) -> bool:
    """Whether a name tells that its value is a secret."""
    wide = name.upper().replace("-", "_")
    return any(word in wide for word in _SECRET)


def secrets_within(value: Any) -> list[str]:
    """Texts in a value of JSON whose names tell that they are secret, however deep."""
    found: list[str] = []
    if isinstance(value, dict):
        for name, one in value.items():
            own = isinstance(one, str) and is_secret(str(name))
            found += [one] if own else secrets_within(one)
    elif isinstance(value, list):
        found = [text for one in value for text in secrets_within(one)]
    return found


def _forms(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }
    for encoded in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encoded(raw).decode("ascii").rstrip("="))
        if len(raw) >= _LONG:
            forms |= {_within(encoded(b"\0" * shift + raw).decode("ascii"), shift, len(raw)) for shift in (1, 2)}
            forms.add(_within(encoded(raw).decode("ascii"), 0, len(raw)))
    return {form for form in forms if len(form) >= SHORTEST}


def _within(encoded: str, shift: int, size: int) -> str:
    """The characters of base64 text that only the value decides, wherever it stands in what was encoded."""
    first = (shift * 8 + 5) // 6
    return encoded[first : (shift + size) * 8 // 6]
