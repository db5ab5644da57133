"""Port `secrets`: values that must not be shown, by their names."""

from __future__ import annotations

from typing import Protocol

from tidemill.model.secret import Secret


class Secrets(Protocol):
    """Where secrets are kept.

    Names are `pii-key`, or `connections/shop_db` for the address of a connection. Promises: a value comes back exactly
    as it was kept (files and services: less one line end at its end); one that is empty is none; an error names the
    secret and the place, and never the value.
    """

    #: What the place is called, in `[secrets] from` and for people.
    kind: str

    def get(self, name: str) -> Secret | None:
        """One secret; None: it is not here.

        Raises:
            SettingsError: it is here and cannot be read: a wrong key, a login that is refused, a file that is not ours.
            Unreachable: a service does not answer.
        """
        ...

    def names(self) -> list[str]:
        """The names of all that are here, sorted. Raises as `get`."""
        ...


class KeptSecrets(Secrets, Protocol):
    """Where secrets can be put, too."""

    def put(self, name: str, value: str) -> None:
        """Keep a secret; one of that name is replaced. Raises SettingsError: there is no key."""
        ...

    def remove(self, name: str) -> bool:
        """Forget a secret; False: there was none."""
        ...

    def renew(self) -> int:
        """Encrypt by the newest key what an older one has encrypted; returns how many."""
        ...
