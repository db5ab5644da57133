"""SQL in pieces, as Redshift cuts it: words, names in quotes, literals with backslash escapes, numbers, operators."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.testing.redshift.faults import Fault, wrong

_SPACE = re.compile(r"(?:\s+|--[^\n]*)+")
_WORD = re.compile(r"[A-Za-z_\u0080-\uffff#][A-Za-z0-9_$\u0080-\uffff]*")
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?")
_OPERATOR = re.compile(r"::|<=|>=|<>|!=|\|\||\$\d+|[-+*/%<>=~!@&|^(),.;:\[\]?]")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Token:
    """One piece.

    Args:
        kind: `word`, `name` (in quotes), `text` (a literal), `number`, `sign`.
        value: a word in lower case, a name or a literal without its quotes, anything else as it stands.
        start, end: where it stands.
    """

    kind: str
    value: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, not in quotes."""
        return self.kind == "word" and self.value in words

    def is_sign(self, sign: str) -> bool:
        """Whether it is this operator."""
        return self.kind == "sign" and self.value == sign


def tokens(sql: str) -> list[Token]:
    """Cut a statement.

    Raises:
        Fault: a quote or a comment does not end, or a character belongs nowhere.
    """
    found: list[Token] = []
    at = 0
    while at < len(sql):
        if space := _SPACE.match(sql, at):
            at = space.end()
            continue
        if sql.startswith("/*", at):
            at = _comment(sql, at)
            continue
        token = _token(sql, at)
        found.append(token)
        at = token.end
    return found


def _token(sql: str, at: int) -> Token:
    if sql[at] == "'":
        return _literal(sql, at)
    if sql[at] == '"':
        return _name(sql, at)
    for kind, pattern in (("word", _WORD), ("number", _NUMBER), ("sign", _OPERATOR)):
        if match := pattern.match(sql, at):
            value = match[0].lower() if kind == "word" else match[0]
            return Token(kind, value, at, match.end())
    raise wrong(f'syntax error at or near "{sql[at]}"')


def _literal(sql: str, start: int) -> Token:
    made: list[str] = []
    at = start + 1
    while at < len(sql):
        if sql[at] == "'":
            if sql[at + 1 : at + 2] != "'":
                return Token("text", "".join(made), start, at + 1)
            made.append("'")
            at += 2
        elif sql[at] == "\\" and at + 1 < len(sql):
            octal = re.compile(r"[0-7]{1,3}").match(sql, at + 1)
            if octal:
                made.append(chr(int(octal[0], 8)))
                at = octal.end()
            else:
                made.append(_ESCAPES.get(sql[at + 1], sql[at + 1]))
                at += 2
        else:
            made.append(sql[at])
            at += 1
    raise wrong("unterminated quoted string")


def _name(sql: str, start: int) -> Token:
    made: list[str] = []
    at = start + 1
    while at < len(sql):
        if sql[at] != '"':
            made.append(sql[at])
            at += 1
        elif sql[at + 1 : at + 2] == '"':
            made.append('"')
            at += 2
        elif not made:
            break
        else:
            # Redshift folds names in quotes, too, as long as enable_case_sensitive_identifier is off.
            return Token("name", "".join(made).lower(), start, at + 1)
    raise wrong("unterminated or empty quoted identifier")


def _comment(sql: str, start: int) -> int:
    depth, at = 0, start
    while at < len(sql):
        if sql.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif sql.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if not depth:
                return at
        else:
            at += 1
    raise wrong("unterminated /* comment")


def split(sql: str) -> list[str]:
    """The statements of a text, without those that are empty."""
    made: list[str] = []
    begin: int | None = None
    end = 0
    for token in tokens(sql):
        if token.is_sign(";"):
            if begin is not None:
                made.append(sql[begin:end])
            begin = None
            continue
        begin = token.start if begin is None else begin
        end = token.end
    return made if begin is None else [*made, sql[begin:end]]


def quoted(name: str) -> str:
    """A name for PostgreSQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A literal for PostgreSQL, whatever its settings."""
    if "\0" in text:
        raise Fault("invalid byte sequence: NUL", "22021")
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


class Parser:
    """Reads tokens from left to right."""

    def __init__(self, sql: str, found: Sequence[Token] | None = None) -> None:
        self.sql = sql
        self._tokens = list(tokens(sql) if found is None else found)
        self._at = 0

    @property
    def ended(self) -> bool:
        """Nothing is left, but semicolons."""
        return all(token.is_sign(";") for token in self._tokens[self._at :])

    def peek(self, ahead: int = 0) -> Token | None:
        """The next token."""
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    def next(self) -> Token:
        """Take the next token. Raises Fault at the end."""
        token = self.peek()
        if token is None:
            raise wrong("syntax error at end of input")
        self._at += 1
        return token

    def took(self, *words: str) -> bool:
        """Take these words, if they come next."""
        for ahead, word in enumerate(words):
            token = self.peek(ahead)
            if token is None or not token.is_word(word):
                return False
        self._at += len(words)
        return True

    def took_sign(self, sign: str) -> bool:
        """Take an operator, if it comes next."""
        token = self.peek()
        if token is None or not token.is_sign(sign):
            return False
        self._at += 1
        return True

    def need(self, *words: str) -> None:
        """Take these words. Raises Fault."""
        if not self.took(*words):
            raise self.unexpected()

    def need_sign(self, sign: str) -> None:
        """Take an operator. Raises Fault."""
        if not self.took_sign(sign):
            raise self.unexpected()

    def name(self) -> str:
        """Take a name."""
        token = self.next()
        if token.kind not in ("word", "name"):
            raise wrong(f'syntax error at or near "{token.value}"')
        return token.value

    def qualified(self) -> tuple[str, ...]:
        """Take a name in parts."""
        made = [self.name()]
        while self.took_sign("."):
            made.append(self.name())
        return tuple(made)

    def text(self) -> str:
        """Take a literal."""
        token = self.next()
        if token.kind != "text":
            raise wrong(f'syntax error at or near "{token.value}"')
        return token.value

    def number(self) -> int:
        """Take a whole number."""
        token = self.next()
        if token.kind != "number" or not token.value.isdecimal():
            raise wrong(f'syntax error at or near "{token.value}"')
        return int(token.value)

    def names(self) -> tuple[str, ...]:
        """Take names in parentheses."""
        self.need_sign("(")
        made = [self.name()]
        while self.took_sign(","):
            made.append(self.name())
        self.need_sign(")")
        return tuple(made)

    def balanced(self) -> tuple[int, int]:
        """Take what is in parentheses; gives where it stands, without them."""
        opening = self.next()
        if not opening.is_sign("("):
            raise wrong(f'syntax error at or near "{opening.value}"')
        depth = 1
        while True:
            token = self.next()
            depth += token.is_sign("(") - token.is_sign(")")
            if not depth:
                return opening.end, token.start

    def unexpected(self) -> Fault:
        """The error for what comes next."""
        token = self.peek()
        return wrong("syntax error at end of input" if token is None else f'syntax error at or near "{token.value}"')
