"""Who COPY and UNLOAD are in S3: a role, or keys. Page "Authorization parameters"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidemill.testing.redshift.faults import wrong
from tidemill.testing.redshift.tokens import Parser

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


@dataclass(frozen=True, slots=True)
class Authorization:
    """Roles, of which each may assume the next (`default`: the cluster's), or a key with its secret."""

    roles: tuple[str, ...] = ()
    key: str = ""
    secret: str = ""


def take_authorization(parser: Parser, word: str) -> Authorization:
    """What follows the word. Raises Fault."""
    if word == "iam_role":
        if parser.took("default"):
            return Authorization(("default",))
        return _roles(parser.text())
    if word == "credentials":
        parser.took("as")
        return _credentials(parser.text())
    key = parser.text()
    parser.need("secret_access_key")
    secret = parser.text()
    if parser.took("session_token"):
        parser.text()
    return Authorization((), key, secret)


def _roles(text: str) -> Authorization:
    roles = tuple(one.strip() for one in text.split(","))
    for role in roles:
        if not _ROLE.fullmatch(role):
            raise wrong(f'Invalid IAM_ROLE "{role}": it must be an Amazon Resource Name of a role')
    return Authorization(roles)


def _credentials(text: str) -> Authorization:
    given = dict(part.partition("=")[::2] for part in text.split(";") if part)
    if set(given) == {"aws_iam_role"}:
        return _roles(given["aws_iam_role"])
    if {"aws_access_key_id", "aws_secret_access_key"} <= set(given) <= {
        "aws_access_key_id", "aws_secret_access_key", "token",
    }:  # fmt: skip
        return Authorization((), given["aws_access_key_id"], given["aws_secret_access_key"])
    raise wrong("Invalid credentials. Must be of the format: credentials 'aws_iam_role=...' or keys")
