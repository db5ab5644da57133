"""How often somebody may: waits after failed logins, and a bucket of requests. Time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tidemill.model.access import Tries

_NONE = timedelta(0)


@dataclass(frozen=True, slots=True)
class LockOut:
    """What follows from failed logins that count together.

    Attributes:
        free: so many cost nothing.
        first: the wait after the next one; each further one doubles it.
        most: no wait is longer.
        memory: after so long without one, they are forgotten.
    """

    free: int
    first: timedelta
    most: timedelta
    memory: timedelta


#: By what is counted. A user at an address has few; an address more, as people share one; a user most, or anybody
#: could keep somebody out by failing in their name. Each wait ends by itself, within a quarter of an hour.
LOCK_OUTS: Mapping[str, LockOut] = {
    "pair": LockOut(5, timedelta(seconds=10), timedelta(minutes=15), timedelta(days=1)),
    "address": LockOut(30, timedelta(seconds=10), timedelta(minutes=15), timedelta(hours=1)),
    "user": LockOut(60, timedelta(seconds=10), timedelta(minutes=15), timedelta(hours=1)),
}
#: A user who has come in from an address is known there so long, and locked out only by their own failures there.
KNOWN = timedelta(days=30)


def wait(tries: Tries | None, limit: LockOut, now: datetime) -> timedelta:
    """How long no login is looked at; zero: now. Never more than the longest wait, whatever another clock has said."""
    if tries is None or tries.until is None or tries.until <= now:
        return _NONE
    return min(tries.until - now, limit.most)


def failed(tries: Tries | None, limit: LockOut, now: datetime) -> Tries:
    """What is on record after one more failure."""
    if tries is None:
        tries = Tries(0, now)
    over = now - max(tries.last, tries.until or tries.last) > limit.memory
    count = 1 if over else tries.count + 1
    beyond = count - limit.free
    if beyond <= 0:
        return replace(tries, count=count, last=now, until=None)
    # Doubling a timedelta some dozen times would leave its range.
    longest = beyond > 20 or limit.first * 2 ** (beyond - 1) > limit.most
    return replace(
        tries, count=count, last=now, until=now + (limit.most if longest else limit.first * 2 ** (beyond - 1))
    )


def excused(found: Tries, counted: Tries, before: Tries) -> Tries:
    """What is on record when a failure turns out to be none: logins are counted before they are looked at.

    Args:
        found: what is on record now.
        counted: what was put on record by counting it.
        before: what was on record before that.
    """
    if found == counted:
        return before
    # Others have failed meanwhile: their wait stays, or whoever can come in could end it for everybody else.
    return replace(found, count=max(0, found.count - 1))


def is_known(tries: Tries | None, now: datetime) -> bool:
    """Whether the user of a pair has come in from its address, not too long ago."""
    return tries is not None and tries.known is not None and now - tries.known <= KNOWN


def counting(found: Mapping[str, Tries], now: datetime) -> tuple[str, ...]:
    """By what a login counts: `pair`, `address` and `user`, or by the pair alone where the user is known."""
    return ("pair",) if is_known(found.get("pair"), now) else tuple(LOCK_OUTS)


def login_wait(found: Mapping[str, Tries], now: datetime) -> timedelta:
    """How long a login is not looked at.

    Args:
        found: what is on record by `pair`, `address`, `user`; those that have nothing are missing.
        now: the time.
    """
    return max(wait(found.get(kind), LOCK_OUTS[kind], now) for kind in counting(found, now))


# Requests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests: `each_second` on average, `burst` at once."""

    each_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left for somebody: so much at a time, in seconds of any clock that never goes back."""

    left: float
    at: float


def take(bucket: Bucket | None, rate: Rate, now: float, cost: float = 1.0) -> tuple[Bucket, float]:
    """Take a request out of a bucket; gives what is left, and the seconds to wait: 0 where it may be done now.

    One that must wait takes nothing, so that asking again and again does not make the wait longer.
    """
    left = rate.burst if bucket is None else min(rate.burst, bucket.left + max(0.0, now - bucket.at) * rate.each_second)
    need = min(cost, rate.burst)
    if left >= need:
        return Bucket(left - need, now), 0.0
    return Bucket(left, now), (need - left) / rate.each_second
