"""`tidemill connections`, and its `secrets`: names and places are shown, values never; tests really connect."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from harness.commands import CommandLine, Told
from harness.objectstore import ObjectStore
from harness.s3keys import KEY, SECRET
from harness.secretplaces import key
from harness.web import WebService, serving
from tidemill.model.masking import hide
from tidemill.wiring.settings import load_settings

CANARY = "hunter2hunter2"


@pytest.fixture(autouse=True)
def _a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    made = CommandLine(tmp_path / "project")
    made.write("tidemill.toml", '[project]\nname = "test"\n')
    return made


def given(cli: CommandLine, text: str, *arguments: str) -> Told:
    """A command with a standard input."""
    return cli(*arguments, given=text)


def test_a_connection_is_added_listed_tested_and_removed(cli: CommandLine, tmp_path: Path) -> None:
    sqlite3.connect(cli.folder / "shop.db").execute("create table t (a)").connection.close()
    added = given(cli, f"postgresql://me:{CANARY}@db.example:5432/shop\n", "connections", "add", "shop_db")
    assert (added.exit_code, added.stdout) == (0, "added  shop_db\nnext: tidemill connections test shop_db\n"), added
    assert given(cli, "sqlite:///shop.db", "connections", "add", "files").exit_code == 0
    made = tmp_path / "home" / ".config" / "tidemill" / "test.key"
    assert made.stat().st_mode & 0o777 == 0o600
    listed = cli("connections", "ls")
    assert listed.out.splitlines() == [
        "connection  kind  host  from",
        "files  sqlite  store",
        "shop_db  postgresql  db.example:5432  store",
        "next: tidemill connections add NAME",
    ]
    assert CANARY not in cli("connections", "ls", "--json").stdout
    assert cli("connections", "test", "files").out.startswith("works  files  connected to ")
    assert cli("connections", "rm", "files").out.startswith("removed  files")
    gone = cli("connections", "rm", "shopdb")
    assert (gone.exit_code, gone.err) == (
        2, 'error: There is no connection in the store "shopdb".\n  try: did you mean "shop_db"?',
    )  # fmt: skip


def test_places_come_in_their_order(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_KEY", key())
    cli.write(".env", f"TIDEMILL_CONN_A=https://me:{CANARY}@two.example\nTIDEMILL_CONN_B=https://b.example\n")
    (cli.folder / ".env").chmod(0o600)
    monkeypatch.setenv("TIDEMILL_CONN_A", f"https://me:{CANARY}@one.example")
    assert given(cli, "https://c.example", "connections", "add", "a").exit_code == 0
    assert given(cli, "https://c.example", "connections", "add", "c").exit_code == 0
    lines = cli("connections", "ls").out.splitlines()[1:4]
    assert lines == [
        "a  https  one.example  TIDEMILL_CONN_A",
        "b  https  b.example  .env",
        "c  https  c.example  store",
    ]


@pytest.mark.parametrize("address", [CANARY, f"https://me:{CANARY}@host:port/x", f"https://[{CANARY}"])
def test_what_is_no_address_is_refused_unseen(cli: CommandLine, address: str) -> None:
    told = given(cli, address, "connections", "add", "bad")
    assert told.exit_code == 2
    assert CANARY not in told.stdout + told.stderr
    assert "no address" in told.stderr


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        (f"postgresql://me:{CANARY}@127.0.0.1:9/shop", 3, "127.0.0.1"),
        (f"mysql://me:{CANARY}@127.0.0.1:9/shop", 3, "127.0.0.1"),
        (f"http://me:{CANARY}@127.0.0.1:9/", 3, "127.0.0.1"),
        (f"sftp://me:{CANARY}@127.0.0.1:9/in", 3, "127.0.0.1"),
        ("sqlite:///nothing.db", 3, "nothing.db"),
        (f"gopher://me:{CANARY}@host/x", 2, "gopher"),
    ],
)
def test_what_does_not_work_is_told_in_a_line(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, address: str, code: int, said: str
) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_SHOP", address)
    told = cli("connections", "test", "shop")
    assert told.exit_code == code, told
    assert said in told.stderr
    assert told.stderr.startswith("error: ")
    assert CANARY not in told.stdout + told.stderr + cli("--debug", "connections", "test", "shop").stderr


def test_several_are_tested_and_without_a_name_all(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite3.connect(cli.folder / "shop.db").execute("create table t (a)").connection.close()
    monkeypatch.setenv("TIDEMILL_CONN_AWAY", f"http://me:{CANARY}@127.0.0.1:9/")
    monkeypatch.setenv("TIDEMILL_CONN_SHOP", "sqlite:///shop.db")
    monkeypatch.setenv("TIDEMILL_CONN_WRONG", f"gopher://me:{CANARY}@host/x")
    told = cli("connections", "test")
    assert [line.split("  ")[:2] for line in told.out.splitlines()] == [
        ["failed", "away"], ["works", "shop"], ["failed", "wrong"],
    ]  # fmt: skip
    assert (told.exit_code, told.stderr.count("error: ")) == (3, 2)
    assert cli("connections", "test", "wrong", "shop").exit_code == 2
    found = cli("connections", "test", "shop", "wrong", "--json").object["connections"]
    assert [(one["connection"], one["works"]) for one in found] == [("shop", True), ("wrong", False)]


def test_a_service_is_asked(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(WebService()) as web:
        monkeypatch.setenv("TIDEMILL_CONN_API", web.url.replace("http://", f"http://me:{CANARY}@"))
        web.then(200, "hello")
        assert cli("connections", "test", "api").out == "works  api  answered 200"
        web.then(401, "")
        told = cli("connections", "test", "api")
        assert told.err == "error: The service refuses who asks: 401.\n  at: connection api"


def test_a_store_of_objects_is_listed(
    cli: CommandLine, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the address as sources say it, and as destinations do."""
    host, bucket = object_store.endpoint.removeprefix("http://"), object_store.bucket()
    for address in (f"{host}/{bucket}?http=true", f"{bucket}/some/where?endpoint_url={object_store.endpoint}"):
        monkeypatch.setenv("TIDEMILL_CONN_S", f"s3://{KEY}:{SECRET}@{address}&region=us-east-1")
        assert cli("connections", "test", "s").out == "works  s  listed, no file at its root"


