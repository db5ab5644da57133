"""The allow-list of expressions over topics: what it allows gives each row the same value, however rows are cut.

Every public method of Polars' expressions is called with all arguments that fit, on columns of all types; the result
on the whole is compared with that on pieces, and with what the check says.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest

from harness.services import tell
from tidemill.model.errors import DefinitionError
from tidemill.plan.elementwise import check_elementwise

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 8
NUMBERS = (5, 0, 2, 2, 9, 20, 1, 3)

FRAME = pl.DataFrame({
    "i": [3, 1, None, 3, -2, 7, 1, 4], "j": [1, 2, 3, 0, None, 2, 1, 3],
    "u": pl.Series([3, 1, 2, 3, 2, 7, 1, 4], dtype=pl.UInt32),
    "f": [1.5, None, -0.25, 3.0, float("nan"), 2.5, 1.5, 0.5],
    "s": ["ab 1", "B", "", None, "ab 1", "zz9", "2024-01-05", '{"x":1}'],
    "n": ["1", "2", None, "3", "4", "5", "6", "7"],
    "day": ["2024-01-0" + str(k + 1) for k in range(ROWS)],
    "bo": [True, False, None, True, True, False, False, True],
    "d": [date(2024, 1, 1 + k) for k in NUMBERS],
    "t": [datetime(2024, 1, 1 + k, k, 30) for k in NUMBERS],
    "tm": [time(k, 30) for k in NUMBERS],
    "du": [timedelta(hours=k) for k in NUMBERS],
    "l": [[1, 2], [3], [], None, [2, 2, 1], [5], [4, None], [0]],
    "ls": [["a", "b"], ["c"], [], None, ["b"], ["x", "y"], ["q"], ["z"]],
    "one": [[k] for k in range(ROWS)],
    "bin": [b"ab", b"", None, b"c", b"ab", b"\x00\xff", b"z", b"12345678"],
    "b8": [bytes([k] * 8) for k in range(ROWS)],
    "a": pl.Series([[k, k + 1] for k in range(ROWS)], dtype=pl.Array(pl.Int64, 2)),
    "as": pl.Series([["x", str(k)] for k in range(ROWS)], dtype=pl.Array(pl.String, 2)),
}).with_columns(
    st=pl.struct(x="i", y="s"), c=pl.col("s").cast(pl.Categorical),
    tz=pl.col("t").dt.replace_time_zone("UTC"), hx=pl.col("bin").bin.encode("hex"),
)  # fmt: skip

#: By namespace ("": the expression itself) the columns that its methods are called on.
COLUMNS = {
    "": ["i", "f", "s", "d", "t", "du", "bo", "l", "a", "st", "u", "bin", "c", "n"],
    "str": ["s", "n", "hx", "day"], "dt": ["t", "d", "tz", "du", "tm"], "list": ["l", "ls", "one"], "arr": ["a", "as"],
    "struct": ["st"], "bin": ["bin", "b8"], "cat": ["c"], "name": ["i", "st"], "ext": ["i"],
}  # fmt: skip
ARGUMENTS: list[tuple[Any, ...]] = [
    (), (1,), (pl.col("j"),), ("%Y-%m-%d",), ("1h",), (pl.Int64,), ("a",), (pl.col("s"),), (1, 2), (0, 2), (2,),
    ("a", "b"), (pl.Date,), ([1, 2],), ({1: 2},), (["x"],), (pl.element(),), (pl.col("bo"),), (0, pl.Int64),
    (pl.col("l"),), (date(2024, 1, 1),), ("ms",), ("Europe/Berlin",), ("hex",), (b"a",), (["a"], ["b"]),
    ({"ab": "x"},), ({1: 2, 3: 4},), ("x",), ("lower",), (pl.col("tm"),), (pl.col("a"),), (pl.col("ls"),), ("$.x",),
    (pl.Struct({"x": pl.Int64}),), ([0.5, 1.0],), (0.5,), (r"(\d)",), (r"(\d)", 1), (["a", "b"],),
]  # fmt: skip
#: A number compared with a struct is null or false in Polars, as the rows beside it are null or not: nonsense anyhow.
STRUCT = ({"ab": "x"},)
#: Of these a large number among the arguments would be a length.
LENGTHS = ("pad_start", "pad_end", "zfill", "repeat_by", "extend_constant", "slice", "gather")
SHORT: list[tuple[Any, ...]] = [(2,), (2, "a"), (pl.col("j"),), ([0],), (1, 2)]

i, f, s, t = pl.col("i"), pl.col("f"), pl.col("s"), pl.col("t")
#: Calls whose arguments no list would hit.
MORE: dict[str, list[Callable[[], pl.Expr]]] = {
    ".map_elements": [lambda: i.map_elements(lambda x: x + 1, return_dtype=pl.Int64)],
    ".map_batches": [
        lambda: i.map_batches(lambda x: x.cum_sum(), return_dtype=pl.Int64),
        lambda: i.map_batches(lambda x: x + 1, return_dtype=pl.Int64, is_elementwise=True),
    ],
    ".rolling": [lambda: i.sum().rolling("t", period="1h")],
    ".rolling_map": [lambda: f.rolling_map(lambda x: x.sum(), 2)],
    ".replace_strict": [lambda: i.replace_strict({3: 1}, default=0), lambda: s.replace_strict(["B"], ["b"], default=s)],
    ".reshape": [lambda: pl.col("u").reshape((8, 1))],
    ".reinterpret": [lambda: pl.col("u").reinterpret(signed=True)],
    ".item": [lambda: i.item(allow_empty=True)],
    ".cumulative_eval": [lambda: i.cumulative_eval(pl.element().sum())],
    ".extend_constant": [lambda: i.extend_constant(1, n=2)],
    ".over": [lambda: i.sum().over("s")],
    ".fill_null": [lambda: i.fill_null(0), lambda: i.fill_null(pl.col("j")), lambda: i.fill_null(strategy="max")],
    "str.to_date": [lambda: pl.col("day").str.to_date("%Y-%m-%d")],
    "str.to_datetime": [lambda: (pl.col("day") + " 01:00").str.to_datetime("%Y-%m-%d %H:%M")],
    "str.to_time": [lambda: pl.concat_str(pl.lit("01:0"), "u").str.to_time("%H:%M")],
    "str.strptime": [lambda: s.str.strptime(pl.Date, "%Y-%m-%d", strict=False)],
    "str.to_decimal": [lambda: pl.col("n").str.to_decimal(scale=2)],
    "dt.add_business_days": [lambda: pl.col("d").dt.add_business_days(2, roll="forward")],
    "list.filter": [lambda: pl.col("l").list.filter(pl.element() > 1)],
    "list.gather": [lambda: pl.col("l").list.gather([0], null_on_oob=True)],
    "list.to_array": [lambda: pl.col("one").list.to_array(1)],
    "list.eval": [lambda: pl.col("l").list.eval(pl.element().rank()), lambda: pl.col("l").list.eval(pl.element() + 1)],
    "name.map": [lambda: i.name.map(str.upper)],
    "name.map_fields": [lambda: pl.col("st").name.map_fields(str.upper)],
    "arr.join": [lambda: pl.col("as").arr.join("-")],
    "bin.decode": [lambda: pl.col("hx").cast(pl.Binary).bin.decode("hex")],
    "bin.reinterpret": [lambda: pl.col("b8").bin.reinterpret(dtype=pl.Int64)],
}
for kind in ("mean", "std", "sum", "var"):
    MORE[f".ewm_{kind}"] = [lambda kind=kind: getattr(f, f"ewm_{kind}")(alpha=0.5)]
for kind in ("max", "mean", "median", "min", "std", "sum", "var", "rank"):
    MORE[f".rolling_{kind}_by"] = [lambda kind=kind: getattr(f, f"rolling_{kind}_by")("t", "3d")]
MORE[".rolling_quantile_by"] = [lambda: f.rolling_quantile_by("t", "3d", quantile=0.5)]
MORE[".ewm_mean_by"] = [lambda: f.ewm_mean_by("t", half_life="2d")]

#: Not expressions of rows, or without a result that can be had here.
NO_CALL = {
    ".inspect", ".register_plugin", ".deserialize", ".from_json", ".pipe", ".pipe_with_dtype",
}  # fmt: skip
#: Methods whose arguments this version's types do not take on these columns: they are unknown, so refused.
UNTRIED = {".get", ".item", ".reshape", ".rolling",
           ".bin_intervals", ".bin_quantiles", ".bin_ranks", ".ewm_sum_by", "list.item", "list.to_map", "cat.to",
           "ext.to"}  # fmt: skip


def methods(namespace: str) -> Iterator[str]:
    kind = type(getattr(i, namespace)) if namespace else pl.Expr
    for name in sorted(dir(kind)):
        public = not name.startswith("_") and name not in (*COLUMNS, "meta") and f"{namespace}.{name}" not in NO_CALL
        if public and callable(getattr(kind, name)):
            yield name


def calls(namespace: str, name: str) -> Iterator[pl.Expr]:
    for column in COLUMNS[namespace]:
        for arguments in SHORT if name in LENGTHS else ARGUMENTS:
            if name in ("eq", "ne") and column in ("i", "f") and repr(arguments) == repr(STRUCT):
                continue
            try:
                on = getattr(pl.col(column), namespace) if namespace else pl.col(column)
                yield getattr(on, name)(*arguments)
            except BaseException as error:
                refused(error)
    for make in MORE.get(f"{namespace}.{name}", ()):
        yield make()


def refused(error: BaseException) -> None:
    """Arguments that do not fit; Polars' panics are no `Exception`."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error


