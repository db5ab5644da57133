"""Publishing: what to do about each table when a branch meets a head that may have moved (rule 4).

Pure: `flow.publish` gives the three pointers and, where both sides moved, the two differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tidemill.model.branch import ChangeKind, Difference


class Step(StrEnum):
    """What publishing does with one table."""

    #: The branch did not touch it: nothing moves.
    KEEP = "keep"
    #: Only the branch changed it: the head's pointer moves to the branch's.
    TAKE = "take"
    #: Both changed rows of their own: the branch's files are put on top of the head.
    REBASE = "rebase"
    #: The two changes cannot both stand: the tables are computed again on a fresh fork.
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Decision:
    """The step for one table, and the reason in words where it is a conflict."""

    step: Step
    reason: str = ""


_KEEP = Decision(Step.KEEP)
_TAKE = Decision(Step.TAKE)
_REBASE = Decision(Step.REBASE)
#: Commits that can stand beside each other: rows of one's own batch, and compaction, which changes no row.
_COMPATIBLE = frozenset({ChangeKind.BATCH, ChangeKind.COMPACT})


def needs_differences(base: str | None, branch: str | None, head: str | None) -> bool:
    """True where both sides moved, so that `decide_table` must be told what each changed."""
    return branch != base and head != base and branch != head


def decide_table(
    base: str | None,
    branch: str | None,
    head: str | None,
    mine: Difference | None = None,
    theirs: Difference | None = None,
) -> Decision:
    """Decide one table by its pointers at the merge base, on the branch and on the head; None: it does not exist there.

    Args:
        base: the pointer that the branch was forked from.
        branch: the branch's pointer.
        head: the pointer of the ref that is published to.
        mine: what the branch changed since the base; for two creations, since nothing.
        theirs: what the head changed since the base.
    """
    if branch in (base, head):
        return _KEEP
    if head == base:
        return _TAKE
    if branch is None:
        return Decision(Step.CONFLICT, "the branch dropped it and the head changed it")
    if head is None:
        return Decision(Step.CONFLICT, "the head dropped it and the branch changed it")
    assert mine is not None
    assert theirs is not None
    if theirs.empty:
        return _TAKE
    if base is None:
        # Two branches made the same table: the rows of each are its own, columns are matched by name.
        return _rows_only(mine, theirs) or _REBASE
    if mine.layout_changed or theirs.layout_changed:
        return Decision(Step.CONFLICT, "partition or sort order changed")
    if mine.schema_changed:
        return Decision(Step.CONFLICT, "the branch changed its columns and the head moved")
    return _rows_only(mine, theirs) or _REBASE


def _rows_only(mine: Difference, theirs: Difference) -> Decision | None:
    """A conflict, unless both sides only added or removed rows of different batches."""
    for side, difference in (("branch", mine), ("head", theirs)):
        other = difference.kinds - _COMPATIBLE
        if other:
            what = " and ".join(sorted(k.value for k in other))
            return Decision(Step.CONFLICT, f"the {side} changed rows by {what}")
    both = mine.batches & theirs.batches
    if both:
        return Decision(Step.CONFLICT, f"both wrote batch {', '.join(map(str, sorted(both)))}")
    return None
