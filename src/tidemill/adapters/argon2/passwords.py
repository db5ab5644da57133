"""Port `passwords` by Argon2id: 64 MB and three rounds for each look, as RFC 9106 has it where memory is scarce.

The package is imported when a password is there: most calls come with a token or a session.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import SettingsError
from tidemill.ports.passwords import Looked

if TYPE_CHECKING:
    from argon2 import PasswordHasher

#: Looks at a time: each holds 64 MB, and whoever sends a thousand logins at once must not take them all.
AT_ONCE = 2


class Argon2Passwords:
    """The port over the package `argon2-cffi`.

    Args:
        options: of its PasswordHasher, such as `time_cost` and `memory_cost` (KB); else those of RFC 9106.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._making = threading.Lock()
        self._hasher: PasswordHasher | None = None
        #: The hash that nobody's password has: what is looked at where there is none.
        self._nobody = ""

    def hash(self, password: str) -> str:
        """The hash of a password."""
        with self._turns:
            return self._made().hash(_bytes(password))

    def look(self, password: str, kept: str | None) -> Looked:
        """Whether it is the password of a hash."""
        from argon2.exceptions import InvalidHashError, VerificationError

        hasher = self._made()
        with self._turns:
            try:
                hasher.verify(self._nobody if kept is None else kept, _bytes(password))
            except (VerificationError, InvalidHashError):
                return Looked(False)
            if kept is None:
                return Looked(False)
            renewed = hasher.hash(_bytes(password)) if hasher.check_needs_rehash(kept) else None
        return Looked(True, renewed)

    def _made(self) -> PasswordHasher:
        with self._making:
            if self._hasher is None:
                try:
                    from argon2 import PasswordHasher
                except ImportError as error:
                    raise SettingsError(
                        "Passwords of users need a package.", hint='pip install "tidemill[web]"'
                    ) from error
                made = PasswordHasher(**self._options)
                self._nobody = made.hash(b"nobody has this password")
                self._hasher = made
            return self._hasher


def _bytes(password: str) -> bytes:
    """A password as bytes; half a character, which no keyboard makes and a request may hold, is no error."""
    return password.encode("utf-8", "surrogatepass")
