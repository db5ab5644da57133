"""Commands with `--server`: the same words, objects and exit codes as where the project is, over a real server."""

from __future__ import annotations

import fcntl
import json
import re
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.api import Api as Proxy
from harness.api import Call, Said
from harness.api import serving as proxying
from harness.certificates import authority
from harness.programs import free_port
from harness.webapi import Api, serving
from tidemill.adapters.arrow.export import rows_of_parquet
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.authoring import registry
from tidemill.cli.main import root
from tidemill.flow.inline import drive
from tidemill.model.run import RunState
from tidemill.plan.schedule import parse_intervals
from tidemill.wiring.performing import Performer
from tidemill.wiring.running import run_here
from tidemill.wiring.services import holder, open_metadata, system_clock
from tidemill.wiring.settings import Settings, load_settings

SHOP = """
    from datetime import UTC, date, datetime
    from decimal import Decimal

    import tidemill as tm

    shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01", end="2026-01-05")

    @shop.source
    def orders(interval):
        more = {"at": datetime(2026, 1, 1, 12, 30, tzinfo=UTC), "day": date(2026, 1, 1), "share": 1.0,
                "exact": Decimal("1.50"), "raw": b"\\x00\\xff", "parts": {"at": [1, 2]}}
        yield {"id": 1, "name": "<script>alert(1)</script>", "price": 5, **more}
        yield {"id": 2, "name": "\\u202etxt", "price": -1 if interval.ds == "2026-01-02" else 7, **more}

    @shop.table
    def good(orders):
        return orders.filter(tm.col("id") > 0)

    good.expect(tm.col("price") > 0, name="price_is_positive")

    @shop.stream(tm.topic("prices", {"id": "long", "price": "double"}, partitions=2), to=tm.topic("costly"))
    def dear(prices):
        return prices.filter(tm.col("price") > 5)

    with tm.DAG("etl", schedule=None, params={"n": tm.Param(3, type="integer", minimum=1)}, tags=["nightly"]) as etl:
        @tm.task
        def first(params=None):
            print("n is", params["n"])
            return list(range(params["n"]))

        @tm.task
        def each(x):
            if x == 7:
                raise ValueError("seven")

        each.expand(x=first())
"""


@dataclass
class Site:
    """A project, its server, and commands about it."""

    folder: Path
    api: Api

    def here(self, *words: str) -> Result:
        """A command where the project is."""
        return CliRunner().invoke(root, [*words, "--project", str(self.folder)], prog_name="tidemill")

    def there(self, *words: str, url: str | None = None, **env: str) -> Result:
        """The same by the server."""
        return CliRunner().invoke(root, [*words, "--server", url or self.api.url], prog_name="tidemill", env=env)

    def runs(self, pipeline: str) -> dict[int, str]:
        """States of runs by id, newest first, as the server has them."""
        return {one["run_id"]: one["state"] for one in self.api.get("runs", pipeline=pipeline)["runs"]}


@contextmanager
def driving(settings: Settings) -> Iterator[None]:
    """What a scheduler does with runs that are asked for, in a thread: it runs them."""
    ending = threading.Event()

    def drive_all() -> None:
        clock = system_clock()
        metadata = open_metadata(settings, clock)
        assert isinstance(metadata, SqlMetadata)
        store = SqlRunStore(metadata, clock)
        while not ending.wait(0.2):  # between two looks, not to pass
            with metadata.read() as tx:
                queued = tx.runs.recent(state=RunState.QUEUED)
            for run in queued:
                drive(metadata, store, clock, store.definition, holder(), run, Performer(settings), lambda _: None)
        metadata.close()

    thread = threading.Thread(target=drive_all)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two batches, the second of which failed its check, and a run of a DAG with a mapped task."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "shop.py").write_text(textwrap.dedent(SHOP))
    (folder / "tidemill.toml").write_text('[project]\nname = "shop"\n[pipelines]\ntimeout = "5m"\n')
    (folder / "prices.jsonl").write_text('{"id": 1, "price": 4.5}\n{"id": 2, "price": 7.5}\n')
    settings = load_settings(folder)
    days = parse_intervals("2026-01-01..2026-01-02", None)
    assert [run_here(settings, "shop", interval=day).state for day in days] == [RunState.SUCCESS, RunState.FAILED]
    assert run_here(settings, "etl", run_key="k0", conf={"n": 2}).state is RunState.SUCCESS
    with serving(settings) as api:
        yield Site(folder, api)
    registry.clear()


