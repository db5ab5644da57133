"""Calls that are signed: whoever sends one proves that they know a secret, without showing it.

The header is `Tidemill-Signature: t=<seconds since 1970>,v1=<hex>`, and what it holds is

    HMAC-SHA256(secret, "<seconds>" + "." + body)

A call that was overheard is of no use later: its time is too far off, or it has come before. A secret that is being
changed may have two values; a header may have a `v1` for each.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from tidemill.model.errors import Refused

HEADER = "Tidemill-Signature"
#: How far the clocks of the two sides may be apart, with the way between them.
TOLERANCE = timedelta(minutes=5)
_TIME = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"[0-9a-f]{64}")
#: Bytes of a header, and signatures in one, that are looked at.
_LONGEST, _MOST = 1000, 4


def sign(secret: str, body: bytes, now: datetime) -> str:
    """The header's value for a body that is sent now."""
    seconds = str(int(now.timestamp()))
    return f"t={seconds},v1={_mac(secret, seconds, body)}"


def check(
    secrets: Sequence[str],
    header: str | None,
    body: bytes,
    now: datetime,
    first: Callable[[str, datetime], bool],
    tolerance: timedelta = TOLERANCE,
) -> None:
    """See that a call is signed, by one who knows a secret, just now, and not for the second time.

    Args:
        secrets: those that count; an empty one never does.
        header: its value; None: there is none.
        body: as it came, byte for byte.
        now: the time.
        first: given a digest of the signature and until when it must be remembered: whether it comes for the first
            time. It is asked last, so that nobody fills the memory without the secret.
        tolerance: how far the time of signing may be off, either way.

    Raises:
        Refused: it is not; the message helps who has the secret, and nobody else.
    """
    seconds, given = _parts(header)
    right = ""
    for secret in filter(None, secrets):
        expected = _mac(secret, seconds, body)
        for one in given:
            # All of them are compared, however early one is right.
            if hmac.compare_digest(expected, one):
                right = one
    if not right:
        raise Refused("The signature is wrong.", hint='HMAC-SHA256 of "<t>.<body>", in hex, with the token as the key')
    # A time that no calendar has is as far off as any other.
    off = abs(now.timestamp() - int(seconds))
    if off > tolerance.total_seconds():
        raise Refused(f"The signature's time is off by {off:.0f} s.", hint=f"{tolerance.total_seconds():.0f} s at most")
    # It must be remembered for as long as its time would be taken.
    until = now + 2 * tolerance
    if not first(hashlib.sha256(right.encode()).hexdigest(), until):
        raise Refused("This signed call has come before.", hint="sign it anew; an Idempotency-Key makes it count once")


def _mac(secret: str, seconds: str, body: bytes) -> str:
    return hmac.new(secret.encode("utf-8", "surrogatepass"), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()


def _parts(header: str | None) -> tuple[str, list[str]]:
    if not header:
        raise Refused("The call is not signed.", hint=f"{HEADER}: t=<seconds>,v1=<hex>")
    seconds = ""
    given: list[str] = []
    for part in header[:_LONGEST].split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and not seconds and _TIME.fullmatch(value):
            seconds = value
        elif name == "v1" and len(given) < _MOST and _HEX.fullmatch(value):
            given.append(value)
    if not seconds or not given:
        raise Refused("The signature cannot be read.", hint=f"{HEADER}: t=<seconds>,v1=<hex>")
    return seconds, given
