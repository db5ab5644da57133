"""Section `[hooks]` of a project's settings: where others call, and how they show who they are.

[hooks]
host = "127.0.0.1"
port = 8801
token = "env:HOOK_TOKEN"                what callers show: Authorization: Bearer TOKEN
signed = true                           or sign with, and never show: Tidemill-Signature: t=SECONDS,v1=HEX
[hooks.feeds."payments.events"]         one source's sender, who signs in a way of its own with a secret of its own
signed = "stripe"                       or "github", "standard" (standardwebhooks.com), "tidemill"
token = "env:STRIPE_SECRET"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.adapters.webhook.senders import SENDERS
from tidemill.model.errors import SettingsError, UnknownName

HOOK_KEYS = ("host", "port", "token", "signed", "feeds")
_SHORTEST = 8


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How one feed's sender signs: `signed` is one of `SENDERS`, `token` the secret."""

    signed: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Where others may call; see the module's text. `feeds` is by "pipeline.source"."""

    token: str
    host: str = "127.0.0.1"
    port: int = 8801
    signed: bool = False
    feeds: Mapping[str, FeedSettings] = field(default_factory=dict)


def read_hook_settings(given: Mapping[str, Any], secret: Callable[[str], str], where: str) -> HookSettings:
    """The section; `secret` gives a value that `env:NAME` names. Raises SettingsError, UnknownName."""
    token = secret(str(given.get("token", "")))
    if len(token) < _SHORTEST:
        raise SettingsError("[hooks] needs a token of at least 8 characters.", where=where, hint='"env:HOOK_TOKEN"')
    port = given.get("port", 8801)
    if not isinstance(port, int) or not 0 < port < 65536:
        raise SettingsError(f"hooks.port = {port!r} is no port.", where=where, hint="8801")
    signed = given.get("signed", False)
    if not isinstance(signed, bool):
        raise SettingsError(f"hooks.signed = {signed!r} is neither true nor false.", where=where, hint="signed = true")
    feeds = given.get("feeds", {})
    if not isinstance(feeds, dict):
        raise SettingsError("hooks.feeds is a section for each feed.", where=where, hint='[hooks.feeds."shop.orders"]')
    made = {name: _feed(name, one, secret, where) for name, one in feeds.items()}
    return HookSettings(token, str(given.get("host", "127.0.0.1")), port, signed, made)


def _feed(name: str, given: Any, secret: Callable[[str], str], where: str) -> FeedSettings:
    place = f'{where} [hooks.feeds."{name}"]'
    if name.count(".") != 1 or not isinstance(given, dict):
        hint = '[hooks.feeds."shop.orders"]: the pipeline and its source'
        raise SettingsError(f'"{name}" is no feed.', where=place, hint=hint)
    for key in given:
        if key not in ("signed", "token"):
            raise UnknownName.of("setting of a feed", key, ("signed", "token"), where=place)
    kind = given.get("signed", "")
    if kind not in SENDERS:
        raise UnknownName.of("way of signing", str(kind), SENDERS, where=place)
    token = secret(str(given.get("token", "")))
    if len(token) < _SHORTEST:
        raise SettingsError("A feed's sender needs a secret of at least 8 characters.", where=place, hint='"env:NAME"')
    return FeedSettings(kind, token)
