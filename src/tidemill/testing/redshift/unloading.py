"""The UNLOAD statement as a value: its grammar, and which options go together. Page "UNLOAD"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tidemill.testing.redshift.authorization import Authorization, take_authorization
from tidemill.testing.redshift.faults import unknown, wrong
from tidemill.testing.redshift.tokens import Parser

_ELSEWHERE = frozenset(("encrypted", "kms_key_id", "master_symmetric_key", "fixedwidth", "partition"))
_COMPRESSIONS = ("gzip", "zstd", "bzip2")
_FLAGS = ("header", "addquotes", "escape", "allowoverwrite", "cleanpath", *_COMPRESSIONS)
_NOT_FOR = {
    "parquet": {"delimiter", "addquotes", "escape", "null", "header", *_COMPRESSIONS},
    "json": {"delimiter", "header", "addquotes", "escape", "null"},
    "csv": {"addquotes", "escape"},
    "text": set(),
}
#: Bytes: the least and the most that MAXFILESIZE may be.
_LEAST, _MOST = 5 << 20, 6.2 * (1 << 30)


@dataclass(frozen=True, slots=True)
class Unload:
    """An UNLOAD.

    Args:
        query: a SELECT.
        url: `s3://bucket/prefix`, with which names begin.
        who: in S3.
        format: `text` (delimited), `csv`, `json`, `parquet`.
        options: by their names in lower case.
    """

    query: str
    url: str
    who: Authorization
    format: str = "text"
    options: dict[str, Any] = field(default_factory=dict)

    def has(self, option: str) -> bool:
        """Whether an option was given."""
        return option in self.options


def parse_unload(sql: str) -> Unload:
    """Read an UNLOAD. Raises Fault."""
    parser = Parser(sql)
    parser.need("unload")
    parser.need_sign("(")
    query = parser.text()
    parser.need_sign(")")
    parser.need("to")
    url = parser.text()
    if not url.startswith("s3://"):
        raise wrong("UNLOAD destination is not supported. (Hint: only S3 based unload is allowed)")
    who: Authorization | None = None
    form: str | None = None
    options: dict[str, Any] = {}
    while not parser.ended:
        token = parser.next()
        word = token.value if token.kind == "word" else ""
        if word in ("iam_role", "credentials", "access_key_id"):
            if who is not None:
                raise wrong("conflicting or redundant options: credentials")
            who = take_authorization(parser, word)
        elif word in ("format", "csv", "parquet", "json"):
            if word == "format":
                parser.took("as")
                word = parser.name()
            if word not in ("csv", "parquet", "json"):
                raise wrong(f'UNLOAD format "{word}" not recognized')
            if form is not None:
                raise wrong("conflicting or redundant options: format")
            form = word
        elif word in _ELSEWHERE:
            raise unknown(f"UNLOAD ... {word.upper()}")
        else:
            value = _argument(parser, word, token.value)
            if word in options:
                raise wrong(f"conflicting or redundant options: {word}")
            options[word] = value
    if who is None:
        raise wrong("UNLOAD needs authorization: IAM_ROLE, CREDENTIALS, or ACCESS_KEY_ID and SECRET_ACCESS_KEY")
    if extra := set(options) & _NOT_FOR[form or "text"]:
        raise wrong(f"{min(extra).upper()} is not supported for UNLOAD to {(form or 'text').upper()}")
    if len(set(options) & set(_COMPRESSIONS)) > 1:
        raise wrong("conflicting or redundant options: compression")
    if {"allowoverwrite", "cleanpath"} <= set(options):
        raise wrong("CLEANPATH and ALLOWOVERWRITE cannot be used together")
    return Unload(query, url, who, form or "text", options)


def _argument(parser: Parser, word: str, shown: str) -> Any:
    if word in _FLAGS:
        return True
    if word == "manifest":
        return "verbose" if parser.took("verbose") else "plain"
    if word == "parallel":
        return not (parser.took("off") or parser.took("false")) and (parser.took("on") or parser.took("true") or True)
    if word in ("delimiter", "null", "region", "extension"):
        parser.took("as")
        text = parser.text()
        if word == "delimiter" and (len(text) != 1 or not text.isascii()):
            raise wrong(f'"{text}" is not a single ASCII character')
        return text
    if word in ("maxfilesize", "rowgroupsize"):
        parser.took("as")
        size = _size(parser)
        if word == "maxfilesize" and not _LEAST <= size <= _MOST:
            raise wrong("MAXFILESIZE must be between 5 MB and 6.2 GB")
        return size
    raise wrong(f'syntax error at or near "{shown}"')


def _size(parser: Parser) -> float:
    token = parser.next()
    if token.kind != "number":
        raise wrong(f'syntax error at or near "{token.value}"')
    unit = 1 << 30 if parser.took("gb") else 1 << 20
    if unit == 1 << 20:
        parser.took("mb")
    return float(token.value) * unit
