"""The verbs that bring the rows of two frames together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.model.duration import Duration, read_duration
from tidemill.model.frame import arguments as read
from tidemill.model.frame.operation import IntervalHow, Join, JoinAsof, JoinHow, JoinInterval, JoinLookup
from tidemill.model.frame.recording import Recording

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame


class Joins(Recording):
    """Verbs over two frames."""

    __slots__ = ()

    def join(self, other: Frame, *, on: str | Sequence[str] | Mapping[str, str], how: JoinHow = "inner") -> Frame:
        """Rows of both with equal keys. Over topics use `join_lookup`, `join_asof` or `join_interval`.

        Args:
            other: the right frame.
            on: key columns by name, or a mapping from left names to right names.
            how: inner, left, right, outer, semi (rows with a partner), anti (rows without).
        """
        right, pairs = self._other("join", other), read.read_pairs("join", on)
        chosen = read.read_choice("join", "how", how, ("inner", "left", "right", "outer", "semi", "anti"))
        return self.then(lambda at: Join(at=at, other=right, on=pairs, how=chosen))

    def join_lookup(self, other: Frame, *, on: str | Sequence[str] | Mapping[str, str]) -> Frame:
        """Every row with the columns of the row of `other` that has its key. Two rows of one key are an error."""
        right, pairs = self._other("join_lookup", other), read.read_pairs("join_lookup", on)
        return self.then(lambda at: JoinLookup(at=at, other=right, on=pairs))

    def join_asof(
        self,
        other: Frame,
        *,
        on: str,
        by: str | Sequence[str] | None = None,
        tolerance: Duration | None = None,
    ) -> Frame:
        """Every row with the columns of the latest row of `other` that is not later than it.

        Args:
            other: the right frame.
            on: the time column, of that name in both.
            by: columns that must be equal.
            tolerance: how old the other row may be.
        """
        right, time = self._other("join_asof", other), read.read_name("join_asof", "on", on)
        keys = read.read_names("join_asof", "by", by, empty=True)
        oldest = None
        if tolerance is not None:
            oldest = read_duration(tolerance, "tolerance", where=read.where(), zero=True)
        return self.then(lambda at: JoinAsof(at=at, other=right, on=time, by=keys, tolerance=oldest))

    def join_interval(
        self,
        other: Frame,
        *,
        on: str,
        within: Duration | tuple[Duration, Duration],
        by: str | Sequence[str] | None = None,
        how: IntervalHow = "inner",
    ) -> Frame:
        """Pairs of rows whose times are at most `within` apart.

        Args:
            other: the right frame.
            on: the time column, of that name in both; the right one becomes `<on>_right`.
            within: how far apart, or (how much earlier, how much later) the right row may be.
            by: columns that must be equal.
            how: inner, left (all left rows), outer (all rows of both).
        """
        right, time = self._other("join_interval", other), read.read_name("join_interval", "on", on)
        keys = read.read_names("join_interval", "by", by, empty=True)
        ends = within if isinstance(within, tuple) else (within, within)
        if len(ends) != 2:
            raise read.wrong(f"join_interval: within={within!r} is not (before, after).", 'within=("5m", "1m")')
        before, after = (read_duration(end, "within", where=read.where(), zero=True) for end in ends)
        chosen = read.read_choice("join_interval", "how", how, ("inner", "left", "outer"))
        return self.then(
            lambda at: JoinInterval(at=at, other=right, on=time, by=keys, before=before, after=after, how=chosen)
        )
