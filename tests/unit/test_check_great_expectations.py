"""Where our checks overlap with Great Expectations, they judge as it does: its own definitions, run as cases.

Compared: whether the check passes, the list of failing values (in any order), the observed value.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import Expectation, between, expect, in_set, matches, not_null, row_count, unique
from tidemill.plan.check import Tables, check_columns, failing, measured, query
from tidemill.plan.verdict import passed

FILE = Path(__file__).parents[1] / "data" / "great_expectations" / "cases.jsonl"
CASES = [json.loads(line) for line in FILE.read_text().splitlines()]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def frame(case: dict[str, Any]) -> pl.DataFrame:
    columns = {}
    for name, values in case["data"].items():
        series = pl.Series(name, values)
        if case["types"].get(name, "").startswith("datetime"):
            shape = "%Y-%m-%dT%H:%M:%S" if "T" in values[0] else "%b %d %Y %H:%M:%S"
            series = series.str.to_datetime(shape)
        columns[name] = series
    return pl.DataFrame(columns)


def bound(value: Any) -> Any:
    if isinstance(value, dict):
        return NOW if value["$PARAMETER"] == "now()" else datetime(1969, 1, 1)
    if isinstance(value, str):
        return datetime.strptime(value, "%b %d %Y %H:%M:%S")
    return value


def check(kind: str, k: dict[str, Any]) -> Expectation:
    """Our check for theirs; what we have no word for is an expression."""
    column: str = k.get("column", "")
    col, options = pl.col(column or "x"), {"mostly": k["mostly"]} if "mostly" in k else {}
    match kind.removeprefix("expect_"):
        case "column_values_to_not_be_null":
            return not_null(column, **options)
        case "column_values_to_be_null":
            return expect(col.is_null(), **options)
        case "column_values_to_be_unique":
            return unique(column, **options)
        case "compound_columns_to_be_unique":
            return unique(*k["column_list"], **options)
        case "column_values_to_be_in_set":
            return in_set(column, k["value_set"], **options)
        case "column_values_to_not_be_in_set":
            return expect(~col.is_in(k["value_set"]), **options)
        case "column_values_to_be_between":
            strict = {name: k[name] for name in ("strict_min", "strict_max") if name in k}
            return between(column, bound(k.get("min_value")), bound(k.get("max_value")), **strict, **options)
        case "column_values_to_match_regex":
            return matches(column, k["regex"], **options)
        case "column_values_to_match_regex_list":
            return expect(pl.any_horizontal(col.str.contains(r) for r in k["regex_list"]), **options)
        case "column_values_to_not_match_regex":
            return expect(~col.str.contains(k["regex"]), **options)
        case "column_values_to_not_match_regex_list":
            return expect(~pl.any_horizontal(col.str.contains(r) for r in k["regex_list"]), **options)
        case "table_row_count_to_be_between":
            return row_count(k.get("min_value") or 0, k.get("max_value"))
        case "table_row_count_to_equal":
            return row_count(k["value"], k["value"])
        case "column_value_lengths_to_be_between":
            length = col.str.len_chars()
            least, greatest = k["min_value"], k["max_value"]
            return expect((length >= (least or 0)) & (length <= (1 << 30 if greatest is None else greatest)), **options)
        case "column_value_lengths_to_equal":
            return expect(col.str.len_chars() == k["value"], **options)
        case "column_pair_values_A_to_be_greater_than_B":
            a, b = pl.col(k["column_A"]), pl.col(k["column_B"])
            return expect(a >= b if k.get("or_equal") else a > b, **options)
        case "column_pair_values_to_be_equal":
            a, b = pl.col(k["column_A"]), pl.col(k["column_B"])
            left_out = (
                (a.is_null() | b.is_null()) if "either" in k.get("ignore_row_if", "") else a.is_null() & b.is_null()
            )
            return expect(pl.when(~left_out).then(a.eq_missing(b)), **options)
    raise AssertionError(f"no check for {kind}")


def values(rows: pl.DataFrame, k: dict[str, Any]) -> list[Any]:
    if "column_A" in k:
        return [[r[k["column_A"]], r[k["column_B"]]] for r in rows.to_dicts()]
    return rows.select(k["column_list"]).to_dicts() if "column_list" in k else rows[k["column"]].to_list()


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_judged_as_great_expectations_does(case: dict[str, Any]) -> None:
    expected = case["expected"]
    data = frame(case)
    if "traceback_substring" in expected:
        with pytest.raises(DefinitionError):
            check(case["expectation"], case["kwargs"])
        return
    made = check(case["expectation"], case["kwargs"])
    tables = Tables(data.lazy(), data.lazy(), {})
    check_columns([made], tables, "p.t")
    (found,) = measured([made], query([made], tables).collect(), NOW)
    assert passed(made, found) is expected["success"]
    if "unexpected_list" in expected:
        rows = failing(made, tables)
        assert rows is not None
        found_values = values(rows.collect(), case["kwargs"])
        assert sorted(map(repr_of, found_values)) == sorted(map(repr_of, expected["unexpected_list"]))
    if "observed_value" in expected:
        assert found.figure == expected["observed_value"]


def repr_of(value: Any) -> str:
    """Equal for 1 and 1.0, which JSON writes at random."""
    if isinstance(value, list):
        return repr([repr_of(v) for v in value])
    if isinstance(value, dict):
        return repr({name: repr_of(v) for name, v in sorted(value.items())})
    return repr(float(value)) if isinstance(value, int | float) else repr(value)


def test_all_kinds_of_check_are_covered() -> None:
    assert len(CASES) == 80
    assert len({c["expectation"] for c in CASES}) == 17
