"""Store `access`: users, tokens, sessions, failed logins, the audit log. Of passwords and tokens it has hashes only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Table, and_, delete, or_, select, update

from tidemill.adapters.sql.access_log import SqlAuditLog
from tidemill.adapters.sql.access_schema import failures, seen, sessions, tokens, users
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.model.access import ApiToken, Role, Tries, User
from tidemill.model.access import Session as LoggedIn
from tidemill.model.errors import Refused, UnknownName
from tidemill.ports.access import Access


class SqlAccess(Access):
    """The port's `Access` in one transaction."""

    def __init__(self, session: Session) -> None:
        self.users = SqlUsers(session)
        self.tokens = SqlTokens(session)
        self.sessions = SqlSessions(session)
        self.failures = SqlFailedLogins(session)
        self.log = SqlAuditLog(session)
        self.seen = SqlSeen(session)


class _Store:
    """What all of them do: rows of the project alone."""

    table: Table

    def __init__(self, session: Session) -> None:
        self._session = session

    def _mine(self, **equal: Any) -> Any:
        c = self.table.c
        return and_(c.project == self._session.project, *(c[name] == value for name, value in equal.items()))

    def _insert(self, **values: Any) -> bool:
        """Add a row, unless its key is there; says whether it was added."""
        made = self._session.insert(self.table).values(project=self._session.project, **values)
        return self._session.add(made.on_conflict_do_nothing().returning(self.table.c.project)) is not None

    def _set(self, values: Mapping[str, Any], *where: Any) -> int:
        return self._session.change(update(self.table).where(*where).values(**values))


class SqlUsers(_Store):
    """Users."""

    table = users

    def get(self, name: str) -> User | None:
        """One."""
        row = self._session.first(select(users).where(self._mine(name=name)))
        return None if row is None else _user(row)

    def all(self) -> list[User]:
        """All, by name."""
        return sorted(
            (_user(row) for row in self._session.all(select(users).where(self._mine()))), key=lambda u: u.name
        )

    def lock(self) -> list[User]:
        """All, locked, in one order for everybody."""
        rows = (self._session.first(select(users).where(self._mine(name=user.name)), lock=True) for user in self.all())
        return [_user(row) for row in rows if row is not None]

    def add(self, user: User) -> None:
        """Put one on record."""
        values = _columns({name: getattr(user, name) for name in _USER})
        if not self._insert(name=user.name, created_at=user.created_at, **values):
            raise Refused(f'There is a user "{user.name}" already.', hint="tidemill serve users ls")

    def update(self, name: str, **values: Any) -> None:
        """Set fields."""
        assert values.keys() <= set(_USER), values
        if not self._set(_columns(values), self._mine(name=name)):
            raise UnknownName.of("user", name, [user.name for user in self.all()])

    def rehash(self, name: str, before: str, after: str) -> bool:
        """Set the hash of the same password."""
        return self._set({"password": after}, self._mine(name=name, password=before)) == 1


class SqlTokens(_Store):
    """Tokens."""

    table = tokens

    def get(self, token_id: str) -> ApiToken | None:
        """One."""
        row = self._session.first(select(tokens).where(self._mine(id=token_id)))
        return None if row is None else _token(row)

    def all(self, user: str | None = None) -> list[ApiToken]:
        """Oldest first."""
        mine = self._mine() if user is None else self._mine(user_name=user)
        found = (_token(row) for row in self._session.all(select(tokens).where(mine)))
        return sorted(found, key=lambda one: (one.created_at, one.id))

    def add(self, token: ApiToken) -> None:
        """Put one on record."""
        added = self._insert(
            id=token.id, user_name=token.user, title=token.title, digest=token.digest, role=token.role.word,
            pipelines=list(token.pipelines), created_at=token.created_at, expires_at=token.expires_at,
        )  # fmt: skip
        if not added:
            raise Refused(f'There is a token "{token.id}" already.')

    def used(self, token_id: str, now: datetime, before: datetime) -> bool:
        """Note when it was used last, at most so often."""
        c = tokens.c
        return self._set({"used_at": now}, self._mine(id=token_id), or_(c.used_at.is_(None), c.used_at < before)) == 1

    def revoke(self, token_id: str, now: datetime) -> bool:
        """End it."""
        return self._set({"revoked_at": now}, self._mine(id=token_id), tokens.c.revoked_at.is_(None)) == 1


