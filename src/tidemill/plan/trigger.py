"""Trigger rules: what the ends of a task's upstreams mean for it. Airflow's rules, by counting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tidemill.model.graph import TriggerRule
from tidemill.model.run import TaskState


class Verdict(Enum):
    """What becomes of a task that has not begun."""

    WAIT = "wait"
    RUN = "run"
    SKIP = "skip"
    UPSTREAM_FAILED = "upstream_failed"


@dataclass(slots=True)
class Tally:
    """How many upstream instances there are, and how many have ended in which way.

    Counted up and down as they end and are cleared, so that judging a task costs the same however many there are.
    """

    total: int = 0
    success: int = 0
    failed: int = 0
    skipped: int = 0
    upstream_failed: int = 0
    removed: int = 0
    setups: int = 0
    setups_success: int = 0
    setups_skipped: int = 0

    @property
    def done(self) -> int:
        """Those that have ended."""
        return self.success + self.failed + self.skipped + self.upstream_failed + self.removed

    def count(self, state: TaskState, by: int, *, setup: bool = False) -> None:
        """Count `by` instances, 1 or -1, that ended as `state`; other states do not count."""
        if state is TaskState.SUCCESS:
            self.success += by
            self.setups_success += by if setup else 0
        elif state is TaskState.SKIPPED:
            self.skipped += by
            self.setups_skipped += by if setup else 0
        elif state is TaskState.FAILED:
            self.failed += by
        elif state is TaskState.UPSTREAM_FAILED:
            self.upstream_failed += by
        elif state is TaskState.REMOVED:
            self.removed += by

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(*(getattr(self, name) + getattr(other, name) for name in Tally.__slots__))


def judge(rule: TriggerRule, seen: Tally) -> Verdict:
    """What a rule makes of the upstreams.

    A rule that can no longer be met decides at once, without waiting for those that still run. An instance that was
    removed counts as one that is not there.
    """
    total = seen.total - seen.removed
    bad = seen.failed + seen.upstream_failed
    over = seen.done >= seen.total
    if rule is TriggerRule.ALWAYS or not total:
        return Verdict.RUN if rule is TriggerRule.ALWAYS or over else Verdict.WAIT
    early = _early(rule, seen, bad)
    if early is not None:
        return early
    if not over:
        return Verdict.WAIT
    return _late(rule, seen, total, bad)


def _early(rule: TriggerRule, seen: Tally, bad: int) -> Verdict | None:
    """What is decided before all upstreams have ended."""
    r = TriggerRule
    if rule in (r.ALL_SUCCESS, r.NONE_FAILED, r.NONE_FAILED_MIN_ONE_SUCCESS) and bad:
        return Verdict.UPSTREAM_FAILED
    if rule is r.ALL_SUCCESS and seen.skipped:
        return Verdict.SKIP
    if rule is r.ALL_FAILED and seen.success + seen.skipped:
        return Verdict.SKIP
    if rule is r.NONE_SKIPPED and seen.skipped:
        return Verdict.SKIP
    if rule is r.ALL_SKIPPED and seen.success + bad:
        return Verdict.SKIP
    if (rule is r.ONE_SUCCESS and seen.success) or (rule is r.ONE_FAILED and bad):
        return Verdict.RUN
    return Verdict.RUN if rule is r.ONE_DONE and seen.success + seen.failed else None


def _late(rule: TriggerRule, seen: Tally, total: int, bad: int) -> Verdict:
    """What is decided once all have ended; rules that are met by nothing having gone wrong are met here."""
    r = TriggerRule
    if rule in (r.ONE_FAILED, r.ONE_DONE):
        return Verdict.SKIP
    if rule in (r.ONE_SUCCESS, r.ALL_DONE_MIN_ONE_SUCCESS) and not seen.success:
        return Verdict.SKIP if seen.skipped == total else Verdict.UPSTREAM_FAILED
    if rule is r.NONE_FAILED_MIN_ONE_SUCCESS and seen.skipped == total:
        return Verdict.SKIP
    if rule is r.ALL_DONE_SETUP_SUCCESS and seen.setups:
        if seen.setups_skipped == seen.setups:
            return Verdict.SKIP
        return Verdict.RUN if seen.setups_success else Verdict.UPSTREAM_FAILED
    return Verdict.RUN
