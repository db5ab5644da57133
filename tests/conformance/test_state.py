"""Conformance of the port `state`: one test a promise, over every adapter; then what only a disk can show."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import state_worker, warm
from harness.examples import few
from harness.services import tell
from harness.state_worker import ON_DISK, STATES, TOGETHER
from tidemill.model.errors import Busy, DataError, Refused, Unreachable
from tidemill.ports.state import StateStore, StateStores, after

NAME = "stream/step/0"
on_disk = pytest.mark.parametrize("kind", ON_DISK)


@pytest.fixture(params=STATES)
def states(request: pytest.FixtureRequest, tmp_path: Path) -> StateStores:
    return STATES[request.param](tmp_path)


@pytest.fixture
def store(states: StateStores) -> Iterator[StateStore]:
    opened = states.open(NAME)
    yield opened
    opened.close()


def content(store: StateStore, prefix: bytes = b"") -> dict[bytes, bytes]:
    return dict(store.scan(prefix))


def test_a_new_store_is_empty_and_has_no_mark(store: StateStore) -> None:
    assert store.mark is None
    assert content(store) == {}
    assert store.get([b"", b"a"]) == [None, None]
    assert store.get([]) == []


def test_a_write_sets_and_removes_values_together_with_the_mark(store: StateStore) -> None:
    store.write([(b"a", b"1"), (b"b", b""), (b"", b"empty key")], b"m1")
    store.write([(b"a", None), (b"c", b"\x00\xff"), (b"never", None)], b"m2")
    assert store.mark == b"m2"
    assert store.get([b"c", b"a", b"b", b"", b"c"]) == [b"\x00\xff", None, b"", b"empty key", b"\x00\xff"]
    store.write([], b"m3")
    assert (store.mark, len(content(store))) == (b"m3", 3)


def test_of_several_changes_of_a_key_the_last_counts(store: StateStore) -> None:
    store.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2"), (b"c", b"1"), (b"c", b"3")], b"m")
    assert content(store) == {b"b": b"2", b"c": b"3"}


def test_changes_that_cannot_be_told_leave_the_store_as_it_was(store: StateStore) -> None:
    store.write([(b"a", b"1")], b"m1")

    def broken() -> Iterator[tuple[bytes, bytes | None]]:
        yield b"a", b"2"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(broken(), b"m2")
    assert (content(store), store.mark) == ({b"a": b"1"}, b"m1")


def test_what_was_written_is_there_when_it_is_opened_again(states: StateStores) -> None:
    store = states.open(NAME)
    store.write([(b"a", b"1"), (b"b", b"2")], b"m1")
    store.close()
    again = states.open(NAME)
    assert (content(again), again.mark) == ({b"a": b"1", b"b": b"2"}, b"m1")
    again.close()


def test_clear_removes_everything_and_the_store_can_be_used_on(states: StateStores) -> None:
    store = states.open(NAME)
    store.write([(b"%d" % n, b"x" * 100) for n in range(20_000)] + [(b"\xff" * 9, b"")], b"m")
    full = store.size()
    store.clear()
    assert (content(store), store.mark, store.get([b"1"])) == ({}, None, [None])
    assert store.size() < full / 5
    store.write([(b"a", b"1")], b"m1")
    store.close()
    again = states.open(NAME)
    assert (content(again), again.mark) == ({b"a": b"1"}, b"m1")
    again.close()


some_keys = st.binary(max_size=3) | st.lists(st.sampled_from([b"\x00", b"a", b"\xff"]), max_size=4).map(b"".join)


@given(keys=st.sets(some_keys, max_size=30), prefix=some_keys)
@settings(max_examples=few(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scan_gives_keys_of_a_prefix_in_the_order_of_their_bytes(
    store: StateStore, keys: set[bytes], prefix: bytes
) -> None:
    store.clear()
    store.write([(key, b"v" + key) for key in keys], b"m")
    assert list(store.scan(prefix)) == [(key, b"v" + key) for key in sorted(keys) if key.startswith(prefix)]
    assert list(store.scan()) == [(key, b"v" + key) for key in sorted(keys)]


@given(prefix=some_keys, key=some_keys)
def test_after_is_the_end_of_a_prefix(prefix: bytes, key: bytes) -> None:
    end = after(prefix)
    assert key.startswith(prefix) == (key >= prefix and (end is None or key < end))


writes = st.lists(
    st.tuples(st.lists(st.tuples(some_keys, st.none() | st.binary(max_size=4)), max_size=12), st.binary(max_size=3)),
    max_size=6,
)


@given(writes=writes)
@settings(max_examples=few(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_is_a_dictionary(
    store: StateStore, writes: list[tuple[list[tuple[bytes, bytes | None]], bytes]]
) -> None:
    store.clear()
    model: dict[bytes, bytes] = {}
    for changes, mark in writes:
        store.write(iter(changes), mark)
        for key, value in changes:
            model.pop(key, None)
            if value is not None:
                model[key] = value
        assert store.mark == mark
    assert list(store.scan()) == sorted(model.items())
    asked = [key for changes, _ in writes for key, _ in changes]
    assert store.get(asked) == [model.get(key) for key in asked]


def test_large_keys_and_values_are_kept(store: StateStore) -> None:
    large = random.Random(1).randbytes(64 << 20)
    key = b"k" * (64 << 10)
    store.write([(key, large), (b"small", b"1")], b"m")
    assert store.get([key, b"small"]) == [large, b"1"]
    assert next(store.scan(b"k"))[1] == large


def test_asking_for_many_keys_gives_each_its_value(store: StateStore) -> None:
    store.write([(b"%d" % n, b"v%d" % n) for n in range(0, 5_000, 2)], b"m")
    asked = [b"%d" % n for n in range(5_000)]
    assert store.get(asked) == [b"v%d" % n if n % 2 == 0 else None for n in range(5_000)]


def test_stores_of_different_names_know_nothing_of_each_other(states: StateStores) -> None:
    names = ["a", "a/b", "a.b", "a/b/c", "A", "a-b_c.0"]
    opened = {name: states.open(name) for name in names}
    for name, one in opened.items():
        one.write([(b"name", name.encode())], name.encode())
    assert states.names() == sorted(names)
    for name, one in opened.items():
        assert (content(one), one.mark) == ({b"name": name.encode()}, name.encode())
        one.close()


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a b", "../a" + "x" * 200, "a+b", "a\n"])
def test_a_name_with_other_characters_is_refused(states: StateStores, name: str) -> None:
    for use in (states.open, states.remove):
        with pytest.raises(Refused):
            use(name)


def test_a_name_of_dots_stays_in_the_folder(states: StateStores, tmp_path: Path) -> None:
    store = states.open("../up")
    store.write([(b"a", b"1")], b"m")
    store.close()
    assert states.names() == ["../up"]
    assert not (tmp_path.parent / "up").exists()


def test_remove_deletes_a_store_that_nobody_uses(states: StateStores) -> None:
    states.remove(NAME)
    store = states.open(NAME)
    store.write([(b"a", b"1")], b"m")
    with pytest.raises(Busy):
        states.remove(NAME)
    assert content(store) == {b"a": b"1"}
    store.close()
    states.remove(NAME)
    assert states.names() == []
    again = states.open(NAME)
    assert (content(again), again.mark) == ({}, None)
    again.close()


def test_a_store_is_open_once(states: StateStores) -> None:
    store = states.open(NAME)
    with pytest.raises(Busy):
        states.open(NAME)
    store.write([(b"a", b"1")], b"m")
    store.close()
    states.open(NAME).close()


# What only a disk can show.


def worker(action: str, kind: str, folder: Path) -> warm.Child | subprocess.Popen[Any]:
    command = [sys.executable, str(state_worker.__file__), action, kind, str(folder)]
    path = os.pathsep.join([str(Path(state_worker.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    pipe = subprocess.PIPE
    return warm.started(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, "PYTHONPATH": path})


def answer(action: str, kind: str, folder: Path) -> list[str]:
    with worker(action, kind, folder) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.split()


@on_disk
def test_a_killed_process_leaves_its_last_whole_write(kind: str, tmp_path: Path) -> None:
    states, chance, told = STATES[kind](tmp_path), random.Random(7), 0
    for _ in range(6):
        with worker("write_for_ever", kind, tmp_path) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                told = int(process.stdout.readline())
            time.sleep(chance.random() / 100)  # lets the kill land anywhere in a write
            process.kill()
            told = int((process.stdout.read().split() or [told])[-1])
        store = states.open(NAME)
        reached = int(store.mark or b"0")
        assert reached in (told, told + 1)
        wanted = {key: value for key, value in state_worker.numbered(reached) if value is not None}
        assert content(store) == wanted
        assert len(wanted) in (TOGETHER, TOGETHER // 2)
        store.close()


@on_disk
def test_two_processes_cannot_have_a_store_open(kind: str, tmp_path: Path) -> None:
    states = STATES[kind](tmp_path)
    with worker("hold", kind, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="in use"):
            states.open(NAME)
        with pytest.raises(Busy):
            states.remove(NAME)
        process.kill()
    states.open(NAME).close()


@on_disk
def test_a_full_disk_changes_nothing_and_ends_well(kind: str, tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's end: the system refuses the same calls, half-done, too."""
    written, *kept = answer("fill", kind, tmp_path)
    assert int(written) > 2
    assert kept == ["True", "True", "True"]
    store = STATES[kind](tmp_path).open(NAME)
    assert store.get([b"first", b"last"]) == [b"1", b"1"]
    assert len(content(store, b"fill")) == int(written) * 4
    store.close()


