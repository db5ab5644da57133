"""The promises of the port `SqlEngine` about Python functions that a statement calls."""

from __future__ import annotations

import pdb  # noqa: T100 - a breakpoint in the user's function is what is tested
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pytest

from harness.sql import CLEAN, ENGINES, rows
from tidemill.model.errors import DefinitionError, UserError
from tidemill.ports.engine import SqlEngine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> SqlEngine:
    made: SqlEngine = request.param(threads=2, memory_limit="1GB", temp_directory=str(tmp_path))
    return made


@pytest.fixture
def clean() -> pa.Table:
    return CLEAN


def test_a_function_is_called_row_by_row_and_null_gives_null(engine: SqlEngine, clean: pa.Table) -> None:
    calls = []

    def shout(text: str, times: int) -> str:
        calls.append(text)
        return text * times

    sql = "select shout(carrier, dep_delay) as s from t order by carrier"
    assert [r["s"] for r in rows(engine, sql, {"t": clean}, functions={"shout": shout})] == ["AA", None, "UAUA"]
    assert sorted(calls) == ["AA", "UA"]


def test_a_parameter_that_admits_none_gets_it(engine: SqlEngine, clean: pa.Table) -> None:
    def known(delay: int | None) -> bool:
        return delay is not None

    sql = "select known(dep_delay) as k from t"
    assert [r["k"] for r in rows(engine, sql, {"t": clean}, functions={"known": known})] == [True, True, False]


def test_a_function_may_work_on_columns(engine: SqlEngine, clean: pa.Table) -> None:
    def twice(x: Annotated[pl.Series, int]) -> Annotated[pl.Series, "double"]:
        return x * 2.0

    def half(x: Annotated[pa.Array, "long"]) -> Annotated[pa.Array, float]:
        return pa.compute.divide(x.cast(pa.float64()), 2.0)

    sql = "select twice(dep_delay) as a, half(dep_delay) as b from t"
    found = rows(engine, sql, {"t": clean}, functions={"twice": twice, "half": half})
    assert [(r["a"], r["b"]) for r in found] == [(2.0, 0.5), (4.0, 1.0), (None, None)]
    many = pa.table({"dep_delay": list(range(10_000))})
    assert rows(engine, "select sum(twice(dep_delay)) as s from t", {"t": many}, functions={"twice": twice}) == [
        {"s": 2.0 * sum(range(10_000))}
    ]


def test_functions_take_and_give_all_kinds_of_values(engine: SqlEngine) -> None:
    def back(
        a: bool, b: float, c: bytes, d: date, e: datetime, f: list[int], g: dict[str, int],
        h: Annotated[Decimal, "decimal(9,2)"], i: Annotated[datetime, "timestamptz"], j: UUID,
        k: Annotated[dict[str, Any], "struct<x:long>"],
    ) -> str:  # fmt: skip
        return repr((a, b, c, d, e, f, g, h, i.utcoffset(), j.int, k))

    sql = """
        select back(true, 1.5, 'x'::blob, '2013-01-01', '2013-01-01 01:00', [1, null], map {'k': 2}, 1.25,
        '2013-01-01 00:00+05', '00000000-0000-0000-0000-000000000001'::uuid, {'x': 1}) as s
    """
    assert rows(engine, sql, functions={"back": back}) == [
        {"s": "(True, 1.5, b'x', datetime.date(2013, 1, 1), datetime.datetime(2013, 1, 1, 1, 0), [1, None], {'k': 2}, "
              "Decimal('1.25'), datetime.timedelta(0), 1, {'x': 1})"}
    ]  # fmt: skip

    def pair() -> dict[str, int]:
        return {"a": 1}

    def items(n: int) -> list[str]:
        return ["x"] * n

    found = rows(engine, "select pair() as p, items(2) as i", functions={"pair": pair, "items": items})
    assert found == [{"p": [("a", 1)], "i": ["x", "x"]}]


