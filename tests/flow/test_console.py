"""People's SQL, rows by conditions, and raw files, over the API's real server: what they give, refuse, and end."""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from pyarrow import parquet
from starlette.requests import Request

from harness.project import Project
from harness.secretplaces import key
from harness.webapi import Api, serving
from tidemill.flow.branches import create_branch
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.model.errors import SettingsError, TidemillError, UserError
from tidemill.wiring.console import BEGUN, DATA, END, Question, answer, see_that_it_reads
from tidemill.wiring.console_settings import ConsoleSettings, read_console_settings
from tidemill.wiring.settings import Settings

DAYS = ("2026-01-01", "2026-01-02")
#: Who may read everything but one pipeline's tables.
NEARLY = Principal("nearly", Role.VIEWER, {"shop": Role.NONE})
#: The clock of a busy computer: a process of its own takes its time to start.
SLOW = 240
ENDLESS = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def identify(request: Request) -> Principal | None:
    return NEARLY if request.headers.get("x-test-user") == "nearly" else LOCAL


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Two batches of `shop.orders`, forty rows each, from a file with an odd name; and a branch with one of them."""
    made = Project(tmp_path_factory.mktemp("console"))
    shop = made.pipeline()
    shop.files("in/{{ ds }}/*.csv", name="orders")
    for number, day in enumerate(DAYS):
        (made.root / "in" / day).mkdir(parents=True)
        more = ",more" * number  # the second file has a column more
        lines = [f"{i},{'<b>' if i == 7 else 'n'}{i % 7},{i * 1.5},{day} 0{i % 10}:00:00{more}" for i in range(40)]
        (made.root / "in" / day / 'a "b";é.csv').write_text("\n".join([f"id,na:me,price,at{more}", *lines]))
        assert made.run(shop, day).ok
        if number == 0:
            create_branch(made.services, "first")
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(project: Project) -> Iterator[Api]:
    limits = ConsoleSettings(seconds=SLOW, download_seconds=SLOW, memory=256 * 10**6, at_once=1, rows=50)
    with serving(replace(project.settings, console=limits), identify) as made:
        made.patience = SLOW
        yield made


def answered(project: Project, sql: str, form: str, folder: Path, **asked: Any) -> bytes:
    """What the process of a query would write, without the process."""
    frames: list[tuple[bytes, bytes]] = []
    question = Question(project.settings, sql, form, str(folder), **asked)
    answer(question, lambda kind, content: frames.append((kind, content)))
    assert [kind for kind, _ in frames] == [BEGUN, *[DATA] * (len(frames) - 2), END]
    return b"".join(content for _, content in frames)


REFUSED = (
    "COPY shop.orders TO '{root}/stolen.csv'", "COPY (SELECT 1) TO '/dev/null'", "ATTACH '{root}/x.db'",
    "EXPORT DATABASE '{root}/out'", "INSTALL httpfs", "LOAD httpfs", "SET memory_limit = '1TB'",
    "PRAGMA database_list", "CALL pragma_version()", "CREATE TABLE x (a int)", "DROP TABLE shop.orders",
    "INSERT INTO shop.orders VALUES (1)", "UPDATE shop.orders SET id = 1", "USE memory", "",
)  # fmt: skip
HOSTILE = (
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_text('{root}/tidemill.toml')",
    "SELECT * FROM glob('/*')", "SELECT * FROM '/etc/passwd'", "FROM '{root}/.tidemill/tidemill.db'",
    "SELECT (SELECT count(*) FROM read_blob('/etc/passwd'))", "SELECT getenv('PATH')",
    "WITH x AS (DELETE FROM shop.orders RETURNING *) SELECT * FROM x", "SELECT 1; DROP TABLE shop.orders",
    "SELECT 1; COPY (SELECT 1) TO '{root}/stolen.csv'", "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM duckdb_settings()", "SELECT * FROM duckdb_secrets()", "SELECT * FROM information_schema.tables",
    "SELECT * FROM sqlite_master", "SELECT * FROM tidemill.users", "SELECT " + "(" * 3000 + "1" + ")" * 3000,
)  # fmt: skip


def test_what_does_more_than_read_tables_is_refused(project: Project, tmp_path: Path) -> None:
    before = sorted(path.name for path in project.root.iterdir())
    for sql in REFUSED:
        with pytest.raises(UserError, match="only reads"):
            see_that_it_reads(sql.replace("{root}", str(project.root)))
    for sql in (*REFUSED, *HOSTILE):
        with pytest.raises(TidemillError) as caught:
            answered(project, sql.replace("{root}", str(project.root)), "rows", tmp_path)
        assert "root:" not in str(caught.value)
    assert sorted(path.name for path in project.root.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_a_look_at_the_beginning_takes_no_time_whatever_the_text(project: Project) -> None:
    for sql in ("(" * 10_000, "/*a*/" * 4000, "-- a\n" * 4000, "/*" * 10_000, " " * 20_000):
        began = time.process_time()
        with pytest.raises(UserError):
            see_that_it_reads(sql)
        assert time.process_time() - began < 0.5
    for sql in ("select 1", " (SELECT 1)", "-- why\n/* * / */FROM t", "With x AS (SELECT 1) FROM x", ";;values (1)"):
        see_that_it_reads(sql)


def test_all_of_a_result_is_a_file_of_each_form(project: Project, tmp_path: Path) -> None:
    sql = 'SELECT id, "na:me" AS name, price, NULL AS nothing, [id] AS list FROM shop.orders ORDER BY id, _batch_id'
    rows = list(csv.reader(io.StringIO(answered(project, sql, "csv", tmp_path).decode())))
    assert (rows[0], rows[1], len(rows)) == (
        ["id", "name", "price", "nothing", "list"], ["0", "n0", "0.0", "", "[0]"], 81,
    )  # fmt: skip
    lines = [json.loads(line) for line in answered(project, sql, "jsonl", tmp_path).splitlines()]
    assert lines[14] == {"id": 7, "name": "<b>0", "price": 10.5, "nothing": None, "list": [7]}
    (tmp_path / "x.parquet").write_bytes(answered(project, sql, "parquet", tmp_path))
    assert parquet.read_table(tmp_path / "x.parquet").to_pylist() == lines
    assert len(answered(project, sql, "jsonl", tmp_path, branch="first").splitlines()) == 40
    shown = json.loads(answered(project, "SELECT repeat('x', 20000), 9007199254740993", "rows", tmp_path))
    assert [len(shown["rows"][0][0]), shown["rows"][0][1]] == [10_001, "9007199254740993"]
    wide = "SELECT repeat('x', 9999) FROM range(5000)"
    shown = json.loads(answered(project, wide, "rows", tmp_path, rows=5000))
    assert (shown["more"], 500 < len(shown["rows"]) < 900) == (True, True)


def test_the_first_rows_come_in_order_and_say_that_there_are_more(api: Api) -> None:
    found = api.get("query", sql="SELECT range AS n FROM range(100000000), shop.orders WHERE id = 1 AND _batch_id = 1")
    assert (found["columns"], found["rows"][:2], len(found["rows"]), found["more"]) == (
        [{"name": "n", "type": "int64"}], [[0], [1]], 50, True,
    )  # fmt: skip
    wrong = api.ask("GET", "query", sql="SELECT id,\n  pric FROM shop.orders")
    assert (wrong.status, wrong.data["type"]) == (404, "/problems/unknown-name")
    assert (wrong.data["where"], wrong.data["hint"]) == ("line 2, column 3", 'did you mean "price"?')


def test_a_query_that_needs_too_much_takes_nobody_along(api: Api) -> None:
    found = api.ask("GET", "query", sql="SELECT range(3000000000)")  # one value, which the engine's limit does not see
    assert found.status in (413, 422), found
    assert "memory" in found.data["detail"]
    assert api.get("tables/shop.orders")["rows"] == 80


def test_who_may_not_read_everything_may_not_ask_by_sql(api: Api) -> None:
    for path in ("query", "query/file"):
        assert api.ask("GET", path, headers={"X-Test-User": "nearly"}, sql="SELECT 1").status == 403
        crossed = api.ask("GET", path, headers={"Sec-Fetch-Site": "cross-site"}, sql="SELECT 1")
        assert (crossed.status, crossed.data["type"]) == (403, "/problems/cross-site")
        assert api.ask("GET", path, sql="DROP TABLE shop.orders").status == 422
        assert api.ask("GET", path).status == 400


def children() -> list[int]:
    """Processes of queries that this process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if folder.name.isdigit() and b"tidemill.wiring.console" in (folder / "cmdline").read_bytes():
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                found += [int(folder.name)] if int(parent) == os.getpid() else []
    return found


