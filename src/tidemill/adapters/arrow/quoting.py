"""Where CSV records end: the grammar of quotes as regular expressions, the same that Arrow's parser follows.

A quote opens a quoted field only as the field's first character; within it, two quotes stand for one; behind the
closing quote, and in a field that does not begin with one, everything up to the delimiter is literal.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Record:
    """A record's place in a block: its bytes without the line end, and its first line, counted from 1."""

    raw: bytes
    line: int
    end: int


class Grammar:
    """Records of one delimiter and quote; `quote` None: quotes mean nothing."""

    def __init__(self, delimiter: str, quote: str | None) -> None:
        self._delimiter = delimiter
        self._quote = quote
        d = re.escape(delimiter.encode())
        q = re.escape((quote or "").encode())
        quoted = b"%(q)s[^%(q)s]*+(?:%(q)s%(q)s[^%(q)s]*+)*+%(q)s" % {b"q": q}
        plain = b"(?:[^%(d)s%(q)s\r\n][^%(d)s\r\n]*+)?+" % {b"d": d, b"q": q}
        field = b"(?:%s[^%s\r\n]*+|%s)" % (quoted, d, plain) if quote else b"[^%s\r\n]*+" % d
        record = b"%s(?:%s%s)*+" % (field, d, field)
        # A carriage return alone ends a record too, but the last byte of a block may be half of a line end.
        self._whole = re.compile(b"(?:%s(?:\r\n|\n|\r(?=[^\n])))*+" % record)
        self._record = re.compile(b"(%s)(?:\r\n|\n|\r|\\Z)" % record)
        self._mark = (quote or "").encode()
        # Whole quoted fields, one after the other, each with a delimiter or line end around it: 100 ns a field, where
        # the full grammar takes that for every field.
        self._quoted = re.compile(
            b"(?:[^%(q)s]*+(?:^|(?<=[%(d)s\r\n]))%(f)s(?=[%(d)s\r\n]))*+" % {b"q": q, b"d": d, b"f": quoted}
            if quote
            else b""
        )

    def cut(self, held: bytes) -> int:
        """Where the last whole record in `held` ends, which begins with one; 0 if there is none."""
        safe, stop = 0, len(held)
        if self._quote and self._mark in held:
            safe = self._quoted.match(held).end()  # type: ignore[union-attr]  # it matches at least nothing
            after = held.find(self._mark, safe)
            stop = stop if after < 0 else after
        end = held.rfind(b"\n", safe, stop) + 1
        if end or (safe == 0 and stop == len(held) and b"\r" not in held):
            return end
        return self._whole.match(held).end()  # type: ignore[union-attr]  # it matches at least nothing

    def records(self, data: bytes) -> Iterator[Record]:
        """The records of a block, empty lines left out. A quote that is never closed ends them early."""
        at, line = 0, 1
        while at < len(data) and (found := self._record.match(data, at)):
            if found[1]:
                yield Record(found[1], line, found.end())
            span = data[at : found.end()]
            line += span.count(b"\n") or 1
            at = found.end()

    def unclosed(self, data: bytes) -> int | None:
        """The line of a record, in a block that ends the file, whose quote is never closed."""
        if not self._quote or self._mark not in data:
            return None
        at = self._whole.match(data).end()  # type: ignore[union-attr]  # it matches at least nothing
        if self._record.match(data, at):
            return None
        return data.count(b"\n", 0, at) + 1

    def fields(self, raw: bytes) -> list[str]:
        """The fields of one record."""
        text = raw.decode("utf-8", "backslashreplace")
        if self._quote is None:
            return text.split(self._delimiter)
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, quotechar=self._quote), [])


@lru_cache(maxsize=16)
def grammar(delimiter: str, quote: str | None) -> Grammar:
    """The grammar of a delimiter and a quote; compiling it takes longer than reading a small file."""
    return Grammar(delimiter, quote)