def test_an_exception_in_a_function_is_the_users_error_with_its_traceback(engine: SqlEngine, clean: pa.Table) -> None:
    def inner(x: int) -> int:
        raise ValueError(f"bad {x}")

    def outer(x: int) -> int:
        return inner(x)

    with pytest.raises(UserError) as caught:
        rows(engine, "select outer(dep_delay) as x from t", {"t": clean}, functions={"outer": outer})
    error = caught.value
    assert error.what == 'The function "outer" failed: ValueError: bad 1'
    assert error.where == f"{__file__}:{inner.__code__.co_firstlineno + 1}"
    assert isinstance(error.__cause__, ValueError)
    assert "return inner(x)" in error.__notes__[0]


def test_a_function_that_gives_something_else_than_it_says(engine: SqlEngine, clean: pa.Table) -> None:
    def wrong(x: int) -> int:
        return x if x == 1 else 2**70

    def short(x: Annotated[pl.Series, int]) -> Annotated[pl.Series, int]:
        return x.head(1)

    def other(x: Annotated[pl.Series, int]) -> Annotated[pl.Series, int]:
        return x.cast(pl.String) + "a"

    for function, says in (
        (wrong, "gave 1180591620717411303424, which is no int64"),
        (short, "gave 1 values for 3 rows"),
        (other, "gave a column of .*string.*, which is no int64"),
    ):
        with pytest.raises(UserError, match=says):
            rows(engine, "select f(dep_delay) as x from t", {"t": clean}, functions={"f": function})


@pytest.mark.parametrize(
    ("function", "name", "says"),
    [
        (lambda x: x, "f", 'parameter "x" of "f" is not annotated'),
        (print, "f", "SQL cannot pass|is not annotated|cannot be read"),
        (max, "lower", "cannot be read|already"),
    ],
)
def test_a_function_without_types_is_refused(
    engine: SqlEngine, function: Callable[..., Any], name: str, says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        rows(engine, "select 1", functions={name: function})


def test_functions_that_cannot_be_registered(engine: SqlEngine) -> None:
    def plain(x: int) -> int:
        return x

    def mixed(x: Annotated[pl.Series, int], y: int) -> Annotated[pl.Series, int]:
        return x * y

    def untyped(x: pl.Series) -> pl.Series:
        return x

    def decimal(x: Decimal) -> int:
        return int(x)

    def many(*x: int) -> int:
        return sum(x)

    for name, function, says in (
        ("lower", plain, 'SQL has a function "lower" already'),
        ("not a name", plain, "cannot name a function"),
        ("f", mixed, "mixes columns and single values"),
        ("f", untyped, "is annotated Series, which gives no SQL type"),
        ("f", decimal, "is annotated Decimal, which gives no SQL type"),
        ("f", many, 'SQL cannot pass "x"'),
    ):
        with pytest.raises(DefinitionError, match=says):
            rows(engine, "select 1", functions={name: function})


def test_a_debugger_stops_in_a_function_with_the_row_in_hand(engine: SqlEngine, clean: pa.Table) -> None:
    seen: list[dict[str, Any]] = []

    class Scripted(pdb.Pdb):
        def interaction(self, frame: Any, *_: Any) -> None:
            assert frame is not None
            seen.append(dict(frame.f_locals))
            self.set_continue()

    def stop(carrier: str, delay: int) -> int:
        Scripted().set_trace()
        return delay

    rows(engine, "select stop(carrier, dep_delay) as x from t limit 1", {"t": clean}, functions={"stop": stop})
    assert [(frame["carrier"], frame["delay"]) for frame in seen] == [("AA", 1)]


def test_leaving_the_debugger_ends_the_query_as_it_ends_a_program(engine: SqlEngine, clean: pa.Table) -> None:
    def quit_here(delay: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows(engine, "select quit_here(dep_delay) as x from t", {"t": clean}, functions={"quit_here": quit_here})


def test_nothing_is_left_behind_when_the_program_ends() -> None:
    """DuckDB's binding reports objects that outlive the interpreter on standard error."""
    program = (
        "from tidemill.adapters.duckdb.engine import DuckDBEngine\n"
        "def f(x: int) -> int: return x\n"
        "with DuckDBEngine(threads=1).query('select f(1) as x', {}, functions={'f': f}) as r:\n"
        "    print(r.read_all()['x'][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
