"""Section `[secrets]` of a project's settings: where secrets and connections are looked up, in this order.

[secrets]
from = ["environment", ".env", "store"]      also "files", "aws-secrets-manager", "aws-ssm"; "files" comes after .env
                                             by itself where a folder is named
env_file = ".env"
folder = "/run/secrets"                      of "files": one file for each secret
prefix = "tidemill/"                         of names at AWS
region = "eu-central-1"                      of AWS; else AWS_REGION
endpoint = "https://host:port"               where it is not Amazon's
key_file = "~/.config/tidemill/NAME.key"     the key of the store, unless TIDEMILL_SECRET_KEY is set
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.model.errors import SettingsError, UnknownName

SECRET_KEYS = ("from", "env_file", "folder", "prefix", "region", "endpoint", "key_file")
ENVIRONMENT, ENV_FILE, FILES, STORE = "environment", ".env", "files", "store"
MANAGER, PARAMETERS = "aws-secrets-manager", "aws-ssm"
KINDS = (ENVIRONMENT, ENV_FILE, FILES, MANAGER, PARAMETERS, STORE)


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """Where secrets are; see the module's text."""

    order: tuple[str, ...] = (ENVIRONMENT, ENV_FILE, STORE)
    env_file: str = ".env"
    folder: str = ""
    prefix: str = "tidemill/"
    region: str | None = None
    endpoint: str | None = None
    key_file: str = ""
    #: The metadata database with the store; empty: the project's. A trial has one of its own, without secrets.
    kept_in: str = ""


def read_secret_settings(data: Mapping[str, Any], where: str) -> SecretSettings:
    """The section. Raises SettingsError, UnknownName."""
    given = dict(data.get("secrets", {}))
    folder = given.get("folder", "")
    order = given.pop("from", (ENVIRONMENT, ENV_FILE, *((FILES,) if folder else ()), STORE))
    if isinstance(order, str):
        order = [order]
    for name, value in given.items():
        if not isinstance(value, str):
            raise SettingsError(f"secrets.{name} = {value!r} is no text.", where=where, hint=f'{name} = "..."')
    for kind in order:
        if kind not in KINDS:
            raise UnknownName.of("place of secrets", str(kind), KINDS, where=where)
    if FILES in order and not folder:
        raise SettingsError('"files" needs a folder.', where=where, hint='[secrets] folder = "/run/secrets"')
    return SecretSettings(tuple(order), **given)
