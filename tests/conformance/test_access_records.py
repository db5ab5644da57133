"""Promises of the port `access`, over memory, SQLite and PostgreSQL: one test a promise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from harness import access_worker, warm
from harness.records import START
from tidemill.adapters.memory.access import MemoryAccess
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.access import ApiToken, Entry, Result, Role, Session, Tries, User
from tidemill.model.errors import Refused, UnknownName
from tidemill.plan.throttle import LOCK_OUTS
from tidemill.ports.access import AccessRecords
from tidemill.testing.clock import ManualClock
from tidemill.wiring.access import MetadataAccess

HOUR = timedelta(hours=1)
ADA = User("ada", Role.OPERATOR, {"salaries": Role.NONE, "sales": Role.ADMIN}, "hash 1", START, None, START)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[AccessRecords]:
    if request.param == "memory":
        yield MemoryAccess()
        return
    with ExitStack() as stack:
        if request.param == "sqlite":
            path = tmp_path / "m.db"
            path.write_bytes(sqlite_template.read_bytes())
            url = f"sqlite:///{path}"
        else:
            url = stack.enter_context(request.getfixturevalue("postgres").lend(_migrate))
        other = stack.enter_context(SqlMetadata(url, "other", ManualClock()))
        with other.write() as tx:  # another project in the same database, whose users are nobody's here
            tx.access.users.add(User("ada", Role.ADMIN, {}, "theirs", START))
            tx.access.users.add(User("eve", Role.ADMIN, {}, None, START))
            tx.access.tokens.add(token("theirs", "ada"))
            tx.access.sessions.add(session("theirs", "ada"))
            tx.access.failures.lock(["a key"], START)
            tx.access.log.add(Entry(START, "eve", "login", ""))
            tx.access.seen.first("once", START, START + HOUR)
        yield MetadataAccess(stack.enter_context(SqlMetadata(url, "project", ManualClock())))


def _migrate(url: str) -> None:
    with SqlMetadata(url, "project", ManualClock()) as store:
        store.migrate()


def token(token_id: str, user: str = "ada", hours: int = 0) -> ApiToken:
    return ApiToken(
        token_id, user, "for CI \x00", f"digest of {token_id}", Role.VIEWER, START + hours * HOUR, ("sales",),
        START + 9 * HOUR,
    )  # fmt: skip


def session(digest: str, user: str = "ada", made: int = 0, seen: int = 0) -> Session:
    return Session(digest, user, START + made * HOUR, START + seen * HOUR, HERE, "Firefox")


HERE = "192.0.2.7"


def test_users_come_back_as_they_were_put_on_record(records: AccessRecords) -> None:
    with records.write() as tx:
        tx.users.add(User("max", Role.VIEWER, created_at=START))
        tx.users.add(ADA)
    with records.read() as tx:
        assert tx.users.get("ada") == ADA
        assert tx.users.get("eve") is None
        assert [user.name for user in tx.users.all()] == ["ada", "max"]
        assert "hash 1" not in repr(tx.users.all())
    with pytest.raises(Refused, match="already"), records.write() as tx:
        tx.users.add(ADA)
    with records.write() as tx:
        tx.users.update("ada", role=Role.ADMIN, pipelines={}, disabled_at=START + HOUR, password=None)
        assert [user.name for user in tx.users.lock()] == ["ada", "max"]
    with records.read() as tx:
        assert tx.users.get("ada") == User("ada", Role.ADMIN, {}, None, START, START + HOUR, START)
    with pytest.raises(UnknownName, match='no user "adda"') as caught, records.write() as tx:
        tx.users.update("adda", role=Role.NONE)
    assert caught.value.hint == 'did you mean "ada"?'


def test_a_hash_is_renewed_only_where_the_password_is_still_the_same(records: AccessRecords) -> None:
    with records.write() as tx:
        tx.users.add(ADA)
        assert tx.users.rehash("ada", "hash 1", "hash 2")
        assert not tx.users.rehash("ada", "hash 1", "hash 3")
        assert not tx.users.rehash("eve", "hash 1", "hash 3")
        found = tx.users.get("ada")
    assert found is not None
    assert found.password == "hash 2"


def test_an_exception_leaves_everything_as_it_was(records: AccessRecords) -> None:
    with pytest.raises(RuntimeError), records.write() as tx:
        tx.users.add(ADA)
        tx.log.add(Entry(START, "", "login", ""))
        tx.failures.put("a key", Tries(3, START))
        raise RuntimeError
    with records.read() as tx:
        assert tx.users.all() == []
        assert tx.log.page() == []
        assert tx.failures.get(["a key"]) == {}


def test_tokens_are_used_revoked_and_stay_on_record(records: AccessRecords) -> None:
    with records.write() as tx:
        for one in (token("later", hours=2), token("first"), token("other", "max")):
            tx.tokens.add(one)
    with records.write() as tx:
        assert tx.tokens.used("first", START + HOUR, START)
        assert not tx.tokens.used("first", START + 2 * HOUR, START + HOUR), "not more often than asked for"
        assert tx.tokens.used("first", START + 2 * HOUR, START + HOUR + timedelta(seconds=1))
        assert tx.tokens.revoke("first", START + 3 * HOUR)
        assert not tx.tokens.revoke("first", START + 4 * HOUR)
        assert not tx.tokens.revoke("theirs", START)
    with records.read() as tx:
        assert [one.id for one in tx.tokens.all("ada")] == ["first", "later"]
        assert len(tx.tokens.all()) == 3
        found = tx.tokens.get("first")
        assert tx.tokens.get("theirs") is None
    assert found is not None
    assert (found.used_at, found.revoked_at) == (START + 2 * HOUR, START + 3 * HOUR)
    assert (found.pipelines, found.role, found.digest) == (("sales",), Role.VIEWER, "digest of first")
    with pytest.raises(Refused), records.write() as tx:
        tx.tokens.add(token("first"))


def test_sessions_end_one_by_one_all_but_one_and_by_time(records: AccessRecords) -> None:
    with records.write() as tx:
        for one in (
            session("a"),
            session("b", made=1, seen=5),
            session("c", "max", 2, 2),
            session("d", made=3, seen=3),
        ):
            tx.sessions.add(one)
        assert tx.sessions.seen("a", START + HOUR, START + timedelta(seconds=1))
        assert not tx.sessions.seen("a", START + 2 * HOUR, START + HOUR)
        assert [one.seen_at for one in tx.sessions.all("ada")] == [START + n * HOUR for n in (1, 5, 3)]
        assert tx.sessions.end("a")
        assert not tx.sessions.end("a")
        assert not tx.sessions.end("theirs")
        assert tx.sessions.end_all("ada", but="d") == 1
        assert [one.digest for one in tx.sessions.all()] == ["c", "d"]
        assert tx.sessions.forget(START + 3 * HOUR, START) == 1
        assert tx.sessions.forget(START, START + 4 * HOUR) == 1
        assert tx.sessions.get("d") is None


def test_failures_are_kept_by_key_and_forgotten_unless_somebody_is_known(records: AccessRecords) -> None:
    tries = Tries(7, START, START + HOUR, None)
    with records.write() as tx:
        assert tx.failures.lock(["a key", "b"], START) == {"a key": Tries(0, START), "b": Tries(0, START)}
        tx.failures.put("a key", tries)
        tx.failures.put("b", Tries(0, START, None, START))
        tx.failures.put("c", Tries(1, START + HOUR))
    with records.read() as tx:
        assert tx.failures.get(["a key", "b", "x"]) == {"a key": tries, "b": Tries(0, START, None, START)}
    with records.write() as tx:
        assert tx.failures.forget(START + HOUR, START) == 1
        assert tx.failures.forget(START + HOUR, START + HOUR) == 1
        assert tx.failures.get(["a key", "b", "c"]) == {"c": Tries(1, START + HOUR)}


def test_the_log_is_read_by_pages_and_filters_newest_first(records: AccessRecords) -> None:
    with records.write() as tx:
        numbers = [
            tx.log.add(
                Entry(
                    START + n * HOUR,
                    "ada" if n % 2 else "max",
                    "runs.start",
                    f"run {n}",
                    pipeline=["sales", None][n % 2],
                    address=HERE,
                    token="t",
                    detail={"n": [n, None, "ä"]},
                )
            )
            for n in range(6)
        ]
        tx.log.add(Entry(START, "eve", "login", "", Result.REFUSED))
    assert numbers == sorted(set(numbers))
    with records.read() as tx:
        first = tx.log.page(limit=3)
        rest = tx.log.page(before=first[-1].id, limit=100)
        assert [one.target for one in (*first, *rest)] == ["", "run 5", "run 4", "run 3", "run 2", "run 1", "run 0"]
        assert first[1] == Entry(
            START + 5 * HOUR, "ada", "runs.start", "run 5", Result.DONE, numbers[5], None, HERE, "t",
            {"n": [5, None, "ä"]},
        )  # fmt: skip
        assert [one.target for one in tx.log.page(who="max", since=START + HOUR, until=START + 4 * HOUR)] == ["run 2"]
        assert [one.target for one in tx.log.page(pipeline="sales", limit=1)] == ["run 4"]
        assert [one.who for one in tx.log.page(action="login")] == ["eve"]
        assert [one.who for one in tx.log.page(result=Result.REFUSED)] == ["eve"]


def test_the_beginning_of_what_has_ended_is_left_out_and_old_entries_go(records: AccessRecords) -> None:
    with records.write() as tx:
        begun = tx.log.add(Entry(START, "ada", "runs.start", "run 1", Result.BEGUN))
        tx.log.add(Entry(START, "ada", "runs.start", "run 2", Result.BEGUN))
        tx.log.add(Entry(START + HOUR, "ada", "runs.start", "run 1", Result.FAILED, of=begun))
    with records.read() as tx:
        assert [(one.target, one.result) for one in tx.log.page()] == [
            ("run 1", Result.FAILED),
            ("run 2", Result.BEGUN),
        ]
    with records.write() as tx:
        assert tx.log.forget(START + HOUR) == 2
        assert len(tx.log.page()) == 1
        assert tx.log.add(Entry(START, "", "login", "")) > begun + 2, "a number is never given out twice"


def test_the_log_takes_what_a_database_cannot_store(records: AccessRecords) -> None:
    """Names and addresses come from outside."""
    with records.write() as tx:
        tx.log.add(Entry(START, "\x00", "login", "\ud800", address="\x00", detail={"a": "\x00\ud800"}))
        tx.sessions.add(Session("d", "ada", START, START, "\x00", "\ud800"))
        assert len(tx.log.page()) == 1


def test_what_may_come_once_comes_once_until_it_is_forgotten(records: AccessRecords) -> None:
    with records.write() as tx:
        assert tx.seen.first("once", START, START + HOUR)
        assert not tx.seen.first("once", START + HOUR / 2, START + 2 * HOUR)
        assert tx.seen.first("other", START, START + HOUR)
        assert tx.seen.first("once", START + HOUR, START + 2 * HOUR)


@pytest.mark.usefixtures("backend")
def test_two_processes_at_once_count_every_failure_and_lock_out_together(database: str) -> None:
    """Each fails as fast as it can; together they get as many looks as one would."""
    workers = [
        warm.started(
            [sys.executable, str(Path(access_worker.__file__)), database, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    said = []
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline().strip() == "ready"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        told, _ = worker.communicate(timeout=60)
        said += told.split()
        assert worker.returncode == 0
    free = LOCK_OUTS["pair"].free
    assert (said.count("looked"), said.count("locked")) == (free + 1, 2 * 8 - free - 1)
    with SqlMetadata(database, "project", ManualClock()) as store, store.read() as tx:
        assert [one.action for one in tx.access.log.page()] == ["login"] * (free + 1)