def until(is_so: Callable[[], Any]) -> None:
    end = time.monotonic() + SLOW
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_query_ends_when_whoever_asked_has_gone(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for path, sql in (("query", ENDLESS), ("query/file", "SELECT range FROM range(1000000000000)")):
        connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=SLOW)
        connection.request("GET", f"/api/v1/{path}?" + urlencode({"sql": sql}))
        until(children)
        if path == "query/file":
            connection.getresponse().read(1000)  # it has begun, and nobody reads on
        second = api.ask("GET", "query", sql="SELECT 1")
        assert (second.status, second.headers["retry-after"]) == (503, "5")
        connection.close()
        until(lambda: not children())
        until(lambda: not list(tmp_path.iterdir()))


def test_a_query_that_takes_too_long_is_stopped(project: Project, tmp_path: Path) -> None:
    limits = ConsoleSettings(seconds=1, download_seconds=1)
    with serving(replace(project.settings, console=limits)) as api:
        found = api.ask("GET", "query/file", sql=ENDLESS)
        assert (found.status, found.data["detail"]) == (413, "The query was stopped: it took more than 1 s.")
        until(lambda: not children())
        # A preview runs in the server itself: it is interrupted.
        with pytest.raises(TidemillError, match="took too long"):
            from tidemill.wiring.services import limited_engine

            engine = limited_engine(replace(project.settings, console=limits))
            with engine.query(ENDLESS, {}) as reader:
                reader.read_all()


