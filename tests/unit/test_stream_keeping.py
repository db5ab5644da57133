"""`Kept`: what a task remembers is what its last checkpoint says, wherever it dies; and recovery tells what it does."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.keeping import LOG, Full, Task
from harness.state_worker import STATES
from tidemill.adapters.memory.state import MemoryState, MemoryStates
from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.recovery import BATCH, Ending, Mark, Recovering
from tidemill.model.errors import Refused, Unreachable
from tidemill.ports.topic import Messages, Partition, TopicSpec
from tidemill.testing.clock import ManualClock


def test_operators_see_their_own_changes_at_once() -> None:
    task = Task()
    task.kept.put(b"b", b"1")
    task.commit()
    task.kept.put(b"a", b"2")
    task.kept.put(b"c", b"3")
    task.kept.put(b"b", None)
    assert task.kept.get([b"a", b"b", b"c", b"d", b"a"]) == [b"2", None, b"3", None, b"2"]
    assert list(task.kept.scan()) == [(b"a", b"2"), (b"c", b"3")]
    assert task.store.get([b"a", b"b"]) == [None, b"1"]


def test_a_scan_does_not_see_changes_made_meanwhile() -> None:
    task = Task()
    for key in (b"a", b"b", b"c"):
        task.kept.put(key, b"1")
    seen = []
    for key, _ in task.kept.scan():
        seen.append(key)
        task.kept.put(key, None)
        task.kept.put(key + b"x", b"2")
    assert seen == [b"a", b"b", b"c"]


def test_what_is_as_the_last_checkpoint_had_it_is_not_logged() -> None:
    task = Task(cache=1 << 20)
    task.kept.put(b"a", b"1")
    task.kept.put(b"b", b"1")
    assert task.commit() == 2
    assert task.kept.get([b"c"]) == [None]
    for key, value in ((b"a", b"2"), (b"a", b"1"), (b"b", b"2"), (b"c", b"1"), (b"c", None)):
        task.kept.put(key, value)
    assert task.commit() == 1
    assert task.logged()[2:] == [(b"b", b"2")]
    assert task.commit() == 0


def test_messages_go_to_the_partition_of_the_task_with_none_for_removals() -> None:
    task = Task()
    task.kept.put(b"a", b"1")
    task.commit()
    task.kept.put(b"a", None)
    task.commit()
    assert task.logged() == [(b"a", b"1"), (b"a", None)]
    info = task.topics.describe(LOG.topic)
    assert info is not None
    assert info.end == (0, 2)


def test_the_mark_says_checkpoint_offset_time_and_topology() -> None:
    task = Task()
    task.kept.put(b"a", b"1")
    task.clock.advance(5)
    task.commit()
    assert task.store.mark is not None
    mark = Mark.unpacked(task.store.mark)
    assert mark == Mark("v1", covered=1, at=task.clock.now(), checkpoint=1)
    assert mark == task.kept.mark


def test_an_idle_task_keeps_its_mark_young_without_writing_each_time() -> None:
    task = Task()
    first = task.store.mark
    task.clock.advance(10)
    task.commit()
    assert task.store.mark == first
    task.clock.advance(60)
    task.commit()
    assert task.store.mark != first


keys = st.sampled_from([b"", b"a", b"a1", b"\xff"])
steps = st.one_of(
    st.tuples(st.just("put"), keys, st.binary(max_size=2)),
    st.tuples(st.just("remove"), keys),
    st.tuples(st.just("read"), st.lists(keys, max_size=4), keys),
    st.tuples(st.sampled_from(["commit", "commit", "compact", "abort", "disk full", "disk full"])),
    # Where the process dies in a checkpoint, and what becomes of its store.
    st.tuples(
        st.just("die"),
        st.sampled_from(["before the log", "before the commit", "before the store", "after all"]),
        st.sampled_from(["store as it is", "older store", "no store", "rests after two hours", "rests for a day"]),
    ),
)


@given(history=st.lists(steps, min_size=12, max_size=50), cache=st.sampled_from([0, 800, 100_000]))
@settings(max_examples=few(400), deadline=None)
def test_state_is_what_the_last_checkpoint_said_wherever_the_process_dies(
    history: list[tuple[str, ...]], cache: int
) -> None:
    """400 histories of changes, checkpoints, deaths at every point of them, stores that are lost or of yesterday."""
    store = Full()
    task = Task(store=store, cache=cache)
    committed: dict[bytes, bytes] = {}
    now: dict[bytes, bytes] = {}
    for step in history:
        if step[0] == "put":
            task.kept.put(step[1], step[2])
            now[step[1]] = step[2]
        elif step[0] == "remove":
            task.kept.put(step[1], None)
            now.pop(step[1], None)
        elif step[0] == "read":
            assert task.kept.get(step[1]) == [now.get(key) for key in step[1]]
            wanted = sorted((key, value) for key, value in now.items() if key.startswith(step[2]))
            assert list(task.kept.scan(step[2])) == wanted
        elif step[0] == "commit":
            task.commit()
            committed = dict(now)
        elif step[0] == "compact":
            # These topics keep no removal, which others do for a day: no store of before is in question then.
            if not task.kept._behind:
                task.topics.tidy(task.clock.now())
                store.older.clear()
        elif step[0] == "abort":
            task.kept.log(task.writer)
            task.writer.abort()
            task.kept.forget()
            now = dict(committed)
        elif step[0] == "disk full":
            store.full = True
            with contextlib.suppress(Unreachable):
                task.commit()
            store.full = False
            committed = dict(now)
        else:
            die(task, store, step[1], step[2])
            if step[1] in ("before the store", "after all"):
                committed = dict(now)
            now = dict(committed)
            assert task.all() == now
    assert task.all() == now
    task.start()
    assert task.all() == committed


def die(task: Task, store: Full, where: str, then: str) -> None:
    if where != "before the log":
        task.kept.log(task.writer)
    if where in ("before the store", "after all"):
        task.writer.commit({})
    if where == "after all":
        task.kept.committed(77)
    if then == "older store" and store.older:
        store.fall_back()
    elif then == "no store":
        store.clear()
    elif then == "rests after two hours":
        task.clock.advance(timedelta(hours=2))
    elif then == "rests for a day":
        task.clock.advance(timedelta(hours=25))
        task.topics.tidy(task.clock.now())
    task.start()


@pytest.mark.parametrize("kind", STATES)
def test_recovery_reads_only_what_the_store_lacks(kind: str, tmp_path: Path) -> None:
    task = Task(store=STATES[kind](tmp_path).open("delays/1"))
    for number in range(10):
        task.kept.put(b"%d" % number, b"1")
        task.commit()
    task.kept.put(b"0", b"2")
    task.kept.put(b"1", None)
    task.kept.log(task.writer)
    task.writer.commit({})
    told = task.start()
    assert (told[0], told[-1]) == (Recovering(LOG, 0, 2), Recovering(LOG, 2, 2))
    assert task.all() == {b"0": b"2"} | {b"%d" % n: b"1" for n in range(2, 10)}
    assert task.start()[-1] == Recovering(LOG, 0, 0)
    task.kept.close()


def test_a_changelog_that_ends_in_what_compaction_removed_is_recovered_to_its_end() -> None:
    task = Task()
    task.kept.put(b"a", b"1")
    task.commit()
    task.kept.put(b"a", None)
    task.commit()
    task.topics.tidy(task.clock.now())
    task.store.clear()
    assert task.start()[-1].total == 2
    assert task.kept.mark.covered == 2


def test_a_store_that_may_lack_removals_is_made_anew() -> None:
    """After half of the time for which removals are kept."""
    for hours, found in ((11, {b"old": b"1"}), (13, {})):
        task = Task()
        task.kept.put(b"old", b"1")
        task.commit()
        older = copy.deepcopy((task.store._mark, task.store._values))  # type: ignore[attr-defined]
        task.kept.put(b"old", None)
        task.commit()
        task.topics.tidy(task.clock.now())
        task.clock.advance(timedelta(hours=hours))
        task.store._mark, task.store._values = older  # type: ignore[attr-defined]
        task.start()
        assert task.all() == found


def test_an_interrupted_recovery_is_as_old_as_its_beginning() -> None:
    """A removal that was not reached may be given up while recovery rests."""
    task = Task()
    task.kept.put(b"a", b"1")
    task.commit()
    began = task.clock.now()
    task.store.clear()
    answers = iter([False, True])
    task.topics.writer("task 1").send(LOG.topic, [b"x"] * BATCH, keys=[b"b"] * BATCH, partitions=1)
    told = task.start(stop=lambda: next(answers))
    assert told[-1].done == BATCH
    task.clock.advance(60)
    assert task.store.mark is not None
    mark = Mark.unpacked(task.store.mark)
    assert mark is not None
    assert (mark.at, mark.covered) == (began, BATCH)
    assert task.start()[0].total == 1
    assert task.all() == {b"a": b"1", b"b": b"x"}


def test_state_of_other_code_is_used_only_where_the_caller_says_so() -> None:
    task = Task()
    task.kept.put(b"a", b"1")
    task.commit()
    assert task.start(topology="v2", compatible=lambda known: known == "v1")[0].total == 0
    assert task.start(topology="v3", compatible=lambda known: known == "v3")[0].total == 1
    assert task.all() == {b"a": b"1"}
    assert task.kept.mark.topology == "v3"


def test_a_store_without_a_mark_that_can_be_read_is_made_anew() -> None:
    task = Task()
    task.kept.put(b"a", b"1")
    task.commit()
    for mark in (b"", b"[]", b'{"covered": 1}', b"\xff"):
        task.store.write([(b"wrong", b"1")], mark)
        assert task.start()[0].total == 1
        assert task.all() == {b"a": b"1"}


def test_a_store_ahead_of_its_changelog_is_refused_with_the_way_out() -> None:
    task = Task()
    task.kept.put(b"a", b"1")
    task.commit()
    task.topics.delete(LOG.topic)
    task.topics.create(TopicSpec(LOG.topic, partitions=2, cleanup="compact"))
    # Also where the store is so old that it would be made anew: from nothing.
    for _ in range(2):
        with pytest.raises(Refused, match="deleted, and made again") as refused:
            task.start(ending=Ending(rebuild="tidemill stream reset flights.delays"))
        assert refused.value.hint == "tidemill stream reset flights.delays makes the state anew"
        assert task.store.get([b"a"]) == [b"1"]
        task.clock.advance(timedelta(days=2))


class Silent:
    """A reader whose broker has gone after some messages."""

    def __init__(self, clock: ManualClock, messages: list[Messages]) -> None:
        self.clock, self.messages = clock, messages

    def take(self, positions: object) -> None: ...
    def drop(self, partitions: object) -> None: ...

    def read(self, limit: int, timeout: float) -> list[Messages]:
        self.clock.advance(timeout)
        return [self.messages.pop(0)] if self.messages else []

    def ends(self) -> dict[Partition, int]:
        return {LOG: 100}

    def lost(self) -> dict[Partition, tuple[int, int]]:
        return {}


def test_recovery_from_a_broker_that_says_nothing_ends() -> None:
    task = Task()
    task.topics.writer("task 1").send(LOG.topic, [b"x"] * 100, keys=[b"b"] * 100, partitions=1)
    kept = Kept(MemoryState(), LOG, task.clock, "v1")
    info = task.topics.describe(LOG.topic)
    assert info is not None
    began = task.clock.monotonic()
    some = Messages(LOG, [0, 1], [0, 0], [b"a", b"b"], [b"1", b"1"])
    with pytest.raises(Unreachable, match="nothing has come from its changelog for 30 s"):
        kept.recover(Silent(task.clock, [some]), info, ending=Ending(patience=30))  # type: ignore[arg-type]
    assert 30 <= task.clock.monotonic() - began < 32
    assert kept.mark.covered == 0


def test_what_an_at_least_once_writer_cannot_take_back_is_sent_again_as_it_is() -> None:
    """Else a later recovery would bring back what the task has forgotten."""
    task = Task(guarantee="at-least-once")
    task.kept.put(b"a", b"1")
    task.commit()
    task.kept.put(b"a", b"wrong")
    task.kept.put(b"b", b"wrong")
    task.kept.log(task.writer)
    task.writer.abort()
    task.kept.forget()
    assert task.kept.get([b"a", b"b"]) == [b"1", None]
    task.commit()
    task.store.clear()
    task.start()
    assert task.all() == {b"a": b"1"}


def test_a_full_disk_loses_nothing_that_was_committed() -> None:
    store = Full()
    task = Task(store=store)
    task.kept.put(b"a", b"1")
    store.full = True
    with pytest.raises(Unreachable):
        task.commit()
    task.kept.put(b"b", b"2")
    task.kept.forget()
    assert task.all() == {b"a": b"1"}
    store.full = False
    task.kept.put(b"b", b"3")
    task.commit()
    assert dict(store.scan()) == {b"a": b"1", b"b": b"3"}
    assert task.kept.mark.covered == 2


def test_values_that_change_back_and_forth_over_a_full_disk_are_logged() -> None:
    """What is held in memory of before is not what the last checkpoint had."""
    store = Full()
    task = Task(store=store, cache=1 << 20)
    for value, full in ((b"1", False), (b"2", True), (b"1", False)):
        store.full = full
        task.kept.put(b"a", value)
        with contextlib.suppress(Unreachable):
            assert task.commit() == 1
        assert task.all() == {b"a": value}
    assert task.logged() == [(b"a", b"1"), (b"a", b"2"), (b"a", b"1")]


def test_the_cache_is_bounded_and_changes_are_held_in_any_case() -> None:
    task = Task(cache=10_000)
    for number in range(1_000):
        task.kept.put(b"%d" % number, b"x" * 100)
    task.commit()
    assert task.kept.get([b"%d" % n for n in range(1_000)]) == [b"x" * 100] * 1_000
    clean = task.kept._clean
    assert len(clean._young) + len(clean._old) < 60
    for number in range(1_000):
        task.kept.put(b"%d" % number, b"y" * 100)
    assert task.kept.changed == 1_000
    assert task.kept.get([b"7", b"999"]) == [b"y" * 100] * 2


def test_stores_in_memory_outlive_their_task() -> None:
    states = MemoryStates()
    task = Task(store=states.open("delays/1"))
    task.kept.put(b"a", b"1")
    task.commit()
    task.kept.put(b"b", b"lost")
    task.kept.close()
    task.store = states.open("delays/1")
    assert task.start()[0].total == 0
    assert task.all() == {b"a": b"1"}


def recovered(pairs: Iterator[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    return {key: value for key, value in dict(pairs).items() if value is not None}


@given(messages=st.lists(st.tuples(keys, st.none() | st.binary(max_size=2)), max_size=30), cut=st.integers(0, 30))
@settings(max_examples=few(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_messages_twice_does_no_harm(
    messages: list[tuple[bytes, bytes | None]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The mark may lie before what is covered: the newest message of each key comes last all the same."""
    task = Task()
    writer = task.topics.writer("task 1")
    writer.send(LOG.topic, [v for _, v in messages], keys=[k for k, _ in messages], partitions=1)
    task.store.write(messages, Mark("v1", min(cut, len(messages)), task.clock.now()).packed())
    task.start()
    assert task.all() == recovered(iter(messages))
