"""A query's text: read into a syntax tree, with places for errors."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from tidemill.model.errors import DefinitionError
from tidemill.model.frame.arguments import where

_BUILT_IN = DuckDB.parser_class


class _Parser(_BUILT_IN):  # type: ignore[misc,valid-type]  # the parser of a dialect is known at run time only
    """DuckDB's, but a call stays what was written: its name and arguments."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: _BUILT_IN.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT")
    }


class _Dialect(DuckDB):
    Parser = _Parser


class Text:
    """A query as it was written."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = self._read()

    def _read(self) -> exp.Expr:
        dialect = _Dialect()
        try:
            tokens = dialect.tokenize(self.text)
            for token in tokens:
                if token.token_type == TokenType.SESSION:
                    token.token_type = TokenType.VAR  # a window here, not the statement
            found = [one for one in dialect.parser().parse(tokens, self.text) if one is not None]
        except SqlglotError as error:
            errors = getattr(error, "errors", None) or [{}]
            what, line, column = (errors[0].get(name) for name in ("description", "line", "col"))
            near = errors[0].get("highlight")
            shown = f' near "{near}"' if near else ""
            place = "" if line is None else f" (line {line}, column {max(column - len(near or '') + 1, 1)})"
            raise _wrong(f"{what or error}{shown}{place}.", "select ... from self where ... group by ...") from None
        if len(found) != 1:
            raise _wrong(f"there are {len(found)} statements.", "one: select ... from self")
        return found[0]

    def refuse(self, node: exp.Expr | str, what: str, hint: str) -> NoReturn:
        """Raise the error for a part of the query, or for a word of it."""
        at = self._word(node) if isinstance(node, str) else _start(node)
        if at is None:
            raise _wrong(f"{what}.", hint)
        line, begin = self.text.count("\n", 0, at) + 1, self.text.rfind("\n", 0, at) + 1
        raise _wrong(f"{what} (line {line}, column {at - begin + 1}).", hint)

    def _word(self, word: str) -> int | None:
        found = next((t for t in _Dialect().tokenize(self.text) if t.text.upper().startswith(word.upper())), None)
        return None if found is None else int(found.start)

    def written(self, node: exp.Expr) -> str:
        """A part as text, for messages."""
        return node.sql(dialect=DuckDB)

    def same(self, node: exp.Expr) -> str:
        """A text that two parts have if they are the same, names in quotes or not."""
        return node.sql(dialect=DuckDB, identify=True)


def _start(node: exp.Expr) -> int | None:
    places = [int(one.meta["start"]) for one in node.walk() if "start" in one.meta]
    if not places and node.parent is not None:
        return _start(node.parent)
    return min(places, default=None)


def _wrong(what: str, hint: str) -> DefinitionError:
    return DefinitionError(f"sql: {what}", where=where(), hint=hint)