def test_a_database_in_a_file_that_is_not_there_yet(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_OUT", "duckdb:///out.db")
    told = cli("connections", "test", "out")
    assert (told.exit_code, told.err.splitlines()[0]) == (2, "error: There is no file out.db yet.")
    assert not (cli.folder / "out.db").exists()


def test_a_connection_that_is_not_there_is_offered_the_nearest(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_SHOP_DB", "sqlite:///x.db")
    assert 'did you mean "shop_db"?' in cli("connections", "test", "shopdb").err


def test_secrets_are_kept_rotated_and_renewed(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_KEY", key(1))
    assert given(cli, CANARY, "connections", "secrets", "set", "hash-salt").exit_code == 0
    assert cli("connections", "secrets", "generate", "pii-key").out.startswith("made  pii-key")
    assert cli("connections", "secrets", "generate", "pii-key").out.startswith("rotated  pii-key")
    assert cli("connections", "secrets", "ls").out.splitlines() == [
        "secret  from", "hash-salt  store", "pii-key  store", "next: tidemill connections secrets set NAME"
    ]  # fmt: skip
    monkeypatch.setenv("TIDEMILL_SECRET_KEY", f"{key(2)},{key(1)}")
    assert cli("connections", "secrets", "renew").out == "renewed  2 secrets"
    monkeypatch.setenv("TIDEMILL_SECRET_KEY", key(3))
    told = cli("connections", "secrets", "ls")
    assert "was encrypted by key" in told.stderr
    assert CANARY not in told.stdout + told.stderr


def test_settings_take_values_from_the_env_file_too_and_they_are_hidden(cli: CommandLine) -> None:
    cli.write(".env", f"HOOK_TOKEN={CANARY}\nTIDEMILL_LAKE_URL=elsewhere\n")
    (cli.folder / ".env").chmod(0o600)
    cli.write("tidemill.toml", '[project]\nname = "test"\n[hooks]\ntoken = "env:HOOK_TOKEN"\n')
    settings = load_settings(cli.folder)
    assert settings.hooks is not None
    assert (settings.hooks.token, settings.lake_url) == (CANARY, "elsewhere")
    assert hide(f"Bearer {CANARY}") == "Bearer ***"
    cli.write("tidemill.toml", '[project]\nname = "test"\n[secrets]\nfrom = ["environment", "fiels"]\n')
    assert 'did you mean "files"?' in cli("connections", "ls").err
