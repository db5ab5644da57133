"""Slots that nobody reads: how far behind they are, what is left before they are lost, and what is told then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.changing import NAME, Followed, followed
from harness.commands import CommandLine
from harness.postgres import Postgres
from tidemill.adapters.databases.slots import Server
from tidemill.model.cdc import NEW_SLOT
from tidemill.model.errors import DataError

pytestmark = pytest.mark.postgres

ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, total int)"


@pytest.fixture
def shop(postgres: Postgres, tmp_path: Path) -> Iterator[Followed]:
    with followed(postgres, tmp_path, ORDERS, "INSERT INTO orders VALUES (1, 1), (2, 2)") as found:
        (tmp_path / "tidemill.toml").write_text('[project]\nname = "test"\n', encoding="utf-8")
        yield found


@contextlib.contextmanager
def little_is_kept(shop: Followed) -> Iterator[None]:
    """The server keeps 1 MB of its log for a slot, whatever that has given."""
    shop.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        shop.execute("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


def write_log(shop: Followed, files: int = 3) -> None:
    """Have the server end files of its log, without filling them."""
    for _ in range(files):
        shop.execute("SELECT pg_logical_emit_message(false, 'test', 'x')", "SELECT pg_switch_wal()")


class _Reader:
    """Somebody who reads the slot."""

    def __init__(self, shop: Followed) -> None:
        self._connection = psycopg.pq.PGconn.connect(f"{shop.url}?replication=database".encode())
        how = f"(proto_version '1', publication_names '{shop.slot}')"
        self._connection.exec_(f"START_REPLICATION SLOT {shop.slot} LOGICAL 0/0 {how}".encode())

    def close(self) -> None:
        self._connection.finish()


def listed(cli: CommandLine, slot: str) -> dict[str, Any]:
    """What the command says about a slot."""
    found = cli("--json", "data", "slots", NAME).object["slots"]
    return next((one for one in found if one["name"] == slot), {})


def test_a_slot_falls_behind_is_nearly_lost_and_lost_and_another_begins_anew(shop: Followed) -> None:
    cli = CommandLine(shop.project.root)
    shop.run()
    assert listed(cli, shop.slot)["left"] is None
    behind = listed(cli, shop.slot)["lag"]
    shop.execute("DELETE FROM orders WHERE id = 1", "INSERT INTO orders VALUES (3, 3)")
    with little_is_kept(shop):
        assert listed(cli, shop.slot)["left"] > 0
        write_log(shop)
        seen = listed(cli, shop.slot)
        assert seen["lag"] > behind + (32 << 20)
        assert seen["left"] <= 0
        assert not seen["is_lost"]
        assert f"{shop.slot}  " in cli("data", "slots", NAME).stdout
        assert "nearly lost" in cli("data", "slots", NAME).stdout
        shop.execute("CHECKPOINT")
    assert listed(cli, shop.slot) == {**seen, "is_lost": True, "lag": None, "left": None}
    with pytest.raises(DataError, match=r"has lost what it was to give(.|\n)*are lost") as lost:
        shop.run()
    assert f'slot="{shop.slot}_2"' in str(lost.value.hint)
    assert f"tidemill data drop-slot {NAME} {shop.slot}" in str(lost.value.hint)
    dropped = cli("data", "drop-slot", NAME, shop.slot, "--yes")
    assert (dropped.exit_code, listed(cli, shop.slot)) == (0, {})
    publication, shop.slot = shop.slot, f"{shop.slot}_2"
    shop.run(publication=publication, feed={"on_failure": "absorb"})
    assert shop.difference("orders", "id, total") == (0, 0)
    assert listed(cli, shop.slot)["lag"] < 16 << 20


def test_the_slot_of_a_snapshot_may_be_lost_before_it_has_its_name(
    shop: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is published, the server cannot be told of it, and then forgets: as for any other slot."""

    def away(_server: Server, _source: Any) -> None:
        raise DataError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Server, "promoted", away)
        shop.run()
    with little_is_kept(shop):
        write_log(shop)
        shop.execute("CHECKPOINT")
    with pytest.raises(DataError, match="has lost what it was to give") as lost:
        shop.run()
    assert f"drop-slot {NAME} {shop.slot}{NEW_SLOT}" in str(lost.value.hint)


def test_a_slot_that_is_read_is_not_dropped_and_others_are_told_by_name(shop: Followed) -> None:
    cli = CommandLine(shop.project.root)
    shop.run()
    wrong = cli("data", "drop-slot", NAME, f"{shop.slot}x", "--yes")
    assert wrong.exit_code != 0
    assert shop.slot in wrong.stderr
    refused = cli("data", "drop-slot", NAME, shop.slot, given="n\n")
    assert refused.exit_code != 0
    with contextlib.closing(_Reader(shop)):
        assert "is being read" in cli("data", "drop-slot", NAME, shop.slot, "--yes").stderr
        assert listed(cli, shop.slot)["is_active"]
    assert listed(cli, shop.slot)
