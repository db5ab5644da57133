"""Joins, `unique` and `concat` as Polars queries."""

from __future__ import annotations

import polars as pl

from tidemill.adapters.polars.errors import check_columns, place_of
from tidemill.adapters.polars.grouping import ROW, TIME
from tidemill.adapters.polars.meeting import NoMeeting, align, meet
from tidemill.adapters.polars.moments import micros, whole
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame.operation import Join, JoinAsof, JoinInterval, JoinLookup, Unique

_RIGHT_ROW = "__tm_right_row"
_RIGHT_TIME = "__tm_right_time"
_BUCKET = "__tm_bucket"
_COUNT = "__tm_count"


def join(lazy: pl.LazyFrame, other: pl.LazyFrame, step: Join | JoinLookup) -> pl.LazyFrame:
    """Rows of both with equal keys; in the order of the left rows, then of the right."""
    left_on, right_on = [left for left, _ in step.on], [right for _, right in step.on]
    check_columns(lazy, left_on)
    check_columns(other, right_on, step.other.source.name)
    if step.how in ("semi", "anti"):
        return lazy.join(other, left_on=left_on, right_on=right_on, how=step.how, maintain_order="left")
    return lazy.join(
        other,
        left_on=left_on,
        right_on=right_on,
        how="full" if step.how == "outer" else step.how,
        coalesce=True,
        maintain_order="right_left" if step.how == "right" else "left_right",
    )


def check_lookup(other: pl.LazyFrame, step: JoinLookup) -> None:
    """Refuse a lookup table with two rows of one key.

    A query of its own over the keys: Polars' `validate="m:1"` would hold all left rows (0.9 GB for 8M rows).
    """
    keys = [right for _, right in step.on]
    known = other.select(keys).drop_nulls().with_row_index(ROW)
    counted = known.group_by(keys).agg(pl.len().alias(_COUNT), pl.col(ROW).min()).filter(pl.col(_COUNT) > 1)
    doubled = counted.sort(ROW).select(keys).head(1).collect(engine="streaming")
    if doubled.height:
        key = ", ".join(f"{name}={value!r}" for name, value in doubled.to_dicts()[0].items())
        raise DataError(
            f'join_lookup: "{step.other.source.name}" has more than one row for {key}.',
            where=place_of(step),
            hint=f"other.unique({keys}), or f.join(...) if all of them are meant",
        )


def join_asof(lazy: pl.LazyFrame, other: pl.LazyFrame, step: JoinAsof) -> pl.LazyFrame:
    """Each row with the latest row of `other` that is not later; rows stay in order."""
    _check_sides(lazy, other, step)
    left = lazy.with_row_index(ROW).with_columns(micros(lazy, step.on).alias(TIME)).sort(TIME, maintain_order=True)
    right = (
        other.with_columns(micros(other, step.on).alias(TIME))
        .filter(pl.col(TIME).is_not_null())
        .drop(step.on)
        .sort(TIME, maintain_order=True)
    )
    joined = left.join_asof(
        right,
        on=TIME,
        by=list(step.by) or None,
        strategy="backward",
        tolerance=None if step.tolerance is None else whole(step.tolerance),
        check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just now
    )
    return joined.sort(ROW).drop(ROW, TIME)


def join_interval(lazy: pl.LazyFrame, other: pl.LazyFrame, step: JoinInterval) -> pl.LazyFrame:
    """Pairs of rows whose times are near.

    A left row lies in one bucket of the interval's width; a right row is put into the one or two buckets that it
    reaches. Joining on the bucket then finds every pair once, without comparing all rows of a key.
    """
    _check_sides(lazy, other, step)
    before, after = whole(step.before), whole(step.after)
    width = max(before + after, 1)
    left = lazy.with_row_index(ROW).with_columns(micros(lazy, step.on).alias(TIME))
    right = other.with_row_index(_RIGHT_ROW).with_columns(micros(other, step.on).alias(_RIGHT_TIME))
    reach = pl.int_ranges((pl.col(_RIGHT_TIME) - after) // width, (pl.col(_RIGHT_TIME) + before) // width + 1)
    keys = list(step.by)
    pairs = (
        left.with_columns((pl.col(TIME) // width).alias(_BUCKET))
        .join(
            right.with_columns(reach.alias(_BUCKET)).explode(_BUCKET),
            on=[*keys, _BUCKET],
            how="inner",
        )
        .filter((pl.col(_RIGHT_TIME) - pl.col(TIME)).is_between(-before, after))
        .drop(_BUCKET)
    )
    parts = [pairs]
    if step.how in ("left", "outer"):
        parts.append(left.join(pairs.select(ROW), on=ROW, how="anti"))
    if step.how == "outer":
        alone = right.join(pairs.select(_RIGHT_ROW), on=_RIGHT_ROW, how="anti")
        names = set(lazy.collect_schema().names())
        parts.append(alone.rename({n: f"{n}_right" for n in other.collect_schema() if n in names and n not in keys}))
    columns = pairs.collect_schema().names()
    return (
        pl.concat(parts, how="diagonal")
        .select(columns)
        .sort(ROW, _RIGHT_ROW, nulls_last=True)
        .drop(ROW, TIME, _RIGHT_ROW, _RIGHT_TIME)
    )


def _check_sides(lazy: pl.LazyFrame, other: pl.LazyFrame, step: JoinAsof | JoinInterval) -> None:
    """Refuse keys that a side lacks, and times that have no order among each other."""
    check_columns(lazy, [*step.by, step.on])
    check_columns(other, [*step.by, step.on], step.other.source.name)
    times = [frame.collect_schema()[step.on] for frame in (lazy, other)]
    zoned = {isinstance(dtype, pl.Datetime) and dtype.time_zone is not None for dtype in times}
    if len(zoned) > 1:
        raise DefinitionError(
            f'{step.verb}: "{step.on}" has a zone on one side and none on the other.',
            hint=f'f["{step.on}"] = f["{step.on}"].dt.replace_time_zone("UTC") gives it one',
        )


def unique(lazy: pl.LazyFrame, step: Unique) -> pl.LazyFrame:
    """One row for each key, or for each run of rows of a key; rows stay in order."""
    keys = list(step.keys)
    check_columns(lazy, keys)
    if step.within is None or step.on is None:
        return lazy.unique(keys, keep=step.keep, maintain_order=True)
    time = pl.col(TIME)
    apart = time - time.shift(1).over(keys) if step.keep == "first" else time.shift(-1).over(keys) - time
    return (
        lazy.with_row_index(ROW)
        .with_columns(micros(lazy, step.on).alias(TIME))
        .sort(TIME, ROW)
        .filter(time.is_null() | apart.is_null() | (apart > whole(step.within)))
        .sort(ROW)
        .drop(ROW, TIME)
    )


def concat(first: pl.LazyFrame, others: list[pl.LazyFrame]) -> pl.LazyFrame:
    """Rows one after the other, columns by name; numbers meet in the wider type."""
    parts = [first, *others]
    schemas = [part.collect_schema() for part in parts]
    try:
        wanted = meet(schemas)
    except NoMeeting as error:
        raise DefinitionError(
            f'concat: column "{error.column}" is of types that do not meet: {error}.',
            hint=f'f.cast({{"{error.column}": "string"}}) on both',
        ) from None
    return pl.concat([align(part, schema, wanted) for part, schema in zip(parts, schemas, strict=True)])