class SqlSessions(_Store):
    """Sessions."""

    table = sessions

    def add(self, session: LoggedIn) -> None:
        """Put one on record."""
        self._insert(
            digest=session.digest, user_name=session.user, created_at=session.created_at, seen_at=session.seen_at,
            address=session.address, agent=session.agent,
        )  # fmt: skip

    def get(self, digest: str) -> LoggedIn | None:
        """One."""
        row = self._session.first(select(sessions).where(self._mine(digest=digest)))
        return None if row is None else _logged_in(row)

    def all(self, user: str | None = None) -> list[LoggedIn]:
        """Oldest first."""
        mine = self._mine() if user is None else self._mine(user_name=user)
        found = (_logged_in(row) for row in self._session.all(select(sessions).where(mine)))
        return sorted(found, key=lambda one: (one.created_at, one.digest))

    def seen(self, digest: str, now: datetime, before: datetime) -> bool:
        """Note when it was used last, at most so often."""
        return self._set({"seen_at": now}, self._mine(digest=digest), sessions.c.seen_at < before) == 1

    def end(self, digest: str) -> bool:
        """End it."""
        return self._session.change(delete(sessions).where(self._mine(digest=digest))) == 1

    def end_all(self, user: str, but: str | None = None) -> int:
        """End all of a user, but one."""
        kept = () if but is None else (sessions.c.digest != but,)
        return self._session.change(delete(sessions).where(self._mine(user_name=user), *kept))

    def forget(self, seen_before: datetime, made_before: datetime) -> int:
        """End those that are over."""
        c = sessions.c
        # Two statements, each by its index.
        gone = self._session.change(delete(sessions).where(self._mine(), c.seen_at < seen_before))
        return gone + self._session.change(delete(sessions).where(self._mine(), c.created_at < made_before))


class SqlFailedLogins(_Store):
    """Failed logins."""

    table = failures

    def lock(self, keys: Iterable[str], now: datetime) -> dict[str, Tries]:
        """What is on record, locked."""
        found = {}
        # In one order for all, or two of them could wait for each other; each has a row before it is locked, or two
        # of them could both find none, and one would be lost.
        for key in sorted(set(keys)):
            self._insert(key=key, tries=0, last_at=now)
            row = self._session.first(select(failures).where(self._mine(key=key)), lock=True)
            assert row is not None
            found[key] = _tries(row)
        return found

    def get(self, keys: Iterable[str]) -> dict[str, Tries]:
        """What is on record."""
        query = select(failures).where(self._mine(), failures.c.key.in_(list(keys)))
        return {row.key: _tries(row) for row in self._session.all(query)}

    def put(self, key: str, tries: Tries) -> None:
        """Set what is on record."""
        values = {"tries": tries.count, "last_at": tries.last, "until": tries.until, "known_at": tries.known}
        if not self._set(values, self._mine(key=key)):
            self._insert(key=key, **values)

    def forget(self, last_before: datetime, known_before: datetime) -> int:
        """Forget what is long ago."""
        c = failures.c
        old = (c.last_at < last_before, or_(c.known_at.is_(None), c.known_at < known_before))
        return self._session.change(delete(failures).where(self._mine(), *old))


class SqlSeen(_Store):
    """What may come only once."""

    table = seen

    def first(self, key: str, now: datetime, until: datetime) -> bool:
        """True the first time."""
        self._session.change(delete(seen).where(self._mine(), seen.c.until <= now))
        return self._insert(key=key, until=until)


_USER = ("role", "pipelines", "password", "disabled_at", "password_at")


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a user as columns: roles by their words, which a reader of the table understands."""
    made = dict(values)
    if "role" in made:
        made["role"] = made["role"].word
    if "pipelines" in made:
        made["pipelines"] = {name: role.word for name, role in made["pipelines"].items()}
    return made


def _user(row: AnyRow) -> User:
    pipelines = {name: Role.of(word) for name, word in row.pipelines.items()}
    return User(
        row.name, Role.of(row.role), pipelines, row.password, row.created_at, row.disabled_at, row.password_at
    )  # fmt: skip


def _token(row: AnyRow) -> ApiToken:
    return ApiToken(
        row.id, row.user_name, row.title, row.digest, Role.of(row.role), row.created_at, tuple(row.pipelines),
        row.expires_at, row.used_at, row.revoked_at,
    )  # fmt: skip


def _logged_in(row: AnyRow) -> LoggedIn:
    return LoggedIn(row.digest, row.user_name, row.created_at, row.seen_at, row.address, row.agent)


def _tries(row: AnyRow) -> Tries:
    return Tries(row.tries, row.last_at, row.until, row.known_at)
