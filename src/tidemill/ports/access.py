"""Port `access`: a part of the metadata store. Users, tokens, sessions, failed logins, and the audit log.

Nothing here decides, and nothing is secret: of passwords, tokens and sessions only hashes are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.access import ApiToken, Entry, Result, Session, Tries, User


class Users(Protocol):
    """The users of the project, by name."""

    def get(self, name: str) -> User | None:
        """One; None: there is none."""
        ...

    def all(self) -> list[User]:
        """All, by name; disabled ones too."""
        ...

    def lock(self) -> list[User]:
        """All, as they stay before the transaction ends. Only in a write transaction."""
        ...

    def add(self, user: User) -> None:
        """Put one on record. Raises Refused: there is one of that name."""
        ...

    def update(self, name: str, **values: Any) -> None:
        """Set fields: role, pipelines, password, password_at, disabled_at. Raises UnknownName."""
        ...

    def rehash(self, name: str, before: str, after: str) -> bool:
        """Set the hash of the same password; False: the password is another one by now."""
        ...


class Tokens(Protocol):
    """Tokens, by id; also those that are over, as the log names them."""

    def add(self, token: ApiToken) -> None:
        """Put one on record. Raises Refused: the id is taken."""
        ...

    def get(self, token_id: str) -> ApiToken | None:
        """One; None: there is none."""
        ...

    def all(self, user: str | None = None) -> list[ApiToken]:
        """Those of a user, or all: oldest first."""
        ...

    def used(self, token_id: str, now: datetime, before: datetime) -> bool:
        """Note when it was used last, unless that was noted at or after `before`; says whether it has."""
        ...

    def revoke(self, token_id: str, now: datetime) -> bool:
        """End it; False: there is none, or it was ended before, and stays ended since then."""
        ...


class Sessions(Protocol):
    """Sessions, by the digest of their id."""

    def add(self, session: Session) -> None:
        """Put one on record."""
        ...

    def get(self, digest: str) -> Session | None:
        """One; None: there is none, or it was ended."""
        ...

    def all(self, user: str | None = None) -> list[Session]:
        """Those of a user, or all: oldest first."""
        ...

    def seen(self, digest: str, now: datetime, before: datetime) -> bool:
        """Note when it was used last, unless that was noted at or after `before`; says whether it has."""
        ...

    def end(self, digest: str) -> bool:
        """End it; False: there is none."""
        ...

    def end_all(self, user: str, but: str | None = None) -> int:
        """End all of a user, but one; says how many."""
        ...

    def forget(self, seen_before: datetime, made_before: datetime) -> int:
        """End those that were not used since, or are older; says how many."""
        ...


class FailedLogins(Protocol):
    """Failed logins, by keys: digests, as what was typed into the wrong field may be a password."""

    def lock(self, keys: Iterable[str], now: datetime) -> dict[str, Tries]:
        """What is on record of these keys, which nobody else changes before the transaction ends; blank where nothing
        is. Only in a write transaction.
        """
        ...

    def get(self, keys: Iterable[str]) -> dict[str, Tries]:
        """What is on record of these keys."""
        ...

    def put(self, key: str, tries: Tries) -> None:
        """Set what is on record."""
        ...

    def forget(self, last_before: datetime, known_before: datetime) -> int:
        """Forget what had no failure since, and nobody known since; says how many."""
        ...


class AuditLog(Protocol):
    """Who did what: entries are added and read. They go when they are old, and never change."""

    def add(self, entry: Entry) -> int:
        """Append an entry; returns its number, greater than all before."""
        ...

    def page(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        who: str | None = None,
        action: str | None = None,
        pipeline: str | None = None,
        result: Result | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Entry]:
        """Entries with numbers less than `before`, newest first; `since` <= at < `until`. That something has begun is
        left out where its end is on record.
        """
        ...

    def forget(self, before: datetime) -> int:
        """Let old entries go; says how many."""
        ...


class Seen(Protocol):
    """What may come only once: signatures of calls."""

    def first(self, key: str, now: datetime, until: datetime) -> bool:
        """True the first time, until it may be forgotten; by any number of processes at once, one gets it."""
        ...


class Access(Protocol):
    """What is on record about access, in one transaction."""

    users: Users
    tokens: Tokens
    sessions: Sessions
    failures: FailedLogins
    log: AuditLog
    seen: Seen


class AccessRecords(Protocol):
    """Opens transactions, as `Metadata` does, with the same promises and errors."""

    def write(self) -> AbstractContextManager[Access]:
        """Begin a transaction that writes."""
        ...

    def read(self) -> AbstractContextManager[Access]:
        """Begin one that only reads."""
        ...