@on_disk
def test_a_folder_that_cannot_be_made_is_told(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match=NAME):
        STATES[kind](tmp_path / "file" / "states").open(NAME)


def damage(folder: Path, suffixes: tuple[str, ...]) -> None:
    """Write noise over the middle three quarters of files."""
    chance = random.Random(3)
    hit = [path for path in folder.rglob("*") if path.is_file() and path.name.endswith(suffixes)]
    assert hit
    for path in hit:
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 8 : len(raw) * 7 // 8] = chance.randbytes(len(raw) * 7 // 8 - len(raw) // 8)
        path.write_bytes(raw)


@on_disk
def test_damage_is_told_and_the_store_can_be_removed(kind: str, tmp_path: Path) -> None:
    states = STATES[kind](tmp_path)
    store = states.open(NAME)
    for start in range(0, 60_000, 20_000):
        store.write([(b"%06d" % n, os.urandom(200)) for n in range(start, start + 20_000)], b"m")
    store.close()
    damage(tmp_path, (".sst", ".state"))

    def read(use: Callable[[StateStore], object]) -> None:
        damaged = states.open(NAME)
        try:
            use(damaged)
        finally:
            damaged.close()

    for use in (content, lambda store: store.get([b"%06d" % n for n in range(0, 60_000, 500)])):
        with pytest.raises(DataError, match="damaged"):
            read(use)
    states.remove(NAME)
    fresh = states.open(NAME)
    assert (content(fresh), fresh.mark) == ({}, None)
    fresh.close()


