"""Secrets are hidden however they are written."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.masking import HIDDEN, Masker

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=30).filter(
    lambda text: len(text.strip()) >= 8 and "***" not in text
)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "written",
    [
        str,
        quote_plus,
        lambda value: quote(value, safe=""),
        json.dumps,
        repr,
        b64,
        lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
        lambda value: b64(f"user:{value}"),
        lambda value: b64(f"me:{value}"),
        lambda value: b64(f"u:{value}@example.org"),
    ],
)
@pytest.mark.parametrize("secret", ["pä55 wörd/+&\"'\\", "hunter2hunter2"])
def test_a_secret_is_hidden_however_it_is_written(secret, written):
    text = f"before {written(secret)} after"
    masked = Masker([secret]).mask(text)
    assert HIDDEN in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert secret not in masked
    assert b64(secret)[2:-4] not in masked


@given(SECRETS, st.text(max_size=20), st.text(max_size=20))
def test_no_secret_is_left_in_a_text(secret, before, after):
    masked = Masker([secret]).mask(before + secret + after)
    assert secret not in masked


def test_each_line_of_a_key_is_hidden():
    """Logs are written line by line."""
    masker = Masker(["-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nabcdefghijkl\n-----END KEY-----"])
    assert masker.mask("MIIEowIBAAKCAQEA") == HIDDEN
    assert masker.mask("x abcdefghijkl y") == f"x {HIDDEN} y"


def test_the_longer_of_two_secrets_is_hidden_whole():
    assert Masker(["secret", "secret-and-more"]).mask("secret-and-more, secret") == f"{HIDDEN}, {HIDDEN}"


def test_short_values_are_left():
    assert Masker(["abc", ""]).mask("abc") == "abc"


def test_values_may_be_added_later():
    masker = Masker()
    assert masker.mask("hunter2") == "hunter2"
    masker.add("hunter2")
    assert masker.mask("hunter2") == HIDDEN
