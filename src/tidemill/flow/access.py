"""Who asks: logins, sessions and tokens, told by what a browser or a program has shown.

What is shown is random and hashed on record, so that whoever reads the database cannot come in by it. Secrets are
compared in constant time. Each login, and each refusal, is in the audit log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tidemill.model.access import LOCAL, Entry, Principal, Result, Session, Tries, User, user_name
from tidemill.model.errors import TidemillError, UserError
from tidemill.model.masking import hide
from tidemill.plan.access import LARGEST, normal
from tidemill.plan.throttle import KNOWN, LOCK_OUTS, counting, excused, failed, login_wait
from tidemill.ports.access import Access, AccessRecords
from tidemill.ports.clock import Clock
from tidemill.ports.passwords import Passwords

#: Before the text of a token, so that people and scanners know one where it lies about.
PREFIX = "tm_"
#: Lengths of a token's public id and of its secret, in characters of base32: 40 and 256 bits.
_ID, _SECRET = 8, 52
#: "Last used" is written at most so often.
_OFTEN = timedelta(minutes=1)
#: Failed logins are forgotten after this, where nobody is known by them.
_MEMORY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and from where; `address` is empty for commands on the computer itself."""

    principal: Principal = LOCAL
    address: str = ""


class LoginRefused(TidemillError):
    """Somebody has not come in; it does not tell whether there is such a user.

    Attributes:
        wait: how long no login is looked at; zero: the next one may come at once.
    """

    def __init__(self, wait: timedelta) -> None:
        seconds = round(wait.total_seconds() + 0.499)
        what = f"Too many failed logins: wait {seconds} s." if seconds else "The user or the password is wrong."
        super().__init__(what)
        self.wait = timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things last.

    Attributes:
        idle: a session that is not used.
        session: a session, however it is used.
        audit: entries of the audit log.
    """

    idle: timedelta = timedelta(hours=12)
    session: timedelta = timedelta(days=14)
    audit: timedelta = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Somebody who has come in.

    Attributes:
        session_id: what the browser keeps in a cookie that scripts cannot read; it is on record nowhere.
        principal: who it is.
        csrf: what forms and scripts of pages send along.
    """

    session_id: str = field(repr=False)
    principal: Principal
    csrf: str = field(repr=False)


