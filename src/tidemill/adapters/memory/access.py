"""Port `access` in memory, for tests: a transaction is a copy that takes the place of what was there."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from tidemill.model.access import ApiToken, Entry, Result, Session, Tries, User
from tidemill.model.errors import Refused, UnknownName
from tidemill.ports.access import Access


class MemoryUsers:
    """Users in a dictionary."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def get(self, name: str) -> User | None:
        """One."""
        return self._users.get(name)

    def all(self) -> list[User]:
        """All, by name."""
        return [self._users[name] for name in sorted(self._users)]

    def lock(self) -> list[User]:
        """All; there is one writer at a time."""
        return self.all()

    def add(self, user: User) -> None:
        """Put one on record."""
        if user.name in self._users:
            raise Refused(f'There is a user "{user.name}" already.', hint="tidemill serve users ls")
        self._users[user.name] = user

    def update(self, name: str, **values: Any) -> None:
        """Set fields."""
        if name not in self._users:
            raise UnknownName.of("user", name, self._users)
        self._users[name] = replace(self._users[name], **values)

    def rehash(self, name: str, before: str, after: str) -> bool:
        """Set the hash of the same password."""
        found = self._users.get(name)
        if found is None or found.password != before:
            return False
        self._users[name] = replace(found, password=after)
        return True


class MemoryTokens:
    """Tokens in a dictionary."""

    def __init__(self) -> None:
        self._tokens: dict[str, ApiToken] = {}

    def get(self, token_id: str) -> ApiToken | None:
        """One."""
        return self._tokens.get(token_id)

    def all(self, user: str | None = None) -> list[ApiToken]:
        """Oldest first."""
        found = (one for one in self._tokens.values() if user is None or one.user == user)
        return sorted(found, key=lambda one: (one.created_at, one.id))

    def add(self, token: ApiToken) -> None:
        """Put one on record."""
        if token.id in self._tokens:
            raise Refused(f'There is a token "{token.id}" already.')
        self._tokens[token.id] = token

    def used(self, token_id: str, now: datetime, before: datetime) -> bool:
        """Note when it was used last, at most so often."""
        found = self._tokens.get(token_id)
        if found is None or (found.used_at is not None and found.used_at >= before):
            return False
        self._tokens[token_id] = replace(found, used_at=now)
        return True

    def revoke(self, token_id: str, now: datetime) -> bool:
        """End it."""
        found = self._tokens.get(token_id)
        if found is None or found.revoked_at is not None:
            return False
        self._tokens[token_id] = replace(found, revoked_at=now)
        return True


class MemorySessions:
    """Sessions in a dictionary."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def add(self, session: Session) -> None:
        """Put one on record."""
        self._sessions[session.digest] = session

    def get(self, digest: str) -> Session | None:
        """One."""
        return self._sessions.get(digest)

    def all(self, user: str | None = None) -> list[Session]:
        """Oldest first."""
        found = (one for one in self._sessions.values() if user is None or one.user == user)
        return sorted(found, key=lambda one: (one.created_at, one.digest))

    def seen(self, digest: str, now: datetime, before: datetime) -> bool:
        """Note when it was used last, at most so often."""
        found = self._sessions.get(digest)
        if found is None or found.seen_at >= before:
            return False
        self._sessions[digest] = replace(found, seen_at=now)
        return True

    def end(self, digest: str) -> bool:
        """End it."""
        return self._sessions.pop(digest, None) is not None

    def end_all(self, user: str, but: str | None = None) -> int:
        """End all of a user, but one."""
        return self._drop(one.digest for one in self._sessions.values() if one.user == user and one.digest != but)

    def forget(self, seen_before: datetime, made_before: datetime) -> int:
        """End those that are over."""
        found = self._sessions.values()
        return self._drop(s.digest for s in found if s.seen_at < seen_before or s.created_at < made_before)

    def _drop(self, digests: Iterable[str]) -> int:
        gone = list(digests)
        for digest in gone:
            del self._sessions[digest]
        return len(gone)


class MemoryFailedLogins:
    """Failed logins in a dictionary."""

    def __init__(self) -> None:
        self._tries: dict[str, Tries] = {}

    def lock(self, keys: Iterable[str], now: datetime) -> dict[str, Tries]:
        """What is on record; there is one writer at a time."""
        return {key: self._tries.setdefault(key, Tries(0, now)) for key in keys}

    def get(self, keys: Iterable[str]) -> dict[str, Tries]:
        """What is on record."""
        return {key: self._tries[key] for key in keys if key in self._tries}

    def put(self, key: str, tries: Tries) -> None:
        """Set what is on record."""
        self._tries[key] = tries

    def forget(self, last_before: datetime, known_before: datetime) -> int:
        """Forget what is long ago."""
        gone = [
            key
            for key, one in self._tries.items()
            if one.last < last_before and (one.known is None or one.known < known_before)
        ]
        for key in gone:
            del self._tries[key]
        return len(gone)


class MemoryAuditLog:
    """The log in a list."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._last = 0

    def add(self, entry: Entry) -> int:
        """Append an entry."""
        self._last += 1
        self._entries.append(replace(entry, id=self._last))
        return self._last

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
    ) -> list[Entry]:
        """Entries, newest first."""
        ended = {one.of for one in self._entries}
        equal: Mapping[str, object] = {"who": who, "action": action, "pipeline": pipeline, "result": result}
        found = [
            one
            for one in reversed(self._entries)
            if all(value is None or getattr(one, name) == value for name, value in equal.items())
            and (before is None or (one.id or 0) < before)
            and (since is None or one.at >= since)
            and (until is None or one.at < until)
            and not (one.result is Result.BEGUN and one.id in ended)
        ]
        return found[:limit]

    def forget(self, before: datetime) -> int:
        """Let old entries go."""
        kept = [one for one in self._entries if one.at >= before]
        gone = len(self._entries) - len(kept)
        self._entries = kept
        return gone


class MemorySeen:
    """What may come only once, in a dictionary."""

    def __init__(self) -> None:
        self._until: dict[str, datetime] = {}

    def first(self, key: str, now: datetime, until: datetime) -> bool:
        """True the first time."""
        self._until = {one: at for one, at in self._until.items() if at > now}
        if key in self._until:
            return False
        self._until[key] = until
        return True


class _Stores(Access):
    """The port's `Access`."""

    def __init__(self) -> None:
        self.users = MemoryUsers()
        self.tokens = MemoryTokens()
        self.sessions = MemorySessions()
        self.failures = MemoryFailedLogins()
        self.log = MemoryAuditLog()
        self.seen = MemorySeen()


class MemoryAccess:
    """The port's `AccessRecords`: one writer at a time; an exception leaves all as it was."""

    def __init__(self) -> None:
        self._stores = _Stores()
        self._writing = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[_Stores]:
        """Begin a transaction that writes."""
        with self._writing:
            mine = copy.deepcopy(self._stores)
            yield mine
            self._stores = mine

    @contextmanager
    def read(self) -> Iterator[_Stores]:
        """Begin one that only reads: what is there now, whatever is written meanwhile."""
        yield self._stores
