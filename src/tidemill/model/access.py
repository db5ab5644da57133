"""Who may do what: roles, per pipeline where that is wanted; users, tokens and sessions as they are on record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from tidemill.model.errors import UnknownName, UserError

#: The name of whoever asks where no login is asked for; no user can be called so.
LOCAL_NAME = "local"
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")


class Role(IntEnum):
    """What somebody may do; each may do what the ones before it may."""

    #: Nothing at all.
    NONE = 0
    #: See everything but secrets.
    VIEWER = 1
    #: Start, end, clear, mark, pause, backfill, merge, revert, redrive.
    OPERATOR = 2
    #: Users, tokens, connections, settings.
    ADMIN = 3

    @property
    def word(self) -> str:
        """As people write it: `operator`."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """The role of that word. Raises UnknownName."""
        try:
            return cls[word.upper()]
        except KeyError:
            raise UnknownName.of("role", word, [role.word for role in cls]) from None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a person, or a program with a token.

    Attributes:
        name: of the user; `local` where no login is asked for.
        role: for everything that `pipelines` does not name.
        pipelines: name of a pipeline -> the role there, instead of `role`.
        token: the id of the token that came with the request; None: a session, or no login.
    """

    name: str
    role: Role
    pipelines: Mapping[str, Role] = field(default_factory=dict)
    token: str | None = None

    def may(self, role: Role, pipeline: str | None = None) -> bool:
        """Whether it may do what asks for `role`, on a pipeline; None: on what is no pipeline's."""
        return self.on(pipeline) >= role

    def on(self, pipeline: str | None) -> Role:
        """Its role on a pipeline; None: on what is no pipeline's."""
        return self.role if pipeline is None else self.pipelines.get(pipeline, self.role)

    def may_everywhere(self, role: Role) -> bool:
        """Whether it may do so on every pipeline that there is or will be, and on what is no pipeline's."""
        return min((self.role, *self.pipelines.values())) >= role

    def may_somewhere(self, role: Role) -> bool:
        """Whether there is anything on which it may do so."""
        return max((self.role, *self.pipelines.values())) >= role

    def within(self, role: Role, pipelines: Iterable[str], token: str) -> Principal:
        """The same, as far as a token goes: at most `role`, and on no other than `pipelines` if any are named."""
        named = tuple(pipelines)
        if named:
            return Principal(self.name, Role.NONE, {one: min(self.on(one), role) for one in named}, token)
        limited = {one: min(own, role) for one, own in self.pipelines.items()}
        return Principal(self.name, min(self.role, role), limited, token)


#: Who asks over loopback, where no login is needed.
LOCAL = Principal(LOCAL_NAME, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class User:
    """A user on record.

    Attributes:
        name: as `user_name` makes it.
        role, pipelines: as those of a Principal.
        password: its hash; None: nobody comes in by a password (a program's user).
        disabled_at: since when the user may do nothing.
        password_at: when the password was set last.
    """

    name: str
    role: Role
    pipelines: Mapping[str, Role] = field(default_factory=dict)
    password: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    disabled_at: datetime | None = None
    password_at: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Who asks, when it is this user."""
        return Principal(self.name, self.role, dict(self.pipelines))


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token on record: its hash, and what it is for.

    Attributes:
        id: the public part of the token's text, by which it is known.
        user: whose it is; it can do no more than its user.
        title: what it is for, for people.
        digest: SHA-256 of the whole text, in hex.
        role: the most that it may do.
        pipelines: on which alone; empty: on all.
        used_at: when it was used last, exact to a minute.
    """

    id: str
    user: str
    title: str
    digest: str = field(repr=False)
    role: Role
    created_at: datetime
    pipelines: tuple[str, ...] = ()
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Session:
    """A session on record: somebody who has logged in with a browser.

    Attributes:
        digest: SHA-256 of its id, in hex; the id itself is the browser's only.
        seen_at: when it was used last, exact to a minute.
        address, agent: from where it was begun, for people.
    """

    digest: str = field(repr=False)
    user: str
    created_at: datetime
    seen_at: datetime
    address: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Tries:
    """Failed logins that count together: of an address, of a user, or of a user at an address.

    Attributes:
        count: how many, since the last that was forgotten.
        last: the newest.
        until: before then no other is looked at.
        known: since when somebody has come in by this key; None: never.
    """

    count: int
    last: datetime
    until: datetime | None = None
    known: datetime | None = None


class Result(StrEnum):
    """How an action went."""

    #: It is being done; where it stays so, whoever did it died, and it may or may not have happened.
    BEGUN = "begun"
    #: Done.
    DONE = "done"
    #: Who asked may not, or a promise would have been broken.
    REFUSED = "refused"
    #: It did not work.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log. Nothing in it is secret.

    Attributes:
        at: when.
        who: name of the user; `local`; empty where nobody had come in.
        action: what, as in the table of actions.
        target: on what: `run 12`, `user ada`.
        result: how it went.
        id: its number, which grows; None: not on record yet.
        pipeline: whose, if it is a pipeline's.
        address: from where; empty: from a command on the computer itself.
        token: the id of the token that was shown.
        detail: what else there is to know: parameters, errors.
        of: the number of the entry that told of its beginning.
    """

    at: datetime
    who: str
    action: str
    target: str
    result: Result = Result.DONE
    id: int | None = None
    pipeline: str | None = None
    address: str = ""
    token: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    of: int | None = None


def user_name(given: str) -> str:
    """The one way in which a user's name is written: without spaces around it, in small letters.

    Raises:
        UserError: no user can be called so.
    """
    name = given.strip().lower()
    if not _NAME.fullmatch(name) or name == LOCAL_NAME:
        raise UserError(f'"{given}" cannot name a user.', hint='letters, digits, ".", "_", "@", "+", "-"; not "local"')
    return name
