"""The COPY statement as a value: its grammar, which options go together, and nothing that it does.

Pages "COPY", "COPY from Amazon S3", "Data format parameters", "File compression parameters", "Data conversion
parameters", "Data load operations", "COPY from columnar data formats".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidemill.testing.redshift.authorization import Authorization, take_authorization
from tidemill.testing.redshift.faults import unknown, wrong
from tidemill.testing.redshift.tokens import Parser

#: What Redshift takes, and the emulator does not do.
_ELSEWHERE = frozenset(
    ("encrypted", "master_symmetric_key", "fixedwidth", "shapefile", "readratio", "ssh", "lzop", "orc",
     "comprows", "noload", "job", "auto_create", "explicit_ids")
)  # fmt: skip
_FORMATS = ("csv", "json", "avro", "parquet")
_COMPRESSIONS = ("gzip", "zstd", "bzip2")
#: Those that may go with columnar files.
_COLUMNAR = frozenset(("manifest", "statupdate", "fillrecord", "acceptinvchars", "serializetojson"))
#: Options of delimited text that JSON and Avro have no use for.
_TEXTUAL = frozenset(("delimiter", "quote", "escape", "removequotes", "fillrecord", "ignoreheader", "ignoreblanklines"))


@dataclass(frozen=True, slots=True)
class Copy:
    """A COPY.

    Args:
        table: its name in parts.
        columns: those that are listed; none: all.
        url: `s3://bucket/prefix`, or the manifest.
        who: in S3.
        format: `text` (delimited), `csv`, `json`, `avro`, `parquet`.
        how: of JSON and Avro: `auto`, `auto ignorecase`, `noshred`, or the address of a JSONPaths file.
        options: the others, by their names in lower case.
    """

    table: tuple[str, ...]
    columns: tuple[str, ...]
    url: str
    who: Authorization
    format: str = "text"
    how: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    def has(self, option: str) -> bool:
        """Whether an option was given."""
        return option in self.options


def parse_copy(sql: str) -> Copy:
    """Read a COPY.

    Raises:
        Fault: the grammar has no such thing, options contradict each other, or the emulator does not do it.
    """
    parser = Parser(sql)
    parser.need("copy")
    table = parser.qualified()
    following = parser.peek()
    columns = parser.names() if following is not None and following.is_sign("(") else ()
    parser.need("from")
    url = parser.text()
    if not url.startswith("s3://"):
        raise unknown("COPY from EMR, remote hosts and DynamoDB")
    reading = _Reading(parser)
    while not parser.ended:
        parser.took_sign(",")
        reading.option()
    return reading.made(table, columns, url)


class _Reading:
    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._who: Authorization | None = None
        self._format: str | None = None
        self._how = "auto"
        self._options: dict[str, Any] = {}

    def option(self) -> None:
        """Take one option with its argument."""
        parser = self._parser
        token = parser.next()
        if token.kind != "word":
            raise wrong(f'syntax error at or near "{token.value}"')
        word = token.value
        if word in ("iam_role", "credentials", "access_key_id"):
            if self._who is not None:
                raise wrong("conflicting or redundant options: credentials")
            self._who = take_authorization(parser, word)
        elif word in ("format", "as"):
            parser.took("as")
            self._take_format(parser.name())
        elif word in _FORMATS:
            self._take_format(word)
        elif word in _ELSEWHERE:
            raise unknown(f"COPY ... {word.upper()}")
        elif word in _ARGUMENTS:
            self._note(word, _ARGUMENTS[word](parser))
        else:
            raise wrong(f'syntax error at or near "{word}"')

    def _note(self, word: str, value: Any) -> None:
        if word in self._options:
            raise wrong(f"conflicting or redundant options: {word}")
        self._options[word] = value

    def _take_format(self, word: str) -> None:
        if word in _ELSEWHERE:
            raise unknown(f"COPY ... {word.upper()}")
        if word not in _FORMATS:
            raise wrong(f'COPY format "{word}" not recognized')
        if self._format is not None:
            raise wrong("conflicting or redundant options: format")
        self._format = word
        parser = self._parser
        if word in ("json", "avro"):
            parser.took("as")
            argument = parser.peek()
            if argument is not None and argument.kind == "text":
                self._how = parser.text()
            if self._how not in ("auto", "auto ignorecase", "noshred") and not self._how.startswith("s3://"):
                raise wrong(f'Invalid {word.upper()} format option "{self._how}": it must be auto or a JSONPaths file')
            if self._how == "noshred" and word == "avro":
                raise wrong("noshred is an option of JSON only")

    def made(self, table: tuple[str, ...], columns: tuple[str, ...], url: str) -> Copy:
        """The statement, if its options go together."""
        if self._who is None:
            raise wrong("COPY needs authorization: IAM_ROLE, CREDENTIALS, or ACCESS_KEY_ID and SECRET_ACCESS_KEY")
        given, form = set(self._options), self._format or "text"
        if len(given & set(_COMPRESSIONS)) > 1:
            raise wrong("conflicting or redundant options: compression")
        if form == "parquet" and (extra := given - _COLUMNAR):
            raise wrong(f"{min(extra).upper()} is not supported for COPY from PARQUET")
        if form != "parquet" and "serializetojson" in given:
            raise wrong("SERIALIZETOJSON is supported for columnar formats only")
        if form in ("json", "avro") and (extra := given & _TEXTUAL):
            raise wrong(f"{form.upper()} cannot be used with {min(extra).upper()}")
        if form == "avro" and (extra := given & set(_COMPRESSIONS)):
            raise wrong(f"AVRO cannot be used with {min(extra).upper()}: its blocks are compressed")
        if form == "csv" and (extra := given & {"removequotes", "escape"}):
            raise wrong(f"CSV cannot be used with {min(extra).upper()}")
        if "quote" in given and form != "csv":
            raise wrong("QUOTE is supported for CSV only")
        if "acceptanydate" in given and "dateformat" not in given:
            raise wrong("ACCEPTANYDATE must be used with DATEFORMAT")
        return Copy(table, columns, url, self._who, form, self._how, self._options)


def _nothing(_parser: Parser) -> bool:
    return True


def _of_as(take: Callable[[Parser], Any]) -> Callable[[Parser], Any]:
    def taken(parser: Parser) -> Any:
        parser.took("as")
        return take(parser)

    return taken


def _sign(parser: Parser) -> str:
    text = parser.text()
    if len(text) != 1 or not text.isascii():
        raise wrong(f'"{text}" is not a single ASCII character')
    return text


def _null(parser: Parser) -> str:
    parser.need("as")
    text = parser.text()
    if text == "\n":
        raise wrong("NULL AS cannot be a newline")
    return text


def _count(parser: Parser) -> int:
    number = parser.number()
    if number > 100_000:
        raise wrong("MAXERROR must be between 0 and 100000")
    return number


def _switch(parser: Parser) -> str:
    for word in ("on", "true", "off", "false", "preset"):
        if parser.took(word):
            return "on" if word in ("on", "true") else "off" if word in ("off", "false") else word
    return "on"


def _replacement(parser: Parser) -> str:
    parser.took("as")
    found = parser.peek()
    return _sign(parser) if found is not None and found.kind == "text" else "?"


def _encoding(parser: Parser) -> str:
    name = parser.name() if (found := parser.peek()) is not None and found.kind == "word" else parser.text().lower()
    if name not in ("utf8", "utf16", "utf16le", "utf16be"):
        raise wrong(f'invalid encoding "{name}"')
    return name


_ARGUMENTS: dict[str, Callable[[Parser], Any]] = {
    "manifest": _nothing,
    "gzip": _nothing,
    "zstd": _nothing,
    "bzip2": _nothing,
    "region": _of_as(Parser.text),
    "delimiter": _of_as(_sign),
    "quote": _of_as(_sign),
    "acceptanydate": _nothing,
    "acceptinvchars": _replacement,
    "blanksasnull": _nothing,
    "dateformat": _of_as(Parser.text),
    "timeformat": _of_as(Parser.text),
    "emptyasnull": _nothing,
    "encoding": _of_as(_encoding),
    "escape": _nothing,
    "fillrecord": _nothing,
    "ignoreblanklines": _nothing,
    "ignoreheader": _of_as(Parser.number),
    "null": _null,
    "removequotes": _nothing,
    "roundec": _nothing,
    "trimblanks": _nothing,
    "truncatecolumns": _nothing,
    "maxerror": _of_as(_count),
    "compupdate": _switch,
    "statupdate": _switch,
    "serializetojson": _nothing,
}