def is_elementwise(expression: pl.Expr) -> bool | None:
    """Whether pieces give what the whole gives; None: it cannot be computed on this frame, or on a piece of it, as
    types do not fit (a list literal beside a column of lists, which Polars sees by the values). That is no result.
    """
    try:
        whole = computed(FRAME, expression)
    except BaseException as error:
        refused(error)
        return None
    if whole is None:
        return False
    for cut in ([1] * ROWS, [3, 5], [2, 1, 5], [7, 1]):
        parts, start = [], 0
        for length in cut:
            try:
                part = computed(FRAME.slice(start, length), expression)
            except BaseException as error:
                refused(error)
                return None
            if part is None or part.schema != whole.schema:
                return False
            parts.append(part)
            start += length
        if not pl.concat(parts).equals(whole):
            return False
    return True


def computed(frame: pl.DataFrame, expression: pl.Expr) -> pl.DataFrame | None:
    try:
        # Beside a column, so that a single value is repeated as it is in `with_columns`.
        return frame.select(pl.col("u").alias("row of the frame"), expression)
    except pl.exceptions.ShapeError as error:
        if re.search(r"list lengths differed|not suitable for", str(error)):
            raise
        return None


def allows(expression: pl.Expr) -> bool:
    try:
        check_elementwise(expression)
    except DefinitionError:
        return False
    return True


