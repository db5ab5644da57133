"""Rule 4, decided purely: take, rebase or conflict, never last-writer-wins."""

from __future__ import annotations

import itertools

import pytest

from tidemill.model.branch import ChangeKind, Difference
from tidemill.plan.publish import Step, decide_table, needs_differences


def change(
    *kinds: ChangeKind, batches: set[int] | None = None, schema: bool = False, layout: bool = False
) -> Difference:
    return Difference(
        added=frozenset({"f"}) if kinds else frozenset(),
        removed=frozenset(),
        schema_changed=schema,
        layout_changed=layout,
        kinds=frozenset(kinds),
        batches=frozenset(batches or ()),
    )


ROWS_1, ROWS_2 = change(ChangeKind.BATCH, batches={1}), change(ChangeKind.BATCH, batches={2})


def test_an_untouched_table_is_kept_whatever_the_head_did() -> None:
    assert decide_table("a", "a", "z").step is Step.KEEP


def test_a_table_that_only_the_branch_changed_is_taken() -> None:
    assert decide_table("a", "b", "a").step is Step.TAKE
    assert decide_table(None, "b", None).step is Step.TAKE
    assert decide_table("a", None, "a").step is Step.TAKE


def test_rows_of_different_batches_are_rebased() -> None:
    assert decide_table("a", "b", "h", ROWS_1, ROWS_2).step is Step.REBASE


def test_rows_of_the_same_batch_conflict() -> None:
    decision = decide_table("a", "b", "h", ROWS_1, ROWS_1)
    assert (decision.step, decision.reason) == (Step.CONFLICT, "both wrote batch 1")


@pytest.mark.parametrize("kind", [ChangeKind.UPSERT, ChangeKind.REPLACE])
@pytest.mark.parametrize("side", ["branch", "head"])
def test_upserts_and_replaces_next_to_another_change_conflict(kind: ChangeKind, side: str) -> None:
    other = change(kind)
    mine, theirs = (other, ROWS_2) if side == "branch" else (ROWS_1, other)
    decision = decide_table("a", "b", "h", mine, theirs)
    assert decision.step is Step.CONFLICT
    assert decision.reason == f"the {side} changed rows by {kind}"


def test_a_schema_change_of_the_branch_conflicts_when_the_head_moved() -> None:
    mine = change(ChangeKind.BATCH, batches={1}, schema=True)
    assert decide_table("a", "b", "h", mine, ROWS_2).step is Step.CONFLICT
    assert decide_table("a", "b", "h", mine, change(schema=True)).step is Step.CONFLICT


def test_a_changed_partition_conflicts() -> None:
    assert decide_table("a", "b", "h", ROWS_1, change(layout=True)).step is Step.CONFLICT


def test_a_drop_against_a_change_conflicts_either_way() -> None:
    assert decide_table("a", None, "h").step is Step.CONFLICT
    assert decide_table("a", "b", None).step is Step.CONFLICT


def test_compaction_of_the_head_does_not_stand_in_the_way() -> None:
    assert decide_table("a", "b", "h", ROWS_1, change(ChangeKind.COMPACT)).step is Step.REBASE


def test_two_creations_of_one_table_are_joined() -> None:
    assert decide_table(None, "b", "h", ROWS_1, ROWS_2).step is Step.REBASE


def test_every_combination_of_pointers_has_a_decision() -> None:
    for base, branch, head in itertools.product([None, "a", "b", "c"], repeat=3):
        both = needs_differences(base, branch, head)
        given = (ROWS_1, ROWS_2) if both else (None, None)
        assert isinstance(decide_table(base, branch, head, *given).step, Step)