def test_a_run_is_begun_there_and_followed(site: Site) -> None:
    with driving(load_settings(site.folder)):
        good = site.there("run", "etl", "k1", "--param", "n=2", "-q")
        bad = site.there("run", "etl", "k2", "--param", "n=8", "-q", "--json")
        told = json.loads(bad.stdout)
        # What failed runs again, as it was shown.
        shown = site.there("runs", "clear", str(told["run_id"]), "--dry-run")
        again = json.loads(site.there("runs", "clear", str(told["run_id"]), "--json").stdout)
        ended = site.there("logs", str(again["run_id"]), "-f")
    assert good.exit_code == 0, good.output
    assert re.fullmatch(r"ran {2}etl k1 {2}3 tasks {2}\S.*\nnext: tidemill runs show \d+\n", good.stdout)
    assert (bad.exit_code, bad.stderr, told["ok"], told["state"]) == (1, "", False, "failed")
    assert {one["task"]: one["state"] for one in told["tasks"]}["each[7]"] == "failed"
    assert (shown.stdout, shown.stderr) == ("would clear  each\n", "1 task as attempt 2\n")
    assert (again["attempt"], again["tasks"]) == (2, ["each"])
    assert (ended.exit_code, "ValueError: seven" in ended.stdout) == (0, True)
    assert site.runs("etl")[again["run_id"]] == "failed"
    # Without sources there is nothing to ask again; with sources that is what the run is for.
    assert site.there("run", "etl", "k3", "--refetch").exit_code == 1