@pytest.mark.parametrize(("kind", "first"), [("rocksdict", "CURRENT"), ("sqlite", ".state")])
def test_files_of_something_else_are_told_when_opened(kind: str, first: str, tmp_path: Path) -> None:
    states: StateStores = STATES[kind](tmp_path)
    store = states.open(NAME)
    store.write([(b"a", b"1")], b"m")
    store.close()
    for path in [path for path in tmp_path.rglob("*") if path.name.endswith(first)]:
        path.write_bytes(b"no state at all\n" * 100)
    with pytest.raises(DataError, match=NAME):
        states.open(NAME)
    states.remove(NAME)
    states.open(NAME).close()


@on_disk
def test_memory_does_not_grow_with_the_number_of_keys(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """1M keys of 30 bytes: Python's dictionary of them would take 170 MB."""
    grown, bytes_of_a_key = map(int, answer("many", kind, tmp_path))
    tell(request, f"state in {kind}: 1M keys, {grown} MiB of memory, {bytes_of_a_key} bytes of disk a key")
    assert grown < 120
    assert bytes_of_a_key < 150


@on_disk
def test_many_stores_fit_in_one_process(kind: str, tmp_path: Path) -> None:
    states: StateStores = STATES[kind](tmp_path)
    before = state_worker.resident()
    opened = [states.open(f"stream/{n}") for n in range(40)]
    for store in opened:
        store.write([(b"%d" % n, b"v" * 20) for n in range(500)], b"m")
    assert state_worker.resident() - before < 40 * 3
    for store in opened:
        store.close()


def test_every_adapter_is_tested() -> None:
    folder = Path(state_worker.__file__).parents[2] / "src" / "tidemill" / "adapters"
    assert len(list(folder.glob("*/state.py"))) == len(STATES)
