"""Access to a project, put together: what the web layer and the commands are given. Plain values go in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tidemill.adapters.argon2.passwords import Argon2Passwords
from tidemill.adapters.webhook.senders import see_signed
from tidemill.adapters.webhook.signature import check
from tidemill.flow.access import Asker, Gate, Limits
from tidemill.flow.throttling import Throttle
from tidemill.flow.users import Audit, People
from tidemill.model.access import LOCAL, Principal
from tidemill.model.errors import SettingsError
from tidemill.plan.access import is_from_here, login_needed
from tidemill.plan.throttle import Rate
from tidemill.wiring.services import system_clock
from tidemill.wiring.settings import FILE, Settings

if TYPE_CHECKING:
    from tidemill.ports.access import Access
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.passwords import Passwords

#: Requests of one user or address to one process: more than pages send, less than a loop that has gone wild.
REQUESTS = Rate(each_second=50, burst=500)


class MetadataAccess:
    """Port `AccessRecords` by the metadata store.

    Args:
        metadata: of the project.
    """

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    @contextmanager
    def write(self) -> Iterator[Access]:
        """Begin a transaction that writes."""
        with self._metadata.write() as tx:
            yield tx.access

    @contextmanager
    def read(self) -> Iterator[Access]:
        """Begin one that only reads."""
        with self._metadata.read() as tx:
            yield tx.access


@dataclass(frozen=True, slots=True)
class ProjectAccess:
    """Everything about access to one project.

    Attributes:
        gate: logins, sessions, tokens.
        people: users, tokens and sessions, as they are looked after.
        audit: the log.
        requests: how many requests somebody may send.
    """

    settings: Settings
    gate: Gate
    people: People
    audit: Audit
    requests: Throttle

    def login_needed(self, host: str) -> bool:
        """Whether whoever comes to a server that listens at `host` must log in. Raises SettingsError, UnknownName."""
        given = self.settings.access
        try:
            return login_needed(given.login, host, is_open=given.open_to_all)
        except SettingsError as error:
            error.where = error.where or str(self.settings.root / FILE)
            raise

    def who(self, host: str, authorization: str | None, session_id: str | None, *, from_here: bool) -> Principal | None:
        """Who asks. A token goes before a session, and one that opens nothing is not made up for by anything else.

        Args:
            host: where the server listens.
            authorization: the header, `Bearer tm_...`.
            session_id: of the cookie.
            from_here: what `is_from_here` says of the request; only then it may do without a login.

        Returns:
            None: nobody who is known.
        """
        if authorization is not None:
            kind, _, text = authorization.strip().partition(" ")
            return self.gate.token(text.strip()) if kind.lower() == "bearer" else None
        found = self.gate.session(session_id)
        if found is None and not self.login_needed(host):
            given = self.settings.access
            return LOCAL if from_here or (given.login == "never" and given.open_to_all) else None
        return found


def open_access(
    settings: Settings, metadata: Metadata, clock: Clock | None = None, passwords: Passwords | None = None
) -> ProjectAccess:
    """Access to a project, by its metadata store."""
    clock = clock or system_clock()
    given = settings.access
    limits = Limits(given.idle, given.session, timedelta(days=given.audit_days))
    gate = Gate(MetadataAccess(metadata), passwords or Argon2Passwords(), clock, limits)
    return ProjectAccess(settings, gate, People(gate), Audit(gate), Throttle(REQUESTS, clock))


def signatures(secret: str, metadata: Metadata, clock: Clock) -> Callable[[str | None, bytes], None]:
    """Sees that calls are signed with a secret: given the header `Tidemill-Signature` and the body; raises Refused.

    What has come once is on record, so that it is refused by every process, and after a restart.
    """
    first = _first(metadata, clock)

    def see(header: str | None, body: bytes) -> None:
        check([secret], header, body, clock.now(), first)

    return see


def sender(
    kind: str, secret: str, metadata: Metadata, clock: Clock
) -> Callable[[Mapping[str, str], bytes], str | None]:
    """Sees that a known sender has signed a call, given its headers and body, and says what names the delivery.

    See adapters/webhook/senders.py; raises Refused.
    """
    first = _first(metadata, clock)

    def see(headers: Mapping[str, str], body: bytes) -> str | None:
        return see_signed(kind, secret, headers, body, clock.now(), first)

    return see


def _first(metadata: Metadata, clock: Clock) -> Callable[[str, datetime], bool]:
    """Whether a signature comes for the first time, to any process."""

    def first(key: str, until: datetime) -> bool:
        with metadata.write() as tx:
            return tx.access.seen.first(f"signature {key}", clock.now(), until)

    return first


__all__ = ["LOCAL", "Asker", "ProjectAccess", "is_from_here", "open_access", "sender", "signatures"]