@pytest.fixture(autouse=True, scope="module")
def short_panics() -> Iterator[None]:
    """Polars panics at some of the arguments, and a trace of each takes longer than all the rest."""
    held = os.environ.get("RUST_BACKTRACE")
    os.environ["RUST_BACKTRACE"] = "0"
    yield
    if held is not None:
        os.environ["RUST_BACKTRACE"] = held


@pytest.mark.parametrize("namespace", COLUMNS)
def test_what_is_allowed_behaves_elementwise(namespace: str, request: pytest.FixtureRequest) -> None:
    wrong, untried, allowed, needless = [], [], set(), set()
    for name in methods(namespace):
        verdicts = set()
        for expression in calls(namespace, name):
            behaves = is_elementwise(expression)
            if behaves is None:
                continue
            says = allows(expression)
            verdicts.add((behaves, says))
            if says and not behaves:
                wrong.append(f"{name}: {expression}")
        if not verdicts and f"{namespace}.{name}" not in UNTRIED:
            untried.append(name)
        if any(says for _, says in verdicts):
            allowed.add(name)
        elif verdicts == {(True, False)}:
            needless.add(name)
    assert wrong == []
    assert untried == []
    tell(request, f"elementwise {namespace or 'Expr'}: {len(allowed)} methods allowed; refused without need: "
                  f"{', '.join(sorted(needless)) or 'none'}")  # fmt: skip


a, b = pl.col("i"), pl.col("j")
LOCK = threading.Lock()


