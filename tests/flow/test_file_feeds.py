"""Feeds of files from elsewhere, in whole pipelines: patterns, connections, what is new, archives, Excel."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pytest

from harness import fileservers
from harness.commands import CommandLine
from harness.fileservers import LOGIN, PASSWORD, FileServer
from harness.objectstore import ObjectStore
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.errors import DefinitionError

OLD = 1_700_000_000


def project(folder: Path, *lines: str) -> CommandLine:
    cli = CommandLine(folder)
    cli.write("tidemill.toml", '[project]\nname = "test"\n')
    head = ["import tidemill as tm", "", 'shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")']
    cli.write("pipelines/shop.py", "\n".join([*head, *lines]))
    return cli


def rows(cli: CommandLine, sql: str) -> list[tuple[object, ...]]:
    told = cli("query", "--json", sql)
    assert told.exit_code == 0, told.stderr
    return [tuple(row.values()) for row in told.object["rows"]]


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    os.utime(folder / name, (OLD, OLD))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "there"
    made.mkdir()
    return made


@pytest.fixture(params=["sftp", "ftp"])
def server(request: pytest.FixtureRequest, there: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A partner's server, and the connection to it."""
    kinds = {"sftp": fileservers.sftp, "ftp": fileservers.ftp}
    with kinds[request.param](there) as made:
        key = f"?host_key={made.key}" if made.key else ""
        monkeypatch.setenv(
            "TIDEMILL_CONN_PARTNER", f"{request.param}://{LOGIN}:{PASSWORD}@127.0.0.1:{made.port}/in{key}"
        )
        yield made


def test_what_is_new_at_a_partners_comes_once_and_again_after_a_failure(
    tmp_path: Path, there: Path, server: FileServer
) -> None:
    cli = project(
        tmp_path / "project",
        'orders = shop.files("*.csv", connection="partner", new=True, complete_after="1s")',
        "orders.expect(tm.col('id') > 0)",
    )
    put(there, "in/a.csv", b"id,v\n1,a\n")
    put(there, "in/ignored.txt", b"no")
    assert cli("-q", "run", "shop", "2026-01-01").exit_code == 0
    put(there, "in/b.csv", b"id,v\n-2,b\n")
    failed = cli("run", "shop", "2026-01-02")
    assert failed.exit_code == 1
    assert PASSWORD not in failed.stdout + failed.stderr
    put(there, "in/b.csv", b"id,v\n2,mended\n")
    assert cli("-q", "run", "shop", "2026-01-02", "--refetch").exit_code == 0
    assert cli("-q", "run", "shop", "2026-01-03").exit_code == 0
    assert rows(cli, "select id, v from orders order by id") == [(1, "a"), (2, "mended")]
    parts = (tmp_path / "project" / ".tidemill" / "archive").rglob("a*-0000-*.csv")
    assert b"id,v\n1,a\n" in [part.read_bytes() for part in parts]


def test_a_changed_file_comes_again_as_it_is_now(tmp_path: Path, there: Path, server: FileServer) -> None:
    cli = project(tmp_path / "project", 'orders = shop.files("*.csv", connection="partner", new=True)')
    put(there, "in/a.csv", b"id,v\n1,a\n")
    assert cli("-q", "run", "shop", "2026-01-01").exit_code == 0
    put(there, "in/a.csv", b"id,v\n1,changed\n")
    assert cli("-q", "run", "shop", "2026-01-02").exit_code == 0
    assert rows(cli, "select _batch_id, v from orders order by 1") == [(1, "a"), (2, "changed")]
    assert cli("-q", "replay", "1").exit_code == 0
    assert rows(cli, "select _batch_id, v from orders order by 1") == [(1, "a"), (2, "changed")]


