"""Which Polars expressions look at one row only: what a frame over a topic may compute without state.

A topic comes in batches whose cut is chance, so `col("a").mean()` or `shift()` would give something else each time.
What is known to look at one row only is allowed, by the names that Polars' own nodes have; all else is refused, the
unknown too, with the verb that does it over a topic.
"""

from __future__ import annotations

import json
import re
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from tidemill.model.errors import DefinitionError

_WINDOW = 'a window does it: f.tumbling_window("1h").agg(total=tm.agg.sum("x"))'
_ORDER = "f.sliding_window(...) or f.reduce(...) look at the rows before"
_GROUP = 'f.group_by("key").agg(...) or a window does it for each key'
_UNIQUE = "f.unique(...) does it, within a time bound"
_PYTHON = "f.map_batches(function) says so; .map_elements(function) is called with one value"
_RANKED = "f.sliding_window(...) looks at the rows before; a table made from the topic can be sorted"

#: What does it instead, by the beginning of a part's name; the first that fits.
_INSTEAD = (
    (r"over$", _GROUP),
    (r"cum_|shift|diff|pct_change|rolling|ewm|interpolate|fill_null_with|rle|peak|reverse|cumulative", _ORDER),
    (r"unique$|is_unique|is_duplicated|is_first|is_last|arg_unique|unique_counts|value_counts", _UNIQUE),
    (r"filter|drop_n", "f.filter(...) leaves rows out"),
    (r"explode", 'f.explode("column") makes rows of lists'),
    (r"implode", 'a window does it: f.tumbling_window("1h").agg(all=tm.agg.collect("x"))'),
    (r"sort|top_k|rank|arg_sort|slice|gather|search|mode|head|tail|random|sample|append|q_cut", _RANKED),
    (r"a series", "join_lookup brings values from a table; is_in([...]) looks one up in a list"),
    (r"is_in", "is_in([...]) takes a list of values; .list.contains(...) looks into a column of lists"),
    (r"strptime", 'say the format: .str.to_datetime("%Y-%m-%d %H:%M")'),
    (r"fold|reduce", "sum_horizontal, max_horizontal and their like do it; or tm.struct(...).map_elements(function)"),
    (r"a python function", _PYTHON),
    (r".*range|repeat", "a number for each row does not exist over a topic; its messages have offsets"),
    (r"", _WINDOW),
)

#: Functions of one row. All of a family unless the family is in `_FAMILIES`.
_FUNCTIONS = frozenset({
    "Abs", "AsStruct", "Atan2", "Business", "Ceil", "Clip", "Coalesce", "Cut", "Erf", "Erfc", "Exp", "FillNull",
    "Floor", "Hash", "Log", "Log1p", "MaxHorizontal", "MeanHorizontal", "MinHorizontal", "Negate", "RepeatBy",
    "Replace", "ReplaceStrict", "Round", "RoundSF", "Sign", "StructExpr", "SumHorizontal", "TemporalExpr",
    "ToPhysical", "Trigonometry", "Truncate", "BinaryExpr", "Pow",
})  # fmt: skip
#: Families of which some look at more: these are those of one row.
_FAMILIES = {
    "ArrayExpr": {
        "AllHorizontal", "AnyHorizontal", "ArgMax", "ArgMin", "Concat", "Contains", "CountMatches", "Get", "Join",
        "Length", "Max", "Mean", "Median", "Min", "Shift", "Sort", "Std", "Sum", "ToList", "ToStruct", "Var",
    },
    "Bitwise": {"CountOnes", "CountZeros", "LeadingOnes", "LeadingZeros", "TrailingOnes", "TrailingZeros"},
    "Boolean": {
        "AllHorizontal", "AnyHorizontal", "IsBetween", "IsClose", "IsFinite", "IsIn", "IsInfinite", "IsNan",
        "IsNotNan", "IsNotNull", "IsNull", "Not",
    },
    "Categorical": {"EndsWith", "LenBytes", "LenChars", "Slice", "StartsWith"},
    "ListExpr": {
        "ArgMax", "ArgMin", "Concat", "Contains", "CountMatches", "DropNulls", "Gather", "GatherEvery", "Get",
        "Join", "Length", "Max", "Mean", "Median", "Min", "NUnique", "Reverse", "SetOperation", "Shift", "Slice",
        "Sort", "Std", "Sum", "ToArray", "ToStruct", "Var",
    },
    "Range": {"DateRanges", "DatetimeRanges", "IntRanges", "TimeRanges"},
    "StringExpr": {
        "ConcatHorizontal", "Contains", "ContainsAny", "CountMatches", "EndsWith", "EscapeRegex", "Extract",
        "ExtractAll", "ExtractGroups", "ExtractMany", "Find", "FindMany", "Format", "Head", "HexDecode", "HexEncode",
        "Base64Decode", "Base64Encode", "JsonDecode", "JsonPathMatch", "LenBytes", "LenChars", "Lowercase",
        "Normalize", "PadEnd", "PadStart", "Replace", "ReplaceMany", "Reverse", "Slice", "Split", "SplitExact",
        "SplitN", "SplitRegex", "StartsWith", "StripChars", "StripCharsEnd", "StripCharsStart", "StripPrefix",
        "StripSuffix", "Strptime", "Tail", "Titlecase", "ToDecimal", "ToInteger", "Uppercase", "ZFill",
    },
}  # fmt: skip
#: Nodes that are of one row where what is within them is.
_INNER = {
    "Alias": (), "Cast": ("expr",), "KeepName": (), "RenameAlias": ("expr",),
    "BinaryExpr": ("left", "right"), "Ternary": ("predicate", "truthy", "falsy"), "StructEval": ("expr", "evaluation"),
}  # fmt: skip


