"""Users and tokens as they are looked after, each change with its entry in the audit log, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tidemill.flow.access import Asker, Gate, LoggedIn, digest, new_token
from tidemill.model.access import ApiToken, Entry, Result, Role, Session, Tries, User, user_name
from tidemill.model.errors import Refused, TidemillError, UnknownName, UserError
from tidemill.model.masking import hide
from tidemill.plan.access import password_of, refusal
from tidemill.ports.access import Access

#: Values of these parameters are not written down, whatever they are.
_UNSEEN = ("password", "secret", "token", "api_key", "private_key", "authorization", "cookie")
#: Characters of one value in the log.
_LONGEST = 2000


class People:
    """Looks after users, tokens and sessions. What the asker may not is refused, and noted.

    Args:
        gate: the same records, passwords and time.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._records = gate.records
        self._clock = gate.clock

    # Users ------------------------------------------------------------------------------------------------------------

    def users(self) -> list[User]:
        """All users, by name; of passwords there is no trace."""
        with self._records.read() as tx:
            return [replace(user, password=None if user.password is None else "***") for user in tx.users.all()]

    def add(
        self, by: Asker, name: str, role: Role, password: str | None, pipelines: Mapping[str, Role] | None = None
    ) -> User:
        """Make a user.

        Args:
            by: who asks.
            name: of the user; capitals are made small.
            role: what the user may.
            pipelines: where it is another role.
            password: None: nobody comes in by one; the user has tokens only.

        Raises:
            UserError: the name or the password is none. Refused: there is one of that name, or the asker may not.
        """
        self._see_allowed(by, "users.manage", f"user {name}")
        wanted, now = user_name(name), self._clock.now()
        kept = None if password is None else self._gate.passwords.hash(password_of(password, wanted))
        user = User(wanted, role, dict(pipelines or {}), kept, now, None, None if kept is None else now)
        with self._records.write() as tx:
            tx.users.add(user)
            self._note(tx, by, "users.manage", f"user {wanted}", {"did": "add", **_roles(user)})
        return replace(user, password=None)

    def set_role(
        self, by: Asker, name: str, role: Role | None, pipelines: Mapping[str, Role | None] | None = None
    ) -> User:
        """Change what a user may: from the next request on.

        Args:
            by: who asks.
            name: of the user.
            role: in general; None: as it is.
            pipelines: roles on pipelines; None: the general one again. Others stay as they are.

        Raises:
            UnknownName: there is no such user. Refused: nobody could look after users then, or the asker may not.
        """
        self._see_allowed(by, "users.manage", f"user {name}")
        with self._records.write() as tx:
            user = self._locked(tx, name)
            own = {**user.pipelines, **(pipelines or {})}
            made = replace(
                user,
                role=user.role if role is None else role,
                pipelines={one: given for one, given in own.items() if given is not None},
            )
            self._see_an_admin_is_left(tx, by, made)
            tx.users.update(user.name, role=made.role, pipelines=made.pipelines)
            self._note(
                tx, by, "users.manage", f"user {user.name}", {"did": "role", **_roles(made), "was": _roles(user)}
            )
        return replace(made, password=None)

    def disable(self, by: Asker, name: str, *, undo: bool = False) -> User:
        """Let a user do nothing any more: sessions end, tokens open nothing. `undo` lets the user come back.

        Raises: as `set_role`.
        """
        self._see_allowed(by, "users.manage", f"user {name}")
        now = self._clock.now()
        with self._records.write() as tx:
            user = self._locked(tx, name)
            made = replace(user, disabled_at=None if undo else user.disabled_at or now)
            self._see_an_admin_is_left(tx, by, made)
            tx.users.update(user.name, disabled_at=made.disabled_at)
            ended = 0 if undo else tx.sessions.end_all(user.name)
            did = "enable" if undo else "disable"
            self._note(tx, by, "users.manage", f"user {user.name}", {"did": did, "sessions": ended})
        return replace(made, password=None)

    def set_password(self, by: Asker, name: str, password: str | None) -> int:
        """Set a user's password, or take it away (None); all sessions of the user end. Says how many.

        Raises: as `set_role`; UserError: it cannot be a password.
        """
        self._see_allowed(by, "users.manage", f"user {name}")
        wanted = user_name(name)
        kept = None if password is None else self._gate.passwords.hash(password_of(password, wanted))
        return self._set_password(by, wanted, kept, "users.manage")

    def change_password(
        self, by: Asker, old: str, new: str, agent: str = "", session_id: str | None = None
    ) -> LoggedIn:
        """A user's own new password: all sessions end, and a new one begins.

        Raises:
            LoginRefused: the old one is wrong, or was wrong too often. UserError: the new one cannot be a password.
            Refused: the asker may not.
        """
        self._see_allowed(by, "tokens.own", "password")
        name = by.principal.name
        made = password_of(new, name)
        self._gate.login(name, old, by.address, agent, session_id)
        self._set_password(by, name, self._gate.passwords.hash(made), "password.set")
        return self._gate.login(name, new, by.address, agent)

    def _set_password(self, by: Asker, name: str, kept: str | None, action: str) -> int:
        now = self._clock.now()
        with self._records.write() as tx:
            self._locked(tx, name)
            tx.users.update(name, password=kept, password_at=now)
            ended = tx.sessions.end_all(name)
            # Who has forgotten a password has failed often.
            tx.failures.put(self._gate.key_of_user(name), Tries(0, now))
            did = {"did": "password" if kept is not None else "no password", "sessions": ended}
            self._note(tx, by, action, f"user {name}", did)
        return ended

    # Tokens and sessions ----------------------------------------------------------------------------------------------

    def tokens(self, by: Asker, user: str | None = None) -> list[ApiToken]:
        """Tokens of a user, or of all; also those that are over. Raises Refused: others' are for admins."""
        self._see_allowed(by, self._mine_or(by, user, "tokens.manage"), f"tokens of {user or 'all'}")
        with self._records.read() as tx:
            return tx.tokens.all(None if user is None else user_name(user))

    def add_token(
        self,
        by: Asker,
        user: str,
        title: str,
        role: Role | None = None,
        pipelines: Iterable[str] = (),
        lasts: timedelta | None = timedelta(days=90),
    ) -> tuple[ApiToken, str]:
        """Make a token; its text is given this once.

        Args:
            by: who asks.
            user: whose it is.
            title: what it is for.
            role: the most that it may; None: what the user may now.
            pipelines: on which alone; none: on all.
            lasts: None: until it is revoked.

        Raises:
            UnknownName: there is no such user. UserError: it would last no time. Refused: the asker may not, the user
                is disabled, or could do nothing with it.
        """
        self._see_allowed(by, self._mine_or(by, user, "tokens.manage"), f"token of {user}")
        if lasts is not None and lasts <= timedelta(0):
            raise UserError("The token would be over at once.", hint="--expires 90d")
        now, (token_id, text) = self._clock.now(), new_token()
        ends = None if lasts is None else _later(now, lasts)
        with self._records.write() as tx:
            owner = self._locked(tx, user)
            # Said, and not "whatever the user may": it must not grow when the user is given more.
            most = max((owner.role, *owner.pipelines.values())) if role is None else role
            made = ApiToken(
                token_id, owner.name, hide(title)[:200], digest(text), most, now, tuple(dict.fromkeys(pipelines)), ends
            )
            if owner.disabled_at is not None:
                raise Refused(
                    f'User "{owner.name}" is disabled.', hint=f"tidemill serve users disable {owner.name} --undo"
                )
            within = owner.principal.within(most, made.pipelines, token_id)
            if not within.may_somewhere(Role.VIEWER) or (role is not None and not within.may_somewhere(role)):
                raise Refused(
                    f'User "{owner.name}" is no {most.word} there, and a token can do no more than its user.',
                    hint=f"tidemill serve users role {owner.name} ROLE",
                )
            tx.tokens.add(made)
            detail = {
                "did": "add", "title": made.title, "role": most.word, "pipelines": list(made.pipelines),
                "expires": None if ends is None else ends.isoformat(),
            }  # fmt: skip
            self._note(tx, by, "tokens.manage", f"token {token_id} of {owner.name}", detail)
        return made, text

    def revoke_token(self, by: Asker, token_id: str) -> ApiToken:
        """End a token, at once. Raises UnknownName: there is none. Refused: it is not the asker's."""
        with self._records.read() as tx:
            found = tx.tokens.get(token_id)
            known = [one.id for one in tx.tokens.all() if one.revoked_at is None]
        if found is None:
            # Whose tokens there are is nobody's business but the admins'.
            self._see_allowed(by, "tokens.manage", f"token {token_id[:80]}")
            raise UnknownName.of("token", token_id, known)
        self._see_allowed(by, self._mine_or(by, found.user, "tokens.manage"), f"token {token_id}")
        now = self._clock.now()
        with self._records.write() as tx:
            if tx.tokens.revoke(token_id, now):
                self._note(tx, by, "tokens.manage", f"token {token_id} of {found.user}", {"did": "revoke"})
        return replace(found, revoked_at=found.revoked_at or now)

    def sessions(self, by: Asker, user: str | None = None) -> list[Session]:
        """Sessions of a user, or of all. Raises Refused: others' are for admins."""
        self._see_allowed(by, self._mine_or(by, user, "tokens.manage"), f"sessions of {user or 'all'}")
        with self._records.read() as tx:
            return tx.sessions.all(None if user is None else user_name(user))

    def end_sessions(self, by: Asker, user: str) -> int:
        """End all sessions of a user; says how many. Raises Refused: others' are for admins."""
        self._see_allowed(by, self._mine_or(by, user, "tokens.manage"), f"sessions of {user}")
        name = user_name(user)
        with self._records.write() as tx:
            ended = tx.sessions.end_all(name)
            self._note(tx, by, "sessions.end", f"user {name}", {"sessions": ended})
        return ended

    # ------------------------------------------------------------------------------------------------------------------

    def _see_allowed(self, by: Asker, action: str, target: str) -> None:
        why = refusal(by.principal, action)
        if why is None:
            return
        with self._records.write() as tx:
            self._note(tx, by, action, target, {"why": why}, Result.REFUSED)
        raise Refused(why)

    def _mine_or(self, by: Asker, user: str | None, others: str) -> str:
        """What is asked for: the action on one's own, or on those of others."""
        mine = user is not None and user_name(user) == by.principal.name
        return "tokens.own" if mine and by.principal.token is None else others

    def _locked(self, tx: Access, name: str) -> User:
        users = {user.name: user for user in tx.users.lock()}
        wanted = user_name(name)
        if wanted not in users:
            raise UnknownName.of("user", wanted, users)
        return users[wanted]

    def _see_an_admin_is_left(self, tx: Access, by: Asker, changed: User) -> None:
        """Who comes by login must leave somebody who can look after users; a command on the computer always can."""
        others = [user for user in tx.users.lock() if user.name != changed.name]
        left = [user for user in (*others, changed) if user.role is Role.ADMIN and user.disabled_at is None]
        if not left and by.principal.name != Asker().principal.name:
            raise Refused("Nobody could look after users any more.", hint="make somebody else an admin first")

    def _note(
        self, tx: Access, by: Asker, action: str, target: str, detail: Mapping[str, Any], result: Result = Result.DONE
    ) -> None:
        tx.log.add(entry_of(by, self._clock.now(), action, target, result, detail=detail))


