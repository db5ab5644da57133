"""The tables of transitions: every state can be reached, every end is an end, and guards refuse the rest."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.batch import BATCH_TRANSITIONS, BatchState
from tidemill.model.branch import REF_ENDS, REF_TRANSITIONS, RefState
from tidemill.model.run import (
    RUN_ENDS,
    RUN_TRANSITIONS,
    TASK_ENDS,
    TASK_TRANSITIONS,
    IllegalTransition,
    RunState,
    TaskState,
    check_run_transition,
    check_task_transition,
)

TABLES: dict[str, tuple[type[StrEnum], Mapping[Any, frozenset[Any]], StrEnum]] = {
    "run": (RunState, RUN_TRANSITIONS, RunState.QUEUED),
    "task": (TaskState, TASK_TRANSITIONS, TaskState.NONE),
    "batch": (BatchState, BATCH_TRANSITIONS, BatchState.OPEN),
    "ref": (RefState, REF_TRANSITIONS, RefState.OPEN),
}
every_table = pytest.mark.parametrize(("states", "table", "first"), TABLES.values(), ids=TABLES)


def reachable(table: Mapping[Any, frozenset[Any]], first: StrEnum) -> set[StrEnum]:
    found, todo = {first}, [first]
    while todo:
        new = table[todo.pop()] - found
        found |= new
        todo += new
    return found


@every_table
def test_every_state_is_in_the_table_and_can_be_reached(
    states: type[StrEnum], table: Mapping[Any, frozenset[Any]], first: StrEnum
) -> None:
    assert set(table) == set(states)
    assert reachable(table, first) == set(states)


@every_table
def test_no_state_follows_itself(states: type[StrEnum], table: Mapping[Any, frozenset[Any]], first: StrEnum) -> None:
    """Setting the same state again is no transition: it must not look like one."""
    assert all(state not in after for state, after in table.items())


@pytest.mark.parametrize(
    ("table", "ends"), [(RUN_TRANSITIONS, RUN_ENDS), (REF_TRANSITIONS, REF_ENDS)], ids=["run", "ref"]
)
def test_nothing_follows_an_end_and_an_end_follows_everything(
    table: Mapping[Any, frozenset[Any]], ends: frozenset[Any]
) -> None:
    assert ends
    for state in table:
        assert (table[state] == frozenset()) == (state in ends)
        assert reachable(table, state) & ends


def test_a_run_ends_in_success_only_by_publishing() -> None:
    assert [state for state, after in RUN_TRANSITIONS.items() if RunState.SUCCESS in after] == [RunState.PUBLISHING]


def test_publishing_is_never_cancelled() -> None:
    """Cancel keeps the branch and never interrupts a publish (rule 11)."""
    assert RunState.CANCELLED not in RUN_TRANSITIONS[RunState.PUBLISHING]


def test_a_task_succeeds_by_running_or_a_persons_mark_and_leaves_an_end_only_by_being_cleared() -> None:
    """What is marked goes through NONE, like what is cleared."""
    before_success = {state for state, after in TASK_TRANSITIONS.items() if TaskState.SUCCESS in after}
    assert before_success == {TaskState.RUNNING, TaskState.NONE}
    assert all(TASK_TRANSITIONS[end] == {TaskState.NONE} for end in TASK_ENDS)


def test_an_absorbed_batch_never_publishes_and_its_branch_never_merges() -> None:
    """Rule 6: its range was taken over."""
    assert BatchState.PUBLISHED not in reachable(BATCH_TRANSITIONS, BatchState.ABSORBED)
    assert RefState.MERGED not in reachable(REF_TRANSITIONS, RefState.ABSORBED)


@given(before=st.sampled_from(RunState), after=st.sampled_from(RunState))
def test_the_guard_of_runs_lets_through_what_the_table_says(before: RunState, after: RunState) -> None:
    if after in RUN_TRANSITIONS[before]:
        check_run_transition(before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"run: {before} -> {after}"):
            check_run_transition(before, after)


@given(before=st.sampled_from(TaskState), after=st.sampled_from(TaskState))
def test_the_guard_of_tasks_lets_through_what_the_table_says(before: TaskState, after: TaskState) -> None:
    if after in TASK_TRANSITIONS[before]:
        check_task_transition(before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"task: {before} -> {after}"):
            check_task_transition(before, after)