def check_elementwise(expression: pl.Expr) -> None:
    """See that an expression gives each row a value that depends on this row only.

    Raises:
        DefinitionError: it does not, or is not known to; names the part, and the verb that does it over a topic.
    """
    for part in _parts(_tree(expression)):
        hint = next(instead for pattern, instead in _INSTEAD if re.match(pattern, part))
        raise DefinitionError(
            f'"{part}" looks at more than one row, so over a topic its result would depend on how the messages are '
            f"cut into batches: {_shown(expression)}",
            hint=hint,
        )


@dataclass(frozen=True, slots=True)
class Uses:
    """The columns that an expression names: those whose values it takes, and those that only steer which it takes.

    `bare`: it is a choice of columns as they are, perhaps under other names.
    """

    values: tuple[str, ...]
    steers: tuple[str, ...]
    bare: bool


#: Parts of nodes that say which values are taken, and give none: conditions, orders, partitions.
_STEERING = {
    "Ternary": ("predicate",), "Over": ("partition_by", "order_by"), "SortBy": ("by",), "Filter": ("by",),
    "Rolling": ("index_column",),
}  # fmt: skip


def uses_of(expression: pl.Expr) -> Uses:
    """Which columns an expression names. What selectors choose is not among them: see `selectors_of`.

    Raises:
        DefinitionError: it cannot be looked into.
    """
    tree = _tree(expression)
    found = list(_named_in(tree, steers=False))
    values = dict.fromkeys(name for name, steers in found if not steers)
    # What another node may hide is a value.
    values |= dict.fromkeys(name for name in expression.meta.root_names() if name not in dict(found))
    bare = tree
    while isinstance(bare, dict) and (inner := bare.get("RenameAlias")):
        bare = inner["expr"]
    steers = dict.fromkeys(name for name, one in found if one and name not in values)
    return Uses(tuple(values), tuple(steers), isinstance(bare, dict) and "Selector" in bare)


def selectors_of(expression: pl.Expr) -> list[pl.Expr]:
    """The choices of columns in an expression (`pl.all()`, `cs.numeric()`), each as an expression of its own."""
    found = _selectors(_tree(expression))
    return [pl.Expr.deserialize(json.dumps(one).encode(), format="json") for one in found]


def _named_in(node: Any, *, steers: bool) -> Iterator[tuple[str, bool]]:
    """The columns that a tree names, each with whether it only steers."""
    if isinstance(node, list):
        for one in node:
            yield from _named_in(one, steers=steers)
    elif isinstance(node, dict):
        for kind, content in node.items():
            if kind == "Column" and isinstance(content, str):
                yield content, steers
            elif kind in _STEERING and isinstance(content, dict):
                for part, inner in content.items():
                    yield from _named_in(inner, steers=steers or part in _STEERING[kind])
            elif kind != "Literal":
                yield from _named_in(content, steers=steers)


