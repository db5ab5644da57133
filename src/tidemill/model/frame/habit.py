"""What people type from habit (pandas, Polars) and a frame does not have: an error that names the verb to use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tidemill.model.errors import DefinitionError
from tidemill.model.frame.arguments import where

#: habit -> what to write instead.
HABITS = {
    "agg": 'f.group_by("key").agg(n=tm.agg.count())',
    "aggregate": 'f.group_by("key").agg(n=tm.agg.count())',
    "append": "f.concat(other)",
    "apply": 'f.map_rows(function) for Python on a row; expressions such as f["x"] * 2 are far faster',
    "applymap": 'f.with_columns(tm.col("x") * 2), or f.map_rows(function)',
    "assign": 'f.with_columns(y=f["x"] * 2)',
    "astype": 'f.cast({"x": "double"})',
    "at": "f.filter(condition).select(columns)",
    "collect": "a frame runs with its pipeline; to run it here, call its function with a Polars DataFrame",
    "columns": 'columns are known when data is there; name the ones you need: f["x"]',
    "copy": "verbs return new frames, so there is nothing to copy",
    "cumsum": "f.reduce(by, initial, function), or a window over time",
    "describe": 'f.group_by("key").agg(n=tm.agg.count(), mean_x=tm.agg.mean("x"))',
    "diff": "f.sliding_window(size, on=time, by=key), or f.reduce(by, initial, function)",
    "drop_duplicates": 'f.unique(["key"], keep="first")',
    "drop_nulls": 'f.filter(f["x"].is_not_null())',
    "dropna": 'f.filter(f["x"].is_not_null())',
    "dtypes": 'types are known when data is there; set the ones you need: f.cast({"x": "double"})',
    "duplicated": 'f.unique(["key"], keep="first")',
    "eval": 'f.with_columns(y=f["x"] * 2)',
    "fill_null": 'f.with_columns(f["x"].fill_null(0))',
    "fillna": 'f.with_columns(f["x"].fill_null(0))',
    "group_by_dynamic": 'f.tumbling_window("1h", on="time", by="key").agg(n=tm.agg.count()).final()',
    "groupby": 'f.group_by("key").agg(n=tm.agg.count())',
    "head": "a frame has no data yet and tables have no first rows; f.filter(condition) keeps some",
    "iat": "f.filter(condition).select(columns)",
    "iloc": "rows have no positions; f.filter(condition).select(columns)",
    "index": "frames have no index; keys are columns",
    "insert": 'f["y"] = f["x"] * 2',
    "isin": 'f.filter(f["x"].is_in([1, 2]))',
    "isna": 'f["x"].is_null()',
    "isnull": 'f["x"].is_null()',
    "iterrows": "f.map_rows(function), or f.flat_map(function)",
    "itertuples": "f.map_rows(function), or f.flat_map(function)",
    "limit": "a frame has no data yet and tables have no first rows; f.filter(condition) keeps some",
    "loc": "f.filter(condition).select(columns)",
    "map": "f.map_rows(function)",
    "mask": 'f.with_columns(x=tm.when(condition).then(None).otherwise(f["x"]))',
    "melt": "f.map_batches(lambda df: df.unpivot(...))",
    "merge": 'f.join(other, on="key", how="left")',
    "notna": 'f["x"].is_not_null()',
    "notnull": 'f["x"].is_not_null()',
    "nunique": 'f.group_by("key").agg(n=tm.agg.n_unique("x"))',
    "pipe": "function(f): a frame is an ordinary argument",
    "pivot": 'f.group_by("key").agg(a=tm.col("x").filter(tm.col("kind") == "a").sum())',
    "pivot_table": 'f.group_by("key").agg(a=tm.col("x").filter(tm.col("kind") == "a").sum())',
    "query": 'f.filter(f["x"] > 0)',
    "rank": 'an engine="pandas" table function, or SQL: rank() over (...)',
    "replace": 'f.with_columns(f["x"].replace({1: 2}))',
    "resample": 'f.tumbling_window("1h", on="time", by="key").agg(n=tm.agg.count()).final()',
    "reset_index": "frames have no index; keys are columns",
    "rolling": 'f.sliding_window("1h", on="time", by="key").agg(n=tm.agg.count()).final()',
    "sample": 'f.filter(f["id"].hash() % 10 == 0)',
    "set_index": "frames have no index; keys are columns",
    "shape": 'f.group_by("key").agg(n=tm.agg.count()); a frame has no data yet',
    "shift": 'f.join_asof(f, on="time", by="key"), or f.reduce(by, initial, function)',
    "sort": 'tables have no order of their own; declare it where the table is: @pipeline.table(sort=["x"])',
    "sort_index": 'tables have no order of their own; declare it where the table is: @pipeline.table(sort=["x"])',
    "sort_values": 'tables have no order of their own; declare it where the table is: @pipeline.table(sort=["x"])',
    "tail": "a frame has no data yet and tables have no last rows; f.filter(condition) keeps some",
    "to_arrow": 'tm.read("table").to_arrow() reads what a run has published',
    "to_csv": "a run writes the table that the function returns; pipeline.deliver(...) sends it elsewhere",
    "to_dict": 'tm.read("table") reads what a run has published',
    "to_pandas": 'tm.read("table").to_pandas() reads what a run has published; engine="pandas" gives pandas frames',
    "to_parquet": "a run writes the table that the function returns; pipeline.deliver(...) sends it elsewhere",
    "transform": 'f.with_columns(y=f["x"] * 2)',
    "union": "f.concat(other)",
    "value_counts": 'f.group_by("x").agg(n=tm.agg.count())',
    "values": 'tm.read("table") reads what a run has published',
    "vstack": "f.concat(other)",
    "where": 'f.filter(f["x"] > 0)',
    "with_row_index": "tables have no row numbers; @pipeline.table(key=[...]) names what identifies a row",
}


class NoSuchVerb(DefinitionError, AttributeError):
    """A verb that frames do not have; also an AttributeError, so that `hasattr` and notebooks work."""

    __str__ = DefinitionError.__str__


def no_such_verb(name: str, verbs: Iterable[str]) -> NoSuchVerb:
    """The error for `f.<name>`."""
    if name in HABITS:
        return NoSuchVerb(f'A frame has no "{name}".', where=where(), hint=HABITS[name])
    known = sorted(verbs)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        hint = "did you mean " + " or ".join(f'"{n}"' for n in near) + "?"
    else:
        hint = f'a column is f["{name}"]; the verbs are {", ".join(known)}'
    return NoSuchVerb(f'A frame has no "{name}".', where=where(), hint=hint)


def no_such_item(key: object) -> DefinitionError:
    """The error for `f[key]` where the key is no column name."""
    from tidemill.model.agg import is_expression

    if is_expression(key):
        what, hint = "f[condition] does not filter.", "f.filter(condition)"
    elif isinstance(key, list | tuple) and key and all(isinstance(k, str) for k in key):
        names = ", ".join(f'"{k}"' for k in key)
        what, hint = "f[[...]] does not select.", f"f.select({names})"
    elif isinstance(key, slice | int):
        what, hint = f"f[{_slice(key)}]: rows have no positions.", "f.filter(condition)"
    else:
        what, hint = f"f[{key!r}] is no column.", 'f["x"] is a column, f.filter(condition) keeps rows'
    return DefinitionError(what, where=where(), hint=hint)


def _slice(key: slice | int) -> str:
    if isinstance(key, int):
        return str(key)
    return ":".join("" if part is None else str(part) for part in (key.start, key.stop))


def no_data(used: str, hint: str) -> DefinitionError:
    """The error for using a frame as if its rows were there: `len(f)`, `for row in f`, `if f`."""
    return DefinitionError(f"{used}: a frame is a recipe; its rows are not there yet.", where=where(), hint=hint)