def test_a_wrong_password_is_one_clear_error(
    tmp_path: Path, there: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["TIDEMILL_CONN_PARTNER"].replace(PASSWORD, "wrong-and-secret")
    monkeypatch.setenv("TIDEMILL_CONN_PARTNER", url)
    cli = project(tmp_path / "project", 'orders = shop.files("*.csv", connection="partner", new=True)')
    told = cli("run", "shop", "2026-01-01")
    assert told.exit_code == 1
    assert "refuses the login" in told.stdout + told.stderr
    assert "wrong-and-secret" not in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr


def test_a_connection_that_is_missing_is_told(tmp_path: Path) -> None:
    cli = project(tmp_path, 'orders = shop.files("*.csv", connection="nobody", new=True)')
    told = cli("run", "shop", "2026-01-01")
    assert told.exit_code == 1
    assert "TIDEMILL_CONN_NOBODY=" in told.stdout + told.stderr


def test_files_of_a_web_server_by_the_day(tmp_path: Path, there: Path) -> None:
    put(there, "days/2026-01-01.csv", b"id\n1\n")
    put(there, "days/2026-01-02.csv", b"id\n2\n")
    with fileservers.web(there) as server:
        cli = project(
            tmp_path / "project",
            f'orders = shop.files("http://127.0.0.1:{server.port}/days/{{{{ ds }}}}.csv?key=1")',
        )
        assert cli("-q", "run", "shop", "2026-01-01..2026-01-02").exit_code == 0
        assert rows(cli, "select id from orders order by id") == [(1,), (2,)]
        kept = sorted(file.name for file in (tmp_path / "project" / ".tidemill" / "archive").rglob("a*.csv*"))
        assert kept == ["a1-0000-2026-01-01.csv", "a1-0000-2026-01-02.csv"], "what a query says is kept nowhere"
        assert cli("-q", "run", "shop", "2026-01-03").exit_code == 1


def test_files_of_a_bucket_by_the_day(
    tmp_path: Path, object_store: ObjectStore, object_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = object_store.bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for day, name, row in (("01", "a", 1), ("01", "b", 2), ("02", "a", 3)):
        object_store.client.put_object(
            Bucket=bucket, Key=f"in/2026-01-{day}/{name}.csv.gz", Body=gzip.compress(f"id\n{row}\n".encode())
        )
    cli = project(tmp_path, f'orders = shop.files("s3://{bucket}/in/{{{{ ds }}}}/*.csv.gz")')
    assert cli("-q", "run", "shop", "2026-01-01..2026-01-02").exit_code == 0
    assert rows(cli, "select _batch_id, id from orders order by id") == [(1, 1), (1, 2), (2, 3)]


def test_an_archive_is_kept_as_it_came_and_a_workbook_is_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["id", "v"])
    book.active.append([3, "excel"])
    workbook, packed = io.BytesIO(), io.BytesIO()
    book.save(workbook)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", "id,v\n1,a\n")
        archive.writestr("deep/b.csv", "id,v\n2,b\nnonsense\n")
        archive.writestr("readme.txt", "not a table")
    put(tmp_path, "in/orders.zip", packed.getvalue())
    put(tmp_path, "in/more.xlsx", workbook.getvalue())
    cli = project(
        tmp_path,
        'orders = shop.files("in/orders.zip", members="*.csv", max_rejected=1)',
        'more = shop.files("in/*.xlsx", excel={"sheet": 1})',
    )
    assert cli("-q", "run", "shop", "2026-01-01").exit_code == 0
    assert rows(cli, "select id, v from orders order by id") == [(1, "a"), (2, "b")]
    assert rows(cli, "select id, v from more") == [(3, "excel")]
    (left,) = rows(cli, "select file, line from orders__quarantine")
    assert left == ("in/orders.zip/deep/b.csv", 3)
    (kept,) = (tmp_path / ".tidemill" / "archive").rglob("*-orders.zip")
    assert kept.read_bytes() == packed.getvalue()
    (tmp_path / "in" / "orders.zip").unlink()
    assert cli("-q", "replay", "1").exit_code == 0
    assert rows(cli, "select id, v from orders order by id") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("pattern", "options", "what"),
    [
        ("gopher://host/x", {}, "No source takes"),
        ("sftp://me:secret@host/in/*.csv", {}, "login"),
        ("https://me@host/x.csv", {}, "login"),
        ("https://host/*.csv", {}, "lists no files"),
        ("s3://bucket", {}, "no path"),
        ("s3://{{ ds }}/x", {}, "no path"),
        ("in/*.csv", {"complete_after": "soon"}, "complete_after"),
        ("in/*.csv", {"done": "../x"}, "done="),
        ("in/*.csv", {"done": "{name}"}, "done="),
        ("in/*.csv", {"new": True, "optional": True}, "optional"),
        ("in/*.csv", {"on_failure": "absorb"}, "on_failure"),
    ],
)
def test_what_cannot_be_is_told_where_it_is_written(pattern: str, options: dict[str, object], what: str) -> None:
    registry.clear()
    shop = Pipeline("shop", "@daily", start="2026-01-01")
    with pytest.raises(DefinitionError, match=what) as caught:
        shop.files(pattern, name="orders", **options)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert __file__ in str(caught.value.where)