def test_commands_say_the_same_here_and_there(site: Site) -> None:
    """Standard output, notes, errors and exit codes."""
    told = site.there("backfill", "run", "shop", "2026-01-02..2026-01-04", "--policy", "failed", "--json")
    assert json.loads(told.stdout) == {"backfill_id": 1, "intervals": 3}
    failed, mapped = "2", "3"
    site.here("pipelines", "pause", "shop")  # what is due now is due later at the next look
    texts = (
        ["pipelines", "ls"], ["pipelines", "show", "shop"], ["pipelines", "show", "etl"], ["pipelines", "show", "shp"],
        ["pipelines", "next", "etl"], ["pipelines", "pause", "etl", "none"],
        ["pipelines", "pause", "etl"], ["pipelines", "ls"], ["pipelines", "unpause", "etl"],
        ["runs", "ls"], ["runs", "ls", "--limit", "1"], ["runs", "ls", "--limit", "0", "--state", "failed"],
        ["runs", "ls", "--pipeline", "shop"], ["runs", "ls", "--pipeline", "none"], ["runs", "ls", "--state", "odd"],
        ["runs", "show", failed], ["runs", "show", mapped], ["runs", "show", "999"],
        ["runs", "clear", failed, "check.good", "--only", "--dry-run"], ["runs", "clear", "999", "--dry-run"],
        ["runs", "clear", mapped, "odd", "--dry-run"], ["runs", "cancel", mapped],
        ["runs", "mark", "999", "first", "success"],
        ["logs", mapped], ["logs", mapped, "-f"], ["logs", mapped, "first", "--try", "1"], ["logs", mapped, "each[1]"],
        ["logs", mapped, "odd"], ["logs", "999"],
        ["backfill", "run", "shop", "2026-01-01..2026-01-03", "--policy", "all", "--newest-first", "--dry-run"],
        ["backfill", "run", "shop", "2026-01-01..2026-01-03"], ["backfill", "run", "etl", "2026-01-01"],
        ["backfill", "run", "none", "2026-01-01", "--dry-run"], ["backfill", "run", "shop", "2026-13-01", "--dry-run"],
        ["backfill", "ls"], ["backfill", "show", "1"], ["backfill", "show", "9"], ["backfill", "pause", "1"],
        ["backfill", "resume", "1"],
    )  # fmt: skip
    objects = (
        ["pipelines", "ls"], ["pipelines", "show", "shop"], ["pipelines", "next", "etl"], ["pipelines", "show", "shp"],
        ["runs", "ls"], ["runs", "show", failed], ["runs", "clear", failed, "--dry-run"], ["logs", mapped],
        ["backfill", "run", "shop", "2026-01-01..2026-01-03", "--policy", "all", "--dry-run"],
        ["backfill", "ls"], ["backfill", "show", "1"],
    )  # fmt: skip
    with (site.folder / ".tidemill" / "parser.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as where a parser follows the files: they are not read each time
        for words in (*texts, *([*words, "--json"] for words in objects)):
            ours, theirs = site.here(*words), site.there(*words)
            assert _told(theirs) == _told(ours), words
            assert ours.exit_code in (0, 1, 2), words


def test_lake_and_streams_say_the_same_here_and_there(site: Site) -> None:
    """Values of all types; what is repaired there is repaired."""
    branch = json.loads(site.here("data", "batches", "2", "--json").stdout)["branch"]
    site.here("stream", "feed", "prices", str(site.folder / "prices.jsonl"))
    asked = (
        ["branch", "ls", "--all"], ["branch", "diff", branch], ["branch", "merge", "none"], ["data", "ls"],
        ["data", "show", "orders"], ["data", "show", "none"], ["data", "history", "orders", "--limit", "1"],
        ["data", "show", "good", "--failing", "--branch", branch], ["data", "batches", "shop", "--limit", "1"],
        ["data", "batches", "2"], ["data", "batches", "none"], ["check", "--results"], ["stream", "ls"],
        ["stream", "show", "dear"], ["stream", "show", "none"], ["stream", "lag"],
        ["stream", "redrive", "dear", "--all", "--dry-run"], ["stream", "reset", "dear", "--to", "1", "--dry-run"],
    )  # fmt: skip
    objects = (
        ["branch", "diff", branch], ["data", "show", "orders"], ["data", "history", "orders"], ["data", "batches", "2"],
        ["stream", "show", "dear"], ["stream", "lag"],
    )  # fmt: skip
    for words in (*asked, *([*words, "--json"] for words in objects)):
        ours, theirs = site.here(*words), site.there(*words)
        if words[-1] == "--json":
            assert _object(theirs) == _object(ours), words
        else:
            assert _told(theirs) == _told(ours), words
        assert ours.exit_code in (0, 1, 2), words
    # What is made by one of them is there for the other, and an answer has the same facts.
    asks = (site.here, "create", "x"), (site.there, "create", "y"), (site.here, "tag", "v1"), (site.there, "tag", "v2")
    made = [json.loads(ask("branch", verb, name, "--json").stdout) for ask, verb, name in asks]
    assert [list(one) for one in made] == [list(made[0])] * 4
    assert [(one["name"], one["kind"], one["tables"]) for one in made] == [
        ("x", "branch", 2), ("y", "branch", 2), ("v1", "tag", 2), ("v2", "tag", 2),
    ]  # fmt: skip
    said = site.there("branch", "create", "z", "--from", "x")
    assert said.stdout == "created  branch z  from x  2 tables\nnext: tidemill branch diff z\n"
    for words in (["create", "x"], ["create", "batch-9"], ["create", "q", "--from", "none"], ["drop", "main"]):
        assert _told(site.there("branch", *words)) == _told(site.here("branch", *words)), words
    for ask, name in ((site.there, "x"), (site.here, "y"), (site.there, "z"), (site.there, "v1"), (site.there, "v2")):
        assert (ask("branch", "drop", name).stdout, ask("branch", "drop", name).exit_code) == (f"dropped  {name}\n", 2)
    feed = ["stream", "feed", "prices", str(site.folder / "prices.jsonl")]
    assert site.there(*feed).stdout == site.here(*feed).stdout
    assert sum(one["end"] for one in json.loads(site.here("stream", "lag", "--json").stdout)["shop.dear"]) == 6
    (site.folder / "bad.jsonl").write_text('{"id": 1, "price": 2}\n{"id": "x"}\n')
    (site.folder / "none.jsonl").write_bytes(b"\xff\n")
    (site.folder / "much.jsonl").write_text('{"id": 1, "price": 2}\n' * 50_000)
    bad = ["stream", "feed", "prices", str(site.folder / "bad.jsonl")]
    for words in (bad, [*bad[:2], "none", bad[3]]):
        assert _told(site.there(*words)) == _told(site.here(*words)), words
    for file, said, code in (("none", "no text", 2), ("much", "1 MB", 1)):
        found = site.there("stream", "feed", "prices", str(site.folder / f"{file}.jsonl"), "--raw")
        assert (found.exit_code, said in found.stderr, found.stdout) == (code, True, ""), found.output
    undone = site.there("branch", "revert", "1")
    assert undone.stdout.splitlines()[0].split() == ["reverted", "batch", "1", "2", "tables"], undone.output
    assert json.loads(site.here("data", "batches", "1", "--json").stdout)["state"] == "reverted"
    assert site.there("stream", "reset", "dear", "--to", "1", "--yes").exit_code == 0
    assert json.loads(site.here("stream", "lag", "--json").stdout)["shop.dear"][0]["committed"] == 1


def test_sql_is_asked_of_a_server(site: Site) -> None:
    """The first rows, the object, a file: as a query here gives them."""
    select = "SELECT DATE '2026-01-01' AS day, 1.50 AS exact, NULL AS nothing, 7 AS n UNION ALL SELECT NULL, 2, 3, 4"
    ours, theirs = site.here("query", select, "--json"), site.there("query", select, "--json")
    assert (theirs.stdout, theirs.exit_code) == (ours.stdout, 0), theirs.output
    shown = site.there("query", f"{select} ORDER BY n DESC", "--limit", "1")
    assert shown.stdout.splitlines()[1].split() == ["2026-01-01", "1.50", "null", "7"]
    assert "the first 1 row shown; there are more" in shown.stderr
    file = site.folder / "out.parquet"
    assert site.there("query", select, "--parquet", str(file)).stdout.split() == ["wrote", str(file), "2", "rows"]
    assert rows_of_parquet(file) == 2


def _object(found: Result) -> Any:
    """What was said as an object, without the lines of steps: that of `to=` is of whoever has made the plan."""
    made = json.loads(found.stdout)
    for node in made.get("nodes", ()):
        del node["place"]
    return made


def _told(found: Result) -> tuple[int, str, str]:
    """What was said; a backfill that each of them begins has a number of its own, and what waits, waits longer."""
    text = re.sub(r"\b(backfill|show) +\d+", r"\1 N", found.stdout)
    return found.exit_code, re.sub(r" [\d.]+ (s|min \d+ s)$", "", text, flags=re.MULTILINE), found.stderr


def test_what_cannot_be_asked_of_a_server_is_refused(site: Site) -> None:
    for words in (["data", "vacuum"], ["init", "x"], ["replay", "1"], ["doctor"], ["stream", "run"]):
        found = site.there(*words)
        assert (found.exit_code, found.stdout) == (2, "")
        assert "cannot ask a server: it is about files of the project, or works on this computer." in found.stderr
    replay = site.there("stream", "replay", "dear", "--from", "2026-01-01")
    assert (replay.exit_code, "cannot ask a server: it runs the stream's code" in replay.stderr) == (2, True)
    found = site.there("check")
    assert (found.exit_code, "try: tidemill check --results" in found.stderr) == (2, True)
    by_environment = CliRunner().invoke(root, ["data", "vacuum"], prog_name="tidemill", env={"TIDEMILL_SERVER": "x"})
    assert "try: TIDEMILL_SERVER= tidemill data vacuum, where the project is" in by_environment.stderr
    assert site.there("run", "pipelines/shop.py").exit_code == 2
    both = site.there("runs", "ls", "--project", ".")
    assert (both.exit_code, "one too many" in both.stderr) == (2, True)


def test_a_server_that_does_not_answer_rightly(site: Site, tmp_path: Path) -> None:
    """By TLS of an authority of one's own; elsewhere the token is not shown, and never told."""
    nobody = site.there("runs", "ls", url=f"http://127.0.0.1:{free_port()}")
    assert (nobody.exit_code, nobody.stdout) == (3, "")
    own, secret = authority(tmp_path), "tm_a-very-secret-token"

    def forward(call: Call) -> Said:
        content = call.body or None
        key = {name: call.headers[name] for name in ("idempotency-key",) if name in call.headers}
        found = site.api.ask(call.method, call.path + ("?limit=1" if call.query else ""), content, key)
        return Said(found.content, found.status, {"Content-Type": found.headers["content-type"]})

    with proxying(Proxy(forward, tls=own.server())) as proxy, proxying(Proxy(lambda _: Said(b"{}"))) as evil:
        env = {"TIDEMILL_TOKEN": secret, "TIDEMILL_SERVER_CA": str(own.file)}
        distrusted = site.there("runs", "ls", url=proxy.url, TIDEMILL_TOKEN=secret)
        assert (distrusted.exit_code, "is not trusted" in distrusted.stderr) == (2, True)
        assert "TIDEMILL_SERVER_CA=" in distrusted.stderr
        assert proxy.calls == []
        good = site.there("runs", "ls", "--limit", "1", "--debug", url=proxy.url, **env)
        assert (good.exit_code, good.stdout) == (0, site.here("runs", "ls", "--limit", "1").stdout)
        assert {call.headers["authorization"] for call in proxy.calls} == {f"Bearer {secret}"}
        health = {"status": "ok", "version": "9.9", "project": "shop"}
        proxy.faults.append(Said(health))
        other = site.there("runs", "ls", "--limit", "1", url=proxy.url, **env)
        assert (other.exit_code, "is Tidemill 9.9, this is " in other.stderr) == (0, True)
        for fault, code, said in (
            (Said(b"", 307, {"Location": evil.url}), 2, "where the token is not shown"),
            (Said(b"<html>"), 2, "is no server of Tidemill"), (Said({"mine": 1}), 2, "is no server of Tidemill"),
            (Said(b"<html>", 502), 3, "does not answer: 502"), ("garbage", 3, "does not answer"),
            (Said({"type": "/problems/not-logged-in"}, 401), 2, "does not know who asks"),
            (Said({"detail": f"{secret} is odd"}, 429), 3, "*** is odd"),
        ):  # fmt: skip
            proxy.faults.append(fault)
            found = site.there("runs", "ls", "--debug", url=proxy.url, **env)
            assert (found.exit_code, said in found.stderr, found.stdout) == (code, True, ""), (fault, found.stderr)
            assert secret not in found.output
        # An action whose answer is lost is asked for again, and done once.
        before = len(site.runs("etl"))
        proxy.faults.extend([None, None, "lost"])
        with driving(load_settings(site.folder)):
            lost = site.there("run", "etl", "lost", "--param", "n=1", "-q", url=proxy.url, **env)
        assert lost.exit_code == 0, lost.output
        assert len(site.runs("etl")) == before + 1
        keys = [call.headers["idempotency-key"] for call in proxy.calls if call.method == "POST"]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert evil.calls == []