class Gate:
    """Lets people and programs in.

    Args:
        records: where users, sessions and tokens are.
        passwords: looks at passwords.
        clock: the time.
        limits: how long things last.
    """

    def __init__(
        self, records: AccessRecords, passwords: Passwords, clock: Clock, limits: Limits | None = None
    ) -> None:
        self.records = records
        self.passwords = passwords
        self.clock = clock
        self.limits = limits or Limits()

    # People -----------------------------------------------------------------------------------------------------------

    def login(self, name: str, password: str, address: str, agent: str = "", before: str | None = None) -> LoggedIn:
        """Let somebody in by a password, with a session of a new id.

        The login is counted as failed before the password is looked at: neither many at once nor a process that dies
        get one for nothing.

        Args:
            name: as typed.
            password: as typed.
            address: from where, as far as it can be trusted.
            agent: the browser, as it calls itself.
            before: the id of a session that the browser had; it ends.

        Raises:
            LoginRefused: there is no such user, the password is another, or there were too many failures.
        """
        keys = _keys(name, address)
        now = self.clock.now()
        with self.records.write() as tx:
            found = tx.failures.lock(keys.values(), now)
            known = {kind: found[key] for kind, key in keys.items()}
            wait = login_wait(known, now)
            if wait:
                raise LoginRefused(wait)
            counted = {kind: failed(known[kind], LOCK_OUTS[kind], now) for kind in counting(known, now)}
            for kind, tries in counted.items():
                tx.failures.put(keys[kind], tries)
            user = _named(tx, name)
        kept = user.password if user is not None and user.disabled_at is None else None
        # No password is longer; and normalising megabytes is work, too.
        typed = normal(password) if len(password) <= LARGEST else ""
        looked = self.passwords.look(typed, kept)
        with self.records.write() as tx:
            now = self.clock.now()
            # Looked up again: the user may have been disabled, or the password changed, meanwhile.
            user = _named(tx, name)
            if not looked.is_right or user is None or user.disabled_at is not None or user.password != kept:
                refused = LoginRefused(timedelta(0))
                locked = {kind: str(one.until) for kind, one in counted.items() if one.until is not None}
                # What was typed as a name may be a password: only names of users are written down.
                detail = {"locked_until": locked} if locked else {}
                self._note(tx, user.name if user else "", "login", "", Result.REFUSED, address, detail)
            else:
                refused = None
                self._forgive(tx, keys, counted, known)
                if looked.renewed is not None and kept is not None:
                    tx.users.rehash(user.name, kept, looked.renewed)
                session_id = secrets.token_urlsafe(32)
                if before is not None:
                    tx.sessions.end(digest(before))
                tx.sessions.add(
                    Session(digest(session_id), user.name, now, now, hide(address)[:100], hide(agent)[:200])
                )
                self._note(tx, user.name, "login", "", Result.DONE, address, {})
                self._forget(tx)
        if refused is not None or user is None:
            raise refused or LoginRefused(timedelta(0))
        return LoggedIn(session_id, user.principal, csrf_of(session_id))

    def session(self, session_id: str | None) -> Principal | None:
        """Who has a session; None: nobody, it is over or was ended, or the user may do nothing any more."""
        if not session_id:
            return None
        mine, now = digest(session_id), self.clock.now()
        with self.records.read() as tx:
            found = tx.sessions.get(mine)
            user = tx.users.get(found.user) if found is not None else None
        if found is None or user is None or user.disabled_at is not None:
            return None
        if now - found.seen_at > self.limits.idle or now - found.created_at > self.limits.session:
            return None
        if now - found.seen_at >= _OFTEN:
            with self.records.write() as tx:
                tx.sessions.seen(mine, now, now - _OFTEN)
        return user.principal

    def logout(self, session_id: str, address: str, *, everywhere: bool = False) -> int:
        """End a session, or with `everywhere` all of its user; says how many."""
        with self.records.write() as tx:
            found = tx.sessions.get(digest(session_id))
            if found is None:
                return 0
            ended = tx.sessions.end_all(found.user) if everywhere else int(tx.sessions.end(found.digest))
            self._note(tx, found.user, "logout", "", Result.DONE, address, {"sessions": ended})
        return ended

    def key_of_user(self, name: str) -> str:
        """Under which failed logins of a user are counted, wherever they come from."""
        return _keys(name, "")["user"]

    # Programs ---------------------------------------------------------------------------------------------------------

    def token(self, text: str) -> Principal | None:
        """Who shows a token; None: it is none of ours, over or revoked, or its user may do nothing any more."""
        token_id = id_of(text)
        if token_id is None:
            return None
        now = self.clock.now()
        with self.records.read() as tx:
            found = tx.tokens.get(token_id)
            user = tx.users.get(found.user) if found is not None else None
        # A token that is not there is compared, too: with what nothing has for its digest.
        same = hmac.compare_digest(digest(text), found.digest if found is not None else "-" * 64)
        if not same or found is None or user is None or user.disabled_at is not None or not found.is_live(now):
            return None
        if found.used_at is None or now - found.used_at >= _OFTEN:
            with self.records.write() as tx:
                tx.tokens.used(token_id, now, now - _OFTEN)
        return user.principal.within(found.role, found.pipelines, found.id)

    def tidy(self) -> None:
        """Let go of what is over: sessions, failed logins, old entries of the log. Each login does it, too."""
        with self.records.write() as tx:
            self._forget(tx)

    # ------------------------------------------------------------------------------------------------------------------

    def _forget(self, tx: Access) -> None:
        now = self.clock.now()
        tx.sessions.forget(now - self.limits.idle, now - self.limits.session)
        tx.failures.forget(now - _MEMORY, now - KNOWN)
        tx.log.forget(now - self.limits.audit)

    def _forgive(self, tx: Access, keys: dict[str, str], counted: dict[str, Tries], before: dict[str, Tries]) -> None:
        """The login was right: nothing has failed, and the user is known from here."""
        now = self.clock.now()
        found = tx.failures.lock(keys.values(), now)
        tx.failures.put(keys["pair"], Tries(0, now, None, now))
        for kind in counted.keys() - {"pair"}:
            tx.failures.put(keys[kind], excused(found[keys[kind]], counted[kind], before[kind]))

    def _note(
        self, tx: Access, who: str, action: str, target: str, result: Result, address: str, detail: Mapping[str, object]
    ) -> None:
        tx.log.add(Entry(self.clock.now(), who, action, target, result, address=hide(address)[:100], detail=detail))


def digest(text: str) -> str:
    """What is on record of a random text: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_of(session_id: str) -> str:
    """What a page of this session sends along with whatever changes something.

    It is made of the session's id, which scripts cannot read and other sites do not know, so that nothing needs to be
    kept, and it ends with the session. For the login itself, which has no session, any random cookie will do.
    """
    return hmac.new(session_id.encode("utf-8", "surrogatepass"), b"tidemill csrf", hashlib.sha256).hexdigest()


def is_csrf(session_id: str, given: str | None) -> bool:
    """Whether that is what a page of this session sends; compared in constant time."""
    return given is not None and hmac.compare_digest(
        csrf_of(session_id).encode(), given.encode("utf-8", "surrogatepass")
    )


def new_token() -> tuple[str, str]:
    """A token's id, and its whole text, which is shown once."""
    token_id, secret = _base32(5), _base32(32)
    return token_id, f"{PREFIX}{token_id}_{secret}"


def id_of(text: str) -> str | None:
    """The public id in a token's text; None: it is no token."""
    rest = text.removeprefix(PREFIX)
    if rest == text or len(rest) != _ID + 1 + _SECRET or rest[_ID] != "_" or not text.isascii():
        return None
    return rest[:_ID]


def _base32(count: int) -> str:
    return base64.b32encode(secrets.token_bytes(count)).decode("ascii").rstrip("=").lower()


def _named(tx: Access, name: str) -> User | None:
    try:
        return tx.users.get(user_name(name))
    except UserError:
        return None


def _keys(name: str, address: str) -> dict[str, str]:
    """By what failed logins count, as digests."""
    place, who = _place(address), name.strip().lower()
    return {
        "pair": digest(f"pair\n{who}\n{place}"),
        "address": digest(f"address\n{place}"),
        "user": digest(f"user\n{who}"),
    }


def _place(address: str) -> str:
    """Where a login is from: of IPv6 the network, as anybody has 2^64 addresses in one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
