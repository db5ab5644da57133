"""What of PostgreSQL's SQL is Redshift's, too: functions and types by their names, grammar less what Redshift has not.

Pages "Unsupported PostgreSQL features", "Unsupported PostgreSQL data types", "Unsupported PostgreSQL functions", and
those of the functions. A function that means something else in PostgreSQL is none here: better refused than wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.testing.redshift.catalog import FUNCTIONS
from tidemill.testing.redshift.faults import Fault, unknown, wrong
from tidemill.testing.redshift.tokens import Token
from tidemill.testing.redshift.types import TYPE_WORDS

#: Functions that both have, and that mean the same in both.
_SHARED = frozenset(
    ("abs", "acos", "ascii", "asin", "atan", "atan2", "avg", "bit_and", "bit_or", "bool_and", "bool_or", "btrim",
     "cast", "cbrt", "ceil", "ceiling", "char_length", "character_length", "chr", "coalesce", "col_description",
     "cos", "cot", "count", "cume_dist", "current_database", "current_schema", "date", "date_part", "date_trunc",
     "degrees", "dense_rank", "exp", "extract", "first_value", "floor", "format_type", "greatest", "initcap",
     "lag", "last_value", "lead", "least", "left", "length", "ln", "log", "lower", "lpad", "ltrim", "max", "md5",
     "min", "mod", "nth_value", "ntile", "nullif", "obj_description", "octet_length", "percent_rank",
     "percentile_cont", "pg_backend_pid", "pg_get_expr", "pg_get_viewdef", "pg_table_is_visible", "pi",
     "position", "pow", "power", "quote_ident", "quote_literal", "radians", "random", "rank", "repeat", "replace",
     "reverse", "right", "round", "row_number", "rpad", "rtrim", "sign", "sin", "split_part", "sqrt", "stddev",
     "stddev_pop", "stddev_samp", "strpos", "substr", "substring", "sum", "tan", "timezone", "to_char", "to_date",
     "to_number", "to_timestamp", "translate", "trim", "trunc", "upper", "var_pop", "var_samp", "variance",
     "version")
)  # fmt: skip
#: PostgreSQL's that Redshift says it has not.
_MISSING_FUNCTIONS = frozenset(
    ("array_agg", "bit_length", "clock_timestamp", "convert_from", "convert_to", "corr", "current_setting",
     "dblink", "decode", "encode", "every", "format", "gen_random_uuid", "generate_series", "hashtext",
     "json_agg", "jsonb_agg", "jsonb_build_object", "make_date", "num_nulls", "overlay", "pg_advisory_lock",
     "pg_advisory_xact_lock", "pg_ls_dir", "pg_read_file", "pg_sleep", "pg_try_advisory_lock", "query_to_xml",
     "regexp_matches", "row_to_json", "set_config", "setseed", "starts_with", "string_agg", "to_json", "to_jsonb",
     "to_regclass", "unnest", "width_bucket")
)  # fmt: skip
_MISSING_TYPES = frozenset(
    ("bigserial", "bit", "bytea", "cidr", "citext", "hstore", "inet", "int4range", "json", "jsonb", "macaddr",
     "money", "regclass", "regtype", "serial", "tsvector", "uuid", "xml")
)  # fmt: skip
#: Words before a parenthesis that are no function.
_WORDS = frozenset(
    ("all", "and", "any", "as", "between", "by", "case", "cube", "distinct", "else", "except", "exists", "from",
     "group", "having", "ilike", "in", "intersect", "into", "is", "join", "like", "limit", "not", "offset", "on",
     "or", "over", "precision", "rollup", "select", "set", "sets", "similar", "some", "then", "to", "union", "using",
     "values", "varying", "when", "where", "with")
)  # fmt: skip
#: PostgreSQL's grammar that Redshift has not.
_REFUSED = tuple(
    tuple(words.split())
    for words in (
        "on conflict", "distinct on", "for update", "for share", "for no key", "for key share", "returning", "lateral",
        "on commit", "tablesample", "is distinct", "is not distinct", "overriding", "as materialized",
        "not materialized", "with ties", "explain analyze", "restart identity", "continue identity", "and chain",
        "and no chain", "rollback to", "update only", "from only", "check option",
    )
)  # fmt: skip
#: Redshift may have it.
_UNKNOWN = tuple(tuple(words.split()) for words in ("isolation level", "no schema binding", "collate"))
_HIDDEN = ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")
#: Operators of which each sign is one of Redshift's.
_OPERATORS = ("->", "#>", "@>", "<@", "&&", "~*", "@@", "-|")


def judge(found: Sequence[Token]) -> None:
    """Look at a statement that PostgreSQL is to run.

    Raises:
        Fault: Redshift has no such grammar, type or function, or the emulator does not know that it means the same.
    """
    first = found[0] if found else None
    if first is not None and first.is_word("lock"):
        _refuse_words(found, "in", "nowait")
    if first is not None and first.is_word("explain", "analyze") and len(found) > 1 and found[1].is_sign("("):
        raise wrong('syntax error at or near "("')
    opened: list[str] = []
    for place, token in enumerate(found):
        _judge_words(found, place)
        _judge_signs(found, place)
        after = found[place + 1] if place + 1 < len(found) else None
        if token.is_sign("::") or (token.is_word("as") and opened[-1:] == ["cast"]):
            _judge_type(after, found[place + 2 : place + 4])
        if token.is_sign("("):
            opened.append(found[place - 1].value if place and found[place - 1].kind == "word" else "")
            if place:
                _judge_call(found, place - 1)
        elif token.is_sign(")") and opened:
            opened.pop()


def _refuse_words(found: Sequence[Token], *words: str) -> None:
    for token in found:
        if token.is_word(*words):
            raise wrong(f'syntax error at or near "{token.value}"')


def _judge_words(found: Sequence[Token], place: int) -> None:
    token = found[place]
    if token.kind != "word":
        return
    for words in (*_REFUSED, *_UNKNOWN):
        following = found[place : place + len(words)]
        if len(following) == len(words) and all(one.is_word(word) for one, word in zip(following, words, strict=True)):
            shown = " ".join(words)
            raise unknown(shown.upper()) if words in _UNKNOWN else wrong(f'syntax error at or near "{shown}"')
    after = found[place + 1] if place + 1 < len(found) else None
    if token.is_word("fetch") and place and after is not None and after.is_word("first", "next"):
        raise wrong('syntax error at or near "fetch"')
    if token.is_word("window") and after is not None and after.kind in ("word", "name"):
        raise wrong('syntax error at or near "window"')
    if token.is_word(*_HIDDEN):
        raise Fault(f'column "{token.value}" does not exist', "42703")
    if after is not None and after.kind == "text" and after.start == token.end:
        raise wrong(f'syntax error at or near "{token.value}\'"')


def _judge_signs(found: Sequence[Token], place: int) -> None:
    token = found[place]
    after = found[place + 1] if place + 1 < len(found) else None
    if token.is_sign("?"):
        raise wrong('syntax error at or near "?"')
    if after is None:
        return
    if after.start == token.end and token.value + after.value in _OPERATORS:
        raise wrong(f"operator does not exist: {token.value}{after.value}")
    if token.is_sign("(") and after.is_word("values", "insert", "update", "delete"):
        raise wrong(f'syntax error at or near "{after.value}"')
    if after.is_sign("[") and token.is_word("array"):
        raise wrong('syntax error at or near "["')
    if after.is_sign("(") and (token.is_word("set") or (token.is_word("filter") and found[place - 1].is_sign(")"))):
        raise wrong('syntax error at or near "("')


def _judge_type(token: Token | None, rest: Sequence[Token]) -> None:
    if token is None:
        return
    if token.kind != "word" or token.value not in TYPE_WORDS:
        known = token.kind == "word" and token.value in _MISSING_TYPES
        told = f'type "{token.value}" does not exist'
        raise wrong(told) if known else unknown(told)
    if len(rest) == 2 and rest[0].is_sign("[") and rest[1].is_sign("]"):
        raise wrong(f'type "{token.value}[]" does not exist')


def _judge_call(found: Sequence[Token], place: int) -> None:
    """What stands before a parenthesis: a word of the grammar, a name with its columns, a type, or a function."""
    token = found[place]
    if token.kind not in ("word", "name") or (token.kind == "word" and token.value in _WORDS | TYPE_WORDS):
        return
    start = place
    while start > 1 and found[start - 1].is_sign("."):
        start -= 2
    before = found[start - 1] if start else None
    if before is None or before.is_sign(")") or before.is_word("into", "as", "view", "analyze", "verbose"):
        return
    if _names_columns(found, place + 1):
        return
    if start < place and not found[start].is_word("pg_catalog"):
        raise unknown(f"function {token.value}, of a schema of its own")
    if token.value in _MISSING_FUNCTIONS:
        raise wrong(f"function {token.value} does not exist")
    if token.value not in _SHARED | FUNCTIONS:
        raise unknown(f"function {token.value.upper()}")


def _names_columns(found: Sequence[Token], opening: int) -> bool:
    """Whether a parenthesis holds the columns of a WITH query: `name (a, b) AS (`."""
    depth = 0
    for place in range(opening, len(found)):
        depth += found[place].is_sign("(") - found[place].is_sign(")")
        if not depth:
            following = found[place + 1 : place + 3]
            return len(following) == 2 and following[0].is_word("as") and following[1].is_sign("(")
    return False
