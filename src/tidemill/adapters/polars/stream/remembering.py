"""`map_with_state` on a stream: rows wait until no earlier one can come, then go through the function by time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from tidemill.adapters.polars.building import build
from tidemill.adapters.polars.grouping import TIME
from tidemill.adapters.polars.moments import whole
from tidemill.adapters.polars.remembering import Caller, key_of, no_time, returned
from tidemill.adapters.polars.rows import rows_of
from tidemill.adapters.polars.stream.keyed import Keyed, read, written
from tidemill.adapters.polars.stream.marks import LANE, Progress, order, order_of, stamp, theirs
from tidemill.adapters.polars.stream.meetings import Waiting
from tidemill.adapters.polars.stream.operator import Failed, Operator, with_time
from tidemill.model.errors import DataError
from tidemill.model.frame.operation import MapWithState, function_name
from tidemill.model.place import told
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import Keeper


class Remembering(Operator):
    """A user's function with a state for each key.

    Args:
        node: of the step.
        lanes: that meet here. `lane`: of the results, which come in the order of their times.
        keeper: for what lasts.
        failed: is told of rows that could not be taken.
    """

    def __init__(self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, failed: Failed) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, MapWithState)
        self._step = node.step
        self._caller = Caller(node.step)
        self._lane = lane
        self._failed = failed
        self.remember(self.lanes, keeper, f"{node.name}/lanes")
        self._waiting = Waiting(keeper, f"{node.name}/waiting")
        self._states = Expiring(keeper, node.name, None if node.step.ttl is None else whole(node.step.ttl))
        self._found = pl.Schema()

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Take rows; give what the function makes of those whose turn has come."""
        self.lanes.update(progress)
        if rows.height:
            timed = with_time(rows, self._step.on, TIME)
            for row in timed.filter(pl.col(TIME).is_null()).drop(TIME).iter_slices(1):
                self._failed(self.node, row, told(no_time(self._step, "a row")))
            timed = timed.filter(pl.col(TIME).is_not_null())
            self._waiting.add(self.too_late(timed, pl.col(TIME) < pl.col(stamp(self.node.uses or 0))))
        low = self.low()
        if low is None:
            return None, {}
        # A row of the same time can come before one of another lane, but never before one of its own lane.
        turn = pl.col(TIME) < low if self.node.gated else pl.col(TIME) <= low
        ready = self._waiting.take(turn)
        made = None if ready is None else self._made(ready.sort([TIME, *order_of(ready.columns)], maintain_order=True))
        return made, {self._lane: {0: low, **{one.number: low for one in self._times()}}}

    def _times(self) -> list[Any]:
        """The stamps of the time column: results come in its order."""
        return [one for one in self.node.stamps if one.column == self._step.on]

    def _made(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows through the function. One whose result is not of the declared type is found by halving, and left out."""
        try:
            return self._called(rows)
        except DataError as error:
            if rows.height == 1:
                self._failed(self.node, rows.drop(TIME), told(error))
                return self._called(rows.clear())
        half = rows.height // 2
        return pl.concat([self._made(part) for part in (rows[:half], rows[half:])], how="vertical_relaxed")

    def _called(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows through the function; states change once all that it returned is of its type, so that all can be called
        again.

        Raises:
            DataError: it is not; no state has changed.
        """
        step = self._step
        given = rows.select(theirs(rows.columns))
        changed: dict[tuple[Any, ...], tuple[int, Mapping[str, Any]]] = {}
        made: list[Mapping[str, Any]] = []
        places: list[int] = []
        numbers: list[int] = []
        failures: list[tuple[int, str]] = []
        for place, (now, row) in enumerate(zip(rows.get_column(TIME).to_list(), rows_of(given), strict=True)):
            key = key_of(row[name] for name in step.by)
            before = self._states.get(key, now) if key not in changed else self._states.still(changed[key], now)
            try:
                results, state = self._caller.call(row, before)
                after = state.written()
            except Exception as error:  # whatever a user's function raises is about this row
                failures.append((place, f"{step.verb}({function_name(step.function)}): {told(error)}"))
                continue
            if after is not None:
                changed[key] = (now, after)
            made += results
            places += [place] * len(results)
            numbers += range(len(results))
        types = returned(step, given.schema)
        built = build(made, types, self._found or given.schema, step)
        if types is None and made:
            self._found = built.schema
        for place, error_text in failures:
            self._failed(self.node, rows[place].drop(TIME), error_text)
        for key, (now, kept) in changed.items():
            self._states.put(key, now, kept)
        return built.hstack(self._marks(rows, places, numbers).get_columns())

    def _marks(self, rows: pl.DataFrame, places: list[int], numbers: list[int]) -> pl.DataFrame:
        """Our own columns of the results: in the order of time, then that of the rows."""
        before = order_of(rows.columns)
        of_time = [pl.col(TIME).alias(stamp(one.number)) for one in self._times()]
        placed = [pl.col(name).alias(order(place + 1)) for place, name in enumerate(before)]
        return (
            rows[places]
            .select(
                pl.lit(self._lane, dtype=pl.Int32).alias(LANE) if places else pl.col(LANE),
                pl.col(TIME).alias(order(0)),
                *placed,
                *of_time,
            )
            .with_columns(pl.Series(order(len(before) + 1), numbers, dtype=pl.Int64))
        )

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._waiting.save()
        self._states.save(self.low())


class Expiring:
    """The states of keys, with the times when they were last written.

    A state whose time is over is not there, whether its room has been freed or not. It is freed by `save`: `due` lists
    keys by when they are to be looked at, each once, so that a state which is written often is not listed anew.
    """

    def __init__(self, keeper: Keeper, name: str, ttl: int | None) -> None:
        self._keeper = keeper
        self._ttl = ttl
        self._keyed = Keyed(keeper, f"{name}/states")
        self._due = f"{name}/due/".encode()

    def get(self, key: tuple[Any, ...], now: int) -> Mapping[str, Any]:
        """What a key's state holds at a time."""
        found = self._keyed.get(key)
        return {} if found is None else self.still((found["at"], found["values"]), now)

    def still(self, remembered: tuple[int, Mapping[str, Any]], now: int) -> Mapping[str, Any]:
        """What is left at a time of values that were written at another."""
        at, values = remembered
        return {} if self._ttl is not None and now - at > self._ttl else values

    def put(self, key: tuple[Any, ...], now: int, values: Mapping[str, Any]) -> None:
        """Set what a key's state holds, as it was written at a time."""
        if not values:
            self._keyed.put(key, None)
            return
        found = self._keyed.get(key)
        due = None if found is None else found["due"]
        if due is None and self._ttl is not None:
            due = now + self._ttl
            self._keeper.put(self._listed(due, key), b"")
        self._keyed.put(key, {"at": now, "values": values, "due": due})

    def save(self, low: int | None) -> None:
        """Put what has changed into the keeper, and free what no row from `low` on can see."""
        if self._ttl is not None and low is not None:
            self._free(low, self._ttl)
        self._keyed.save()

    def _free(self, low: int, ttl: int) -> None:
        passed: list[bytes] = []
        until = self._due + _moment(low)
        for listed, _ in self._keeper.scan(self._due):
            if listed >= until:
                break
            passed.append(listed)
        for listed in passed:
            self._keeper.put(listed, None)
            key = key_of(read(listed[len(self._due) + 8 :]))
            found = self._keyed.get(key)
            if found is None or self._listed(found["due"], key) != listed:
                continue  # it was removed meanwhile, and may be listed anew
            due = found["at"] + ttl
            if due < low:
                self._keyed.put(key, None)
            else:
                self._keeper.put(self._listed(due, key), b"")
                self._keyed.put(key, {**found, "due": due})

    def _listed(self, due: int, key: tuple[Any, ...]) -> bytes:
        return self._due + _moment(due) + written(list(key))


def _moment(micros: int) -> bytes:
    """A time as bytes that are ordered as times are."""
    return (micros + 2**63).to_bytes(8, "big")
