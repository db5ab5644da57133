"""How known senders sign what they POST, and by what they name a delivery that comes again.

ours        Tidemill-Signature: t=SECONDS,v1=HEX          Idempotency-Key
github      X-Hub-Signature-256: sha256=HEX               X-GitHub-Delivery
stripe      Stripe-Signature: t=SECONDS,v1=HEX            `id` of the body, an event
standard    webhook-signature: v1,BASE64                  webhook-id (standardwebhooks.com; time: webhook-timestamp)

HEX of github is HMAC-SHA256(secret, body); of stripe and ours HMAC-SHA256(secret, "SECONDS.body"); BASE64 of standard
that of "ID.SECONDS.body", with the secret's bytes behind `whsec_`. GitHub signs no time: what keeps an overheard call
from counting twice is that its delivery, and a body that has come before, count once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tidemill.adapters.webhook.signature import HEADER, TOLERANCE, check
from tidemill.model.errors import Refused

#: Says whether a signature comes for the first time; see `signature.check`.
First = Callable[[str, datetime], bool]
Headers = Mapping[str, str]
_KEY = "idempotency-key"
#: Letters of what names a delivery, and signatures in a header that are looked at.
_LONGEST, _MOST = 200, 4


def see_signed(kind: str, secret: str, headers: Headers, body: bytes, now: datetime, first: First) -> str | None:
    """See that a call is signed as its sender does; gives what names the delivery, or None.

    Args:
        kind: one of `SENDERS`.
        secret: that both sides have.
        headers: by names in any case.
        body: as it came, byte for byte.
        now: the time.
        first: see `signature.check`.

    Raises:
        Refused: it is not.
    """
    key = _SEE[kind](secret, headers, body, now, first)
    if key is not None and not 0 < len(key) <= _LONGEST:
        raise Refused(f"What names the delivery has {len(key)} letters.", hint=f"1 to {_LONGEST}")
    return key


def _ours(secret: str, headers: Headers, body: bytes, now: datetime, first: First) -> str | None:
    check([secret], headers.get(HEADER), body, now, first)
    return headers.get(_KEY)


def _github(secret: str, headers: Headers, body: bytes, now: datetime, first: First) -> str | None:
    kind, _, given = headers.get("X-Hub-Signature-256", "").partition("=")
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if kind != "sha256" or not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
        raise Refused("The signature is missing or wrong.", hint="X-Hub-Signature-256, by the secret of the settings")
    if "X-GitHub-Delivery" not in headers:
        raise Refused("The call does not say which delivery it is.", hint="X-GitHub-Delivery")
    # By the body, which is signed, and not by the delivery's name, which anybody can write: each names itself.
    return f"github-{hashlib.sha256(body).hexdigest()}"


def _stripe(secret: str, headers: Headers, body: bytes, now: datetime, first: First) -> str | None:
    check([secret], headers.get("Stripe-Signature"), body, now, first)
    try:
        named: Any = json.loads(body)
    except ValueError:
        return None
    found = named.get("id") if isinstance(named, dict) else None
    return found if isinstance(found, str) else None


def _standard(secret: str, headers: Headers, body: bytes, now: datetime, first: First) -> str | None:
    named, seconds = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [one.partition(",") for one in headers.get("webhook-signature", "").split(" ")[:_MOST]]
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise Refused("The secret of the settings is none of this kind.", hint="whsec_ and base64") from None
    made = base64.b64encode(hmac.digest(key, f"{named}.{seconds}.".encode() + body, "sha256"))
    fits = [version == "v1" and hmac.compare_digest(made, one.encode("utf-8", "replace")) for version, _, one in given]
    if not named or not any(fits):
        raise Refused("The signature is missing or wrong.", hint="webhook-id, webhook-timestamp, webhook-signature")
    if not seconds.isdecimal() or len(seconds) > 12 or abs(now.timestamp() - int(seconds)) > TOLERANCE.total_seconds():
        raise Refused("The signature's time is off.", hint=f"{TOLERANCE.total_seconds():.0f} s at most")
    return named


_SEE: Mapping[str, Callable[[str, Headers, bytes, datetime, First], str | None]] = {
    "tidemill": _ours, "github": _github, "stripe": _stripe, "standard": _standard,
}  # fmt: skip
#: Kinds of senders.
SENDERS = tuple(_SEE)