@pytest.mark.parametrize(
    "expression",
    [
        (a + b * 2 > 3) & ~(a == 1), -a, a**2, a // 2, a.cast(pl.String), pl.lit(None), pl.lit(1) + a, pl.all(),
        pl.col("i", "j"), pl.col("^.$"), pl.col(pl.Int64), pl.when(a > 1).then(b).when(b > 2).then(0).otherwise(a),
        pl.struct("i", "j"), pl.struct(pl.col("i")).struct.field("i"), pl.concat_str("i", "s"), pl.coalesce("i", "j"),
        pl.format("{}-{}", "i", "s"), pl.sum_horizontal("i", "j"), pl.max_horizontal("i", "j"),
        pl.mean_horizontal("i", "j"), pl.any_horizontal(a > 1, b > 1), pl.concat_list("i", "j"),
        pl.datetime(2024, 1, pl.col("u")), pl.duration(days="u"), pl.int_ranges(0, "u"), a.is_in([1, 2]), a.is_in({3}),
        a.is_between(1, b), a.replace({1: 2}), a.alias("x").name.keep(), a.name.suffix("_x"), pl.lit([1, 2]),
        pl.struct("i", "j").struct.with_fields(pl.field("i") + 1), pl.col("l").list.eval(pl.element().sum()),
        pl.struct("i", "j").map_elements(lambda row: LOCK and row["i"], return_dtype=pl.Int64),
    ],
    ids=lambda expression: str(expression)[:40],
)  # fmt: skip
def test_common_expressions_of_a_row_are_allowed(expression: pl.Expr) -> None:
    check_elementwise(expression)
    assert is_elementwise(expression)


@pytest.mark.parametrize(
    ("expression", "part", "verb"),
    [
        (a > a.mean(), "mean", "tm.agg"), (pl.when(a > 1).then(b.sum()).otherwise(0), "sum", "tm.agg"),
        (a.shift(1), "shift", "sliding_window"), (a.diff(), "diff", "reduce"), (a.cum_sum(), "cum_sum", "reduce"),
        (a.rolling_mean(2), "rolling_expr", "sliding_window"), (a.sum().over("s"), "over", "group_by"),
        (a.sort(), "sort", "sliding_window"), (a.head(2), "slice", "sliding_window"), (a.unique(), "unique", "unique"),
        (a.is_first_distinct(), "is_first_distinct", "unique"), (a.rank(), "rank", "sliding_window"),
        (pl.col("l").explode(), "explode", "f.explode"), (a.implode(), "implode", "collect"),
        (a.map_batches(lambda x: x), "a python function", "f.map_batches"), (pl.len(), "len", "tm.agg"),
        (pl.int_range(pl.len()), "int_range", "offsets"), (a + pl.Series([1, 2]), "a series", "join_lookup"),
        (pl.lit(pl.Series([1, 2])), "a series", "join_lookup"), (a.is_in(b), "is_in", "list.contains"),
        (a.filter(b > 1), "filter", "f.filter"), (a.fill_null(strategy="forward"), "fill_null_with_strategy", "reduce"),
        (pl.fold(pl.lit(0), lambda x, y: x + y, ["i", "j"]), "fold_horizontal", "sum_horizontal"),
        (s.str.to_date(), "strptime", "say the format"), (pl.struct(a.max(), b), "max", "tm.agg"),
        (pl.struct("i").struct.with_fields(pl.field("i").sum()), "sum", "tm.agg"),
        (pl.col("l").list.eval(pl.element().map_batches(lambda x: x)), "a python function", "f.map_batches"),
        (a.alias("x").shuffle().name.suffix("y"), "random", "sliding_window"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_looks_at_other_rows_is_refused_with_the_verb_that_does_it(
    expression: pl.Expr, part: str, verb: str
) -> None:
    with pytest.raises(DefinitionError) as refusal:
        check_elementwise(expression)
    assert refusal.value.what.startswith(f'"{part}" looks at more than one row')
    assert verb in str(refusal.value.hint)


def test_looking_into_python_functions_leaves_nothing_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_elementwise(a.map_elements(lambda x: x))
    assert "cloudpickle" not in sys.modules