def _selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, list):
        for one in node:
            yield from _selectors(one)
    elif isinstance(node, dict):
        if "Selector" in node:
            yield node
        else:
            for kind, content in node.items():
                if kind != "Literal":
                    yield from _selectors(content)


def _shown(expression: pl.Expr) -> str:
    text = str(expression)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _parts(node: Any) -> Iterator[str]:
    """The parts of a tree that are not known to look at one row only, the outermost first."""
    if node in ("Element", "Wildcard"):
        return
    if not isinstance(node, dict) or len(node) != 1:
        yield _named(node if isinstance(node, str) else "unknown")
        return
    ((kind, content),) = node.items()
    if kind in ("Column", "Selector", "Field"):
        return
    if kind == "Literal":
        if isinstance(content, dict) and "Series" in content:
            yield "a series"
    elif kind == "Function":
        yield from _function(content)
    elif kind == "AnonymousFunction":
        # Polars notes of a Python function whether it was declared to look at one row.
        if "ROW_SEPARABLE" not in str(content.get("options", {}).get("flags", "")):
            yield "a python function"
        yield from _all(content["input"])
    elif kind == "Eval" and _variant(content) in ("List", "ListAgg", "Array", "ArrayAgg"):
        # What is computed within a row's list may look at all of it; a function may get the lists of many rows.
        yield from _parts(content["expr"])
        yield from (part for part in _parts(content["evaluation"]) if part == "a python function")
    elif kind in _INNER:
        yield from _all(_inner(content, _INNER[kind]))
    elif kind == "Agg" and isinstance(content, dict):
        yield _named(next(iter(content)))
    else:
        yield _named("cumulative_eval" if kind == "Eval" else kind)


def _variant(content: Any) -> Any:
    found = content.get("variant")
    return next(iter(found)) if isinstance(found, dict) else found


def _inner(content: Any, places: tuple[Any, ...]) -> list[Any]:
    if isinstance(content, list):
        return content[:1]
    if not any(place in content for place in places):
        return [content]
    found = [content[place] for place in places if place in content]
    return [one for part in found for one in (part if isinstance(part, list) else [part])]


def _all(nodes: list[Any]) -> Iterator[str]:
    for node in nodes:
        yield from _parts(node)


def _function(content: Any) -> Iterator[str]:
    function, inputs = content["function"], content["input"]
    family, detail = (function, None) if isinstance(function, str) else next(iter(function.items()))
    if family == "Business":
        # Holidays come as a series of their own: the same for all rows.
        inputs = [one for one in inputs if "Literal" not in one]
    known = _FAMILIES.get(family)
    if known is None:
        if family not in _FUNCTIONS:
            yield _named(family)
    else:
        member, options = (detail, None) if not isinstance(detail, dict) else next(iter(detail.items()))
        if member not in known or (member == "Strptime" and not _has_format(options)):
            yield _named(str(member or family))
        if member == "IsIn":
            # Values to look among are one list for all rows; of a column they would be the rows of the batch.
            yield from () if "Literal" in inputs[1] else ("is_in",)
            inputs = inputs[:1]
    yield from _all(inputs)


def _has_format(options: Any) -> bool:
    """Without a format Polars takes that of the first value that it meets."""
    return any(isinstance(part, dict) and part.get("format") for part in options or ())


def _named(node: str) -> str:
    """`CumSum` as people write it: cum_sum."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node).lower()


def _tree(expression: pl.Expr) -> Any:
    """An expression as Polars writes it down.

    Python functions in it are to be written by the package `cloudpickle`, which may be missing, and fails for those
    that hold on to a lock or a connection. None is ever read back here, so a stand-in writes nothing of them. It is
    there for the moment of the call only; definitions are read in one thread.
    """
    held = sys.modules.get("cloudpickle")
    stand_in = types.ModuleType("cloudpickle")
    stand_in.__dict__["dumps"] = lambda *_, **__: b""
    sys.modules["cloudpickle"] = stand_in
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return json.loads(expression.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DefinitionError(f"The expression {_shown(expression)} cannot be looked into: {error}.") from error
    finally:
        if held is None:
            del sys.modules["cloudpickle"]
        else:
            sys.modules["cloudpickle"] = held
