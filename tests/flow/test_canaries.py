"""Secrets planted wherever there is a place for them are found nowhere else, after runs that fail and that succeed."""

from __future__ import annotations

import base64
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.commands import CommandLine, Told
from harness.secretplaces import key
from harness.web import WebService, serving
from tidemill.model.masking import GIVEN

PLANTED = {place: f"canary {place} pä55/+&?" for place in ("environment", "dotenv", "file", "store", "token", "salt")}
PIPELINE = """\
import os
import tidemill as tm
from tidemill import sources

shop = tm.Pipeline("shop", "@daily", start="2026-01-01")
{feeds}


@shop.source(policy={{"email": "hash(salty)", "name": "encrypt(pii-key)"}})
def people(interval):
    yield {{"id": 1, "email": "-".join(["person", "canary@x.org"]), "name": " ".join(["Person", "Canary"])}}
"""
TASKS = """\
import logging, subprocess
import tidemill as tm


@tm.dag(schedule="@daily", start_date="2026-01-01")
def tell():
    @tm.task
    def shout(ti=None):
        from tidemill.wiring.secrets import connections_of
        from tidemill.wiring.settings import load_settings

        for name in ("environment", "dotenv", "file", "store"):
            found = connections_of(load_settings()).get(name)
            print(found["password"], found)
            logging.getLogger("x").error("%s", found)
            print(subprocess.check_output(["echo", found["password"]]).decode())
        if {fails}:
            raise ValueError(found["password"])

    shout()


tell()
"""


def forms(value: str) -> Iterator[bytes]:
    for form in (
        value,
        quote(value, safe=""),
        repr(value)[1:-1],
        base64.b64encode(value.encode()).decode().rstrip("="),
    ):
        yield form.encode()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """A project with a secret in each place, and a service that refuses some of them."""
    for name in [n for n in os.environ if n.startswith("TIDEMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIDEMILL_SECRET_KEY", key(9))
    made = CommandLine(tmp_path / "project")
    made.write(
        "tidemill.toml",
        '[project]\nname = "test"\n[secrets]\nfolder = "../mounted"\n[archive]\nencrypt = "archive-key"\n',
    )
    with serving(WebService()) as web:

        def address(place: str) -> str:
            return f"{web.url}/base".replace("//", f"//me:{quote(PLANTED[place], safe='')}@")

        monkeypatch.setenv("TIDEMILL_CONN_ENVIRONMENT", address("environment"))
        monkeypatch.setenv("TIDEMILL_SECRET_ARCHIVE_KEY", key(8))
        env = f"TIDEMILL_CONN_DOTENV={address('dotenv')}\nSHOP_TOKEN='{PLANTED['token']}'\n"
        (tmp_path / "project" / ".env").write_text(env)
        (tmp_path / "project" / ".env").chmod(0o600)
        (tmp_path / "mounted" / "connections").mkdir(parents=True)
        (tmp_path / "mounted" / "connections" / "file").write_text(address("file"))
        assert made("connections", "add", "store", given=address("store")).exit_code == 0
        assert made("connections", "secrets", "set", "salty", given=PLANTED["salt"]).exit_code == 0
        assert made("connections", "secrets", "generate", "pii-key").exit_code == 0
        made.web = web  # type: ignore[attr-defined]
        yield made


def leaks(cli: CommandLine, told: list[Told]) -> list[str]:
    """Where a form of a secret stands: outputs, and files of the project but the `.env`."""
    texts = {f"output {at}": (one.stdout + one.stderr).encode() for at, one in enumerate(told)}
    for path in cli.folder.rglob("*"):
        if path.is_file() and path.name != ".env":
            content = path.read_bytes()
            texts[str(path.relative_to(cli.folder))] = content
    for database in (cli.folder / ".tidemill").glob("*.db"):
        with sqlite3.connect(database) as opened:
            texts[f"dump of {database.name}"] = "\n".join(opened.iterdump()).encode()
    found = []
    for where, content in texts.items():
        if content[:4] == b"\x28\xb5\x2f\xfd":
            import zstandard

            content += zstandard.ZstdDecompressor().decompressobj().decompress(content)
        elif content[:2] == b"\x1f\x8b":
            content += zlib.decompress(content, 31)
        for place, value in [*PLANTED.items(), ("key", key(9)), ("archive key", key(8))]:
            found += [f"{place} in {where}" for form in forms(value) if form in content]
        for value in (b"person-canary", b"Person Canary"):
            found += [f"{value!r} in {where}"] if value in content else []
    return found


REST = 'shop.source(sources.rest("{path}", connection="{name}"{more}), name="{name}")'


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "succeeds"])
def test_no_secret_is_written_down(cli: CommandLine, fails: bool) -> None:
    names = ("environment", "dotenv", "file", "store")
    feeds = [REST.format(path="x", name=name, more="") for name in names]
    url = cli.web.url  # type: ignore[attr-defined]
    feeds.append(f'shop.source(sources.rest("{url}/t", auth=sources.bearer(token="env:SHOP_TOKEN")), name="tok")')
    cli.write("pipelines/shop.py", PIPELINE.format(feeds="\n".join(feeds)))
    cli.write("pipelines/tell.py", TASKS.format(fails=fails))
    for _ in range(12):
        cli.web.then(401 if fails else 200, {"id": 1})  # type: ignore[attr-defined]
    told = [
        cli.process("--debug", "run", "shop", "2026-01-01"),
        cli.process("--debug", "run", "tell", "2026-01-01"),
        cli.process("--debug", "connections", "test", "store"),
    ]
    for arguments in ("connections ls", "connections ls --json", "secrets ls", "data batches", "doctor"):
        GIVEN.forget()  # as a process that has been given nothing yet
        told.append(cli(*arguments.split()))
    assert [(one.exit_code == 0) for one in told[:2]] == [not fails] * 2, told
    logs = b"".join(p.read_bytes() for p in (cli.folder / ".tidemill" / "logs").rglob("*") if p.is_file())
    assert logs.count(b"***") >= 12, "what tasks have said is there, but for the secrets"
    asked = {asked.headers.get("authorization", "") for asked in cli.web.asked}  # type: ignore[attr-defined]
    if not fails:
        assert len(asked) == 5, "each secret was used"
    assert leaks(cli, told) == []