# The audit log --------------------------------------------------------------------------------------------------------


def entry_of(
    by: Asker,
    now: datetime,
    action: str,
    target: str,
    result: Result = Result.DONE,
    *,
    pipeline: str | None = None,
    detail: Mapping[str, Any] | None = None,
    of: int | None = None,
) -> Entry:
    """An entry without secrets: hidden are those that this process was given, and values whose names tell it.

    Whoever changes something in a transaction adds it there: `tx.access.log.add(entry_of(...))`.
    """
    who = by.principal
    return Entry(
        now, who.name, action, hide(target)[:_LONGEST], result, pipeline=pipeline, address=hide(by.address)[:100],
        token=who.token, detail=_clean(dict(detail or {})), of=of,
    )  # fmt: skip


class Audit:
    """Notes what is done beyond one transaction of the metadata database, and shows what was noted.

    Args:
        gate: the same records and time.
    """

    def __init__(self, gate: Gate) -> None:
        self._records = gate.records
        self._clock = gate.clock

    @contextmanager
    def noted(
        self, by: Asker, action: str, target: str, pipeline: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Around an action: that it has begun is on record before it does, and how it went after it.

        Where the process dies within, "begun" is what stays. Gives a dictionary for what else is worth knowing.
        """
        begun = self._add(
            entry_of(by, self._clock.now(), action, target, Result.BEGUN, pipeline=pipeline, detail=detail)
        )
        more: dict[str, Any] = dict(detail or {})
        result = Result.FAILED
        try:
            yield more
            result = Result.DONE
        except BaseException as error:
            more["error"] = error.what if isinstance(error, TidemillError) else type(error).__name__
            result = Result.REFUSED if isinstance(error, Refused) else Result.FAILED
            raise
        finally:
            self._add(entry_of(by, self._clock.now(), action, target, result, pipeline=pipeline, detail=more, of=begun))

    def refused(self, by: Asker, action: str, target: str, pipeline: str | None, why: str) -> None:
        """Note that somebody wanted what they may not."""
        now = self._clock.now()
        self._add(entry_of(by, now, action, target, Result.REFUSED, pipeline=pipeline, detail={"why": why}))

    def page(self, limit: int = 100, before: int | None = None, **wanted: Any) -> tuple[list[Entry], int | None]:
        """Entries, newest first, and the cursor of the next page; None: these are the last.

        `wanted` are the filters of the port: who, action, pipeline, result, since, until.
        """
        with self._records.read() as tx:
            found = list(tx.log.page(before=before, limit=limit + 1, **wanted))
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    def _add(self, entry: Entry) -> int:
        with self._records.write() as tx:
            return tx.log.add(entry)


def _roles(user: User) -> dict[str, Any]:
    return {"role": user.role.word, "pipelines": {name: role.word for name, role in user.pipelines.items()}}


def _clean(value: Any, name: str = "") -> Any:
    """A value as the log may have it."""
    if any(word in name.lower().replace("-", "_") for word in _UNSEEN):
        return "***"
    match value:
        case Mapping():
            return {hide(str(key))[:200]: _clean(one, str(key)) for key, one in list(value.items())[:100]}
        case list() | tuple() | set() | frozenset():
            return [_clean(one) for one in list(value)[:100]]
        case None | bool() | int():
            return value
        case float() if value == value and abs(value) != float("inf"):
            return value
    return hide(str(value))[:_LONGEST]


def _later(now: datetime, lasts: timedelta) -> datetime:
    try:
        return now + lasts
    except OverflowError:
        raise UserError("The token would last longer than there are dates.", hint="--expires never") from None