def test_a_download_is_a_file_that_streams(api: Api) -> None:
    found = api.ask("GET", "query/file", sql="SELECT range AS n FROM range(300000)", format="csv")
    assert (found.status, found.headers["content-disposition"]) == (200, 'attachment; filename="query.csv"')
    assert found.headers["content-type"] == "text/csv; charset=utf-8"
    assert "content-length" not in found.headers
    assert found.content.splitlines()[-1] == b"299999"


def test_rows_are_narrowed_sorted_and_paged(api: Api) -> None:
    def ids(**asked: Any) -> list[int]:
        return [row[0] for row in api.get("tables/shop.orders/rows", **asked)["rows"]]

    assert ids(filter=["id:ge:3", "price:lt:7.5"], batch=1) == [3, 4]
    assert ids(filter="na:me:contains:<B>", sort="-_batch_id") == [7, 7]
    assert ids(filter=["na:me:eq:n1,", "id:ne:1"]) == []
    assert ids(filter="na:me:begins:n", sort="-id", limit=3) == [39, 39, 38]
    assert ids(filter="at:eq:2026-01-02 03:00:00", sort="id") == [3, 13, 23, 33]
    assert ids(filter=["id:notnull:", "id:null:"]) == []
    seen: list[list[Any]] = []
    cursor = None
    while True:  # the column has seven values: rows that are equal by it are on one page each, all the same
        asked: dict[str, Any] = {"sort": "na:me", "limit": 17, **({"cursor": cursor} if cursor else {})}
        page = api.get("tables/shop.orders/rows", **asked)
        names = [column["name"] for column in page["columns"]]
        seen += [[row[names.index(name)] for name in ("id", "na:me", "_batch_id")] for row in page["rows"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len({(row[0], row[2]) for row in seen}) == 80
    assert [row[1] for row in seen] == sorted(row[1] for row in seen)
    for asked, status, text in (
        ({"filter": "pric:eq:1"}, 404, 'no column "pric"'), ({"filter": "price:is:1"}, 404, 'no comparison "is"'),
        ({"filter": "price"}, 422, "no condition"), ({"filter": "price:eq:dear"}, 422, '"dear" is no value of "price"'),
        ({"sort": "id; DROP TABLE x"}, 404, "no column"), ({"filter": "id:eq:1) OR (1=1"}, 422, "no value"),
    ):  # fmt: skip
        found = api.ask("GET", "tables/shop.orders/rows", **asked)
        assert (found.status, text in found.data["detail"]) == (status, True), found


def test_a_table_tells_since_which_batch_it_has_its_columns(api: Api) -> None:
    new, old = api.get("tables/shop.orders/schemas")["schemas"]
    assert (old["batch_id"], new["batch_id"]) == (1, 2)
    assert new["changes"] == [{"before": None, "after": "more string"}]
    (version, _) = api.get("tables/shop.orders/versions")["versions"]
    assert (new["snapshot_id"], new["since"]) == (version["snapshot_id"], version["committed_at"])
    assert len(new["columns"]) == len(old["columns"]) + 1 == len(old["changes"]) + 1
    (only,) = api.get("tables/shop.orders/schemas", branch="first")["schemas"]
    assert only["columns"] == old["columns"]


def test_a_raw_file_comes_as_it_was_received(project: Project, api: Api) -> None:
    (part,) = api.get("batches/1")["archive"][0]["parts"]
    content = (project.root / "in" / DAYS[0] / 'a "b";é.csv').read_bytes()
    path = f"batches/1/files/{quote(part['path'])}"
    found = api.ask("GET", path)
    assert (found.status, found.content) == (200, content)
    assert found.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["x-content-type-options"] == "nosniff"
    name = "attachment; filename=\"a__b___.csv\"; filename*=UTF-8''a%20%22b%22%3B%C3%A9.csv"
    assert found.headers["content-disposition"] == name
    assert api.ask("GET", path, headers={"If-None-Match": found.headers["etag"]}).status == 304
    for asked, status, wanted in (
        ("bytes=3-9", 206, content[3:10]), ("bytes=-5", 206, content[-5:]), ("bytes=5-", 206, content[5:]),
        ("bytes=0-999999", 206, content), ("bytes=1-2,5-6", 200, content), ("lines=1-2", 200, content),
        ("bytes=999999-", 416, None), ("bytes=-0", 416, None),
    ):  # fmt: skip
        some = api.ask("GET", path, headers={"Range": asked})
        assert some.status == status, asked
        assert wanted is None or some.content == wanted
    assert api.ask("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"old"'}).status == 200
    assert api.ask("GET", path, headers={"X-Test-User": "nearly"}).status == 403
    other = quote(api.get("batches/2")["archive"][0]["parts"][0]["path"])
    for wrong in (
        f"batches/1/files/{other}", "batches/1/files/../../tidemill.db", "batches/1/files/..%2f..%2ftidemill.db",
        "batches/1/files//etc/passwd", "batches/1/files/%2fetc%2fpasswd", f"batches/1/files/{quote(part['path'])}/..",
        f"batches/1/files/{quote(part['path']).rpartition('/')[0]}/manifest.v1.json", "batches/99/files/x",
        f"batches/1/files/./{quote(part['path'])}", f"batches/1/files/{quote(part['path'])}%00",
    ):  # fmt: skip
        found = api.ask("GET", wrong)
        assert found.status in (400, 404), wrong
        assert b"root:" not in found.content


def test_an_encrypted_file_is_decrypted_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_ARCHIVE_KEY", key(1))
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "test"\n[archive]\nencrypt = "archive-key"\n')
    project = Project(tmp_path)
    shop = project.pipeline()
    shop.files("in.csv", name="orders")
    (tmp_path / "in.csv").write_text("id,note\n1,canary\n")
    assert project.run(shop, DAYS[0]).ok
    with serving(project.settings) as api:
        (part,) = api.get("batches/1")["archive"][0]["parts"]
        path = f"batches/1/files/{quote(part['path'])}"
        assert api.ask("GET", path).content == b"id,note\n1,canary\n"
        assert api.ask("GET", path, headers={"Range": "bytes=10-15"}).content == b"canary"
    project.close()


def test_limits_are_settings(tmp_path: Path) -> None:
    made = read_console_settings({"console": {"rows": 5, "memory": "1.5 GB", "disk": "200MB"}}, "tidemill.toml")
    assert made == ConsoleSettings(rows=5, memory=1_500_000_000, disk=200_000_000)
    assert Settings(tmp_path, "x").console == ConsoleSettings()
    for wrong in ({"rows": 0}, {"rows": True}, {"seconds": "1"}, {"memory": "1"}, {"memory": "1MB"}, {"disk": 5}):
        with pytest.raises(SettingsError, match=f"console.{next(iter(wrong))}"):
            read_console_settings({"console": wrong}, "tidemill.toml")
