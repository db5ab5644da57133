"""Calls that other systems sign in their own ways: by their documents' examples, and by what openssl makes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from starlette.datastructures import Headers

from tidemill.adapters.webhook.senders import SENDERS, see_signed
from tidemill.adapters.webhook.signature import sign
from tidemill.model.errors import Refused, SettingsError, UnknownName, UserError
from tidemill.testing.clock import ManualClock
from tidemill.wiring.hook_settings import FeedSettings, read_hook_settings

NOW = ManualClock().now()
SECONDS = str(int(NOW.timestamp()))
BODY = b'{"id": "evt_1", "object": "event"}'
KEY = base64.b64encode(b"a secret of 24 bytes....").decode()


def seen(kind: str, secret: str, given: dict[str, str], body: bytes = BODY, late: int = 0) -> str | None:
    """What names the delivery."""
    return see_signed(kind, secret, Headers(given), body, NOW + timedelta(seconds=late), lambda _key, _until: True)


def github(body: bytes, secret: str = "a-secret") -> dict[str, str]:
    made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={made}", "X-GitHub-Delivery": "72d3162e"}


def stripe(body: bytes, secret: str = "a-secret") -> dict[str, str]:
    made = hmac.new(secret.encode(), f"{SECONDS}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={SECONDS},v1={made},v0={'0' * 64}"}


def standard(body: bytes, secret: str = f"whsec_{KEY}") -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = base64.b64encode(hmac.digest(key, f"msg_1.{SECONDS}.".encode() + body, "sha256")).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": SECONDS, "webhook-signature": f"v1a,xx v1,{made}"}


def ours(body: bytes, secret: str = "a-secret") -> dict[str, str]:
    return {"Tidemill-Signature": sign(secret, body, NOW), "Idempotency-Key": "mine"}


KINDS: dict[str, tuple[Callable[..., dict[str, str]], str, str]] = {
    "tidemill": (ours, "a-secret", "mine"),
    "github": (github, "a-secret", f"github-{hashlib.sha256(BODY).hexdigest()}"),
    "stripe": (stripe, "a-secret", "evt_1"),
    "standard": (standard, f"whsec_{KEY}", "msg_1"),
}


def test_the_examples_of_their_documents() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    given = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "x"}
    assert seen("github", "It's a Secret to Everybody", given, b"Hello, World!")
    assert set(KINDS) == set(SENDERS)


@pytest.mark.parametrize("kind", SENDERS)
def test_only_what_the_sender_has_signed_is_taken(kind: str) -> None:
    signed, secret, named = KINDS[kind]
    good = signed(BODY)
    assert seen(kind, secret, {name.upper(): value for name, value in good.items()}) == named
    other = f"whsec_{base64.b64encode(b'another').decode()}"
    wrong = [({}, BODY, secret, 0), (good, BODY + b" ", secret, 0), (good, BODY, other, 0)]
    wrong += [({name: value for name, value in good.items() if name != one}, BODY, secret, 0) for one in good
              if one not in ("Idempotency-Key",)]  # fmt: skip
    wrong += [({**good, one: odd}, BODY, secret, 0) for one in good if one != "X-GitHub-Delivery"
              and one != "Idempotency-Key" for odd in ("", "x", "\u00e9", "t=1,v1=", "v1,")]  # fmt: skip
    if kind != "github":  # which signs no time
        wrong += [(good, BODY, secret, 301), (good, BODY, secret, -301)]
    for given, body, by, late in wrong:
        with pytest.raises(Refused):
            seen(kind, by, given, body, late)


def test_what_names_a_delivery_is_of_what_was_signed() -> None:
    assert seen("github", "a-secret", {**github(BODY), "X-GitHub-Delivery": "other"}) == seen(
        "github", "a-secret", github(BODY)
    )
    for body in (b"[1]", b'{"id": 7}', b"{}", b"no JSON"):
        assert seen("stripe", "a-secret", stripe(body), body) is None
    long = json.dumps({"id": "x" * 300}).encode()
    with pytest.raises(Refused, match="has 300 letters"):
        seen("stripe", "a-secret", stripe(long), long)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"shop": {"signed": "stripe", "token": "x" * 9}}, '"shop" is no feed.'),
        ({"shop.a.b": {}}, '"shop.a.b" is no feed.'),
        ({"shop.orders": {"signed": "strip", "token": "x" * 9}}, 'There is no way of signing "strip".'),
        ({"shop.orders": {"signed": "stripe", "token": "short"}}, "needs a secret of at least 8 characters"),
        ({"shop.orders": {"signed": "stripe", "secret": "x"}}, 'There is no setting of a feed "secret".'),
        ("stripe", "is a section for each feed"),
    ],
)
def test_a_sender_that_is_set_wrongly_is_told(feeds: object, said: str) -> None:
    with pytest.raises((SettingsError, UnknownName)) as caught:
        read_hook_settings({"token": "a-long-token", "feeds": feeds}, str, "tidemill.toml")
    assert isinstance(caught.value, UserError)
    assert said in caught.value.what


def test_a_senders_secret_is_not_shown() -> None:
    made = read_hook_settings(
        {"token": "a-long-token", "feeds": {"shop.orders": {"signed": "github", "token": "a-secret"}}}, str, ""
    )
    assert made.feeds == {"shop.orders": FeedSettings("github", "a-secret")}
    assert "a-secret" not in repr(made.feeds)
