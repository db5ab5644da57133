"""Makes stamps: for each row the greatest time of its lane so far, less the lateness that is allowed."""

from __future__ import annotations

import polars as pl

from tidemill.adapters.polars.moments import micros, whole
from tidemill.adapters.polars.stream.marks import LANE, Progress, stamp
from tidemill.adapters.polars.stream.operator import NEVER, Memory
from tidemill.plan.topology import Stamp
from tidemill.ports.stream_engine import Keeper

#: The earliest and the latest event time, in microseconds: the years 1 and 2262, where nanoseconds end. What lies
#: outside has a wrong unit, or says "never", and would make all rows after it late.
EARLIEST, LATEST = -62_135_596_800_000_000, (2**63 - 1) // 1000


class Stamping:
    """One stamp at one node. `tops` has the greatest stamp of each lane so far."""

    def __init__(self, what: Stamp, keeper: Keeper, name: str) -> None:
        self.what = what
        self._memory = Memory(keeper, name)
        self.tops: dict[int, int] = self._memory.value
        #: Lanes that rows have come of since somebody asked last.
        self.spoke: set[int] = set()

    def impossible(self, rows: pl.DataFrame) -> pl.Series | None:
        """Which rows have an event time that cannot be; None: no row has."""
        if not rows.height:
            return None
        own = rows.select(micros(rows.lazy(), self.what.column)).to_series()
        least, greatest = own.min(), own.max()
        if least is None or (least >= EARLIEST and greatest <= LATEST):  # type: ignore[operator]  # numbers
            return None
        return ((own < EARLIEST) | (own > LATEST)).fill_null(False)

    def push(self, rows: pl.DataFrame, progress: Progress) -> pl.DataFrame:
        """Rows with the stamp; `progress` learns how far it has come."""
        number = self.what.number
        if rows.height:
            rows = self._stamped(rows)
        else:
            rows = rows.with_columns(pl.lit(NEVER, dtype=pl.Int64).alias(stamp(number)))
        for lane in progress:
            top = self.tops.get(lane)
            if top is not None:
                progress[lane][number] = top
        return rows

    def _stamped(self, rows: pl.DataFrame) -> pl.DataFrame:
        name = stamp(self.what.number)
        own = micros(rows.lazy(), self.what.column) - whole(self.what.lateness)
        lanes = rows.get_column(LANE)
        first = lanes[0]
        if lanes.n_unique() == 1:
            self.spoke.add(first)
            base = self.tops.get(first, NEVER)
            made = rows.with_columns(
                pl.max_horizontal(own.cum_max().forward_fill(), pl.lit(base, dtype=pl.Int64)).alias(name)
            )
            self._note(first, made.get_column(name)[-1])
            return made
        bases = pl.col(LANE).replace_strict(self.tops, default=NEVER, return_dtype=pl.Int64)
        top = own.cum_max().over(LANE)
        made = rows.with_columns(pl.max_horizontal(top.forward_fill().over(LANE), bases).alias(name))
        for lane, moment in made.group_by(LANE).agg(pl.col(name).max()).iter_rows():
            self.spoke.add(lane)
            self._note(lane, moment)
        return made

    def _note(self, lane: int, moment: int) -> None:
        if moment > NEVER:
            self.tops[lane] = moment

    def raise_to(self, lane: int, moment: int) -> bool:
        """Let a silent lane go on: its rows from now on are judged by that. False: it is there already."""
        if moment <= self.tops.get(lane, NEVER):
            return False
        self.tops[lane] = moment
        return True

    def save(self) -> None:
        """Put what has changed into the keeper."""
        self._memory.save()
