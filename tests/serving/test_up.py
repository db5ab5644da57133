"""`tidemill up` with real processes: schedules, both kinds of pipelines, code that changes, processes that die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.installation import Installation
from tidemill.model.run import RunState

Install = Callable[..., Installation]
S = RunState

CHAIN = """
    import tidemill as tm

    @tm.dag(schedule="@daily", start="2026-01-01", end="2026-01-04", catchup=True)
    def chain():
        @tm.task
        def numbers(ds=None):
            print("numbers of", ds)
            return [1, 2, 3]

        @tm.task
        def double(x):
            return 2 * x

        @tm.task
        def total(xs):
            return sum(xs)

        total(double.expand(x=numbers()))

    chain()
"""


def test_a_schedule_runs_by_itself_and_ctrl_c_ends_everything(install_on: Install) -> None:
    shop = install_on(chain=CHAIN)
    shop.up("--workers", "2", new=True)
    ended = shop.wait_for_runs("chain", 3)
    assert set(ended.values()) == {S.SUCCESS}
    assert len(shop.published("chain")) == 3
    first = min(ended)
    assert [(task.name, task.state.value) for task in shop.tasks(first)] == [
        ("numbers", "success"), ("double[0]", "success"), ("double[1]", "success"), ("double[2]", "success"),
        ("total", "success"),
    ]  # fmt: skip
    with shop.metadata.read() as tx:
        assert tx.xcoms.get(first, "total") == "12"
    children = shop.children()
    assert len(children) >= 3, "a scheduler, a parser, a worker"
    assert "numbers of 2026-01-0" in shop.command("logs", str(first), "numbers")
    assert shop.stop() == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


PIPELINE = """
    import tidemill as tm

    sales = tm.Pipeline("sales", schedule="@daily", start="2026-01-01", end="2026-01-05", catchup=True,
                        max_active_runs=4)
    orders = sales.files("feeds/{{ ds }}.csv")

    @sales.table(key="id", write="upsert")
    def latest(orders):
        return orders.select("id", "price")

    @sales.table
    def dear(latest):
        return latest.filter(tm.col("price") > 1)

    latest.expect(tm.not_null("id"))
"""


def test_tasks_of_one_data_first_run_share_its_branch_across_workers(install_on: Install) -> None:
    """Four days at once, by several workers, into one upsert table: conflicts are worked off, each batch is published
    once, and the rows are those of a run after the other.
    """
    shop = install_on(sales=PIPELINE)
    (shop.folder / "feeds").mkdir()
    for day in range(1, 5):
        text = "id,price\n" + "".join(f"{id_},{day}\n" for id_ in range(day, day + 3))
        (shop.folder / f"feeds/2026-01-0{day}.csv").write_text(text)
    shop.up("--workers", "3")
    shop.wait(lambda: len(shop.published("sales")) == 4)
    rows = json.loads(shop.command("query", "select id, price from sales.latest order by id", "--json"))["rows"]
    assert [(row["id"], row["price"]) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 4)]
    with shop.metadata.read() as tx:
        published = [event.payload["batch_id"] for event in tx.events.pending("published", 100)]
        assert len(published) == len(set(published))
        workers = {task.worker for run in tx.runs.recent() for task in tx.runs.tasks(run.id)}
    assert len(workers) >= 2
    shop.wait(lambda: all(state in (S.SUCCESS, S.FAILED) for state in shop.runs().values()))
    assert shop.stop() == 0


SLOW = """
    import pathlib, time
    import tidemill as tm
    from datetime import timedelta

    @tm.dag()
    def slow():
        @tm.task(retries=2, retry_delay=timedelta(seconds=0))
        def wait(ti=None):
            pathlib.Path("{folder}", f"began-{{ti.run_id}}-{{time.monotonic_ns()}}").touch()
            while not pathlib.Path("{folder}", "go").exists():
                time.sleep(0.02)
            return "{version}"

        wait()

    slow()
"""


def slow(folder: Path, version: str = "old") -> str:
    return SLOW.format(folder=folder, version=version)


def trigger(shop: Installation, pipeline: str = "slow") -> int:
    from tidemill.flow.control import trigger
    from tidemill.wiring.services import system_clock

    run = trigger(shop.metadata, pipeline, system_clock().now())
    shop.ring()
    return run.id


def began(folder: Path) -> int:
    return len(list(folder.glob("began-*")))


def known(shop: Installation, pipeline: str) -> Callable[[], bool]:
    def look() -> bool:
        with shop.metadata.read() as tx:
            return tx.definitions.pipeline(pipeline) is not None

    return look


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("victims", [["worker"], ["parser"], ["scheduler", "root"]], ids="-and-".join)
def test_whoever_is_killed_the_run_ends_as_it_would_have(install: Install, tmp_path: Path, victims: list[str]) -> None:
    """Each in an installation of its own; where a lease has to end first (15 s), two wait at the same time."""
    begun = [(whom, *begin(install, tmp_path / f"marks-{whom}")) for whom in victims]
    for whom, shop, run, _ in begun:
        kill(shop, run, whom)
    for whom, shop, run, marks in begun:
        times = 1 if whom == "parser" else 2
        shop.wait(lambda marks=marks, times=times: began(marks) == times, 40)  # type: ignore[misc]
        (marks / "go").touch()
        assert shop.wait_for_runs("slow", 1) == {run: S.SUCCESS}
        assert began(marks) == times, "nothing ran more often than it was lost"
        assert shop.stop() == 0


def begin(install: Install, marks: Path) -> tuple[Installation, int, Path]:
    """An installation, a run of it that has begun and waits for `go`, and the folder of its marks."""
    marks.mkdir()
    shop = install(slow=slow(marks))
    shop.up("--workers", "2")
    shop.wait(known(shop, "slow"))
    run = trigger(shop)
    shop.wait(lambda: began(marks) == 1)
    return shop, run, marks


def kill(shop: Installation, run: int, whom: str) -> None:
    """End one of its processes at once; an installation whose root that was is started again."""
    assert shop.root is not None
    children = shop.children()
    with shop.metadata.read() as tx:
        found = tx.runs.get(run)
        assert found is not None
        assert found.holder is not None
        scheduler = int(found.holder.split(":")[1])
    if whom == "root":
        os.kill(shop.root.pid, signal.SIGKILL)
        shop.root.wait()
        shop.wait(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], 20)
        shop.up("--workers", "2")
    elif whom == "scheduler":
        os.kill(scheduler, signal.SIGKILL)
    else:
        # The parser is the second child of the root; workers come later.
        parser, *workers = sorted(pid for pid in children if pid != scheduler)
        for pid in workers if whom == "worker" else [parser]:
            os.kill(pid, signal.SIGKILL)


def test_a_run_keeps_the_code_with_which_it_began(install: Install, marks: Path) -> None:
    shop = install(slow=slow(marks, "old"))
    shop.up("--workers", "2")
    shop.wait(known(shop, "slow"))
    with shop.metadata.read() as tx:
        record = tx.definitions.pipeline("slow")
        assert record is not None
        code = record.code
    first = trigger(shop)
    shop.wait(lambda: began(marks) == 1)
    shop.write("slow", slow(marks, "new"))

    def changed() -> bool:
        with shop.metadata.read() as tx:
            record = tx.definitions.pipeline("slow")
            return record is not None and record.code != code

    shop.wait(changed)
    second = trigger(shop)
    shop.wait(lambda: began(marks) == 2)
    (marks / "go").touch()
    shop.wait_for_runs("slow", 2)
    with shop.metadata.read() as tx:
        assert tx.xcoms.get(first, "wait") == '"old"'
        assert tx.xcoms.get(second, "wait") == '"new"'
    assert shop.stop() == 0


def test_a_file_that_cannot_be_read_leaves_the_others_alone(install: Install) -> None:
    shop = install(chain=CHAIN, broken="import no_such_module_of_ours\n", loop="while True: pass\n")
    with (shop.folder / "tidemill.toml").open("a") as file:
        file.write('\n[pipelines]\ntimeout = "2s"\n')
    shop.up("--workers", "1")
    assert set(shop.wait_for_runs("chain", 3).values()) == {S.SUCCESS}

    def told() -> dict[str, str]:
        with shop.metadata.read() as tx:
            found = {error.file: error.what for error in tx.definitions.errors()}
        return found if len(found) == 2 else {}

    errors = shop.wait(told)
    assert "no_such_module_of_ours" in errors["pipelines/broken.py"]
    assert set(errors) == {"pipelines/broken.py", "pipelines/loop.py"}
    assert shop.stop() == 0


def test_a_run_is_cancelled_and_cleared_by_command(install: Install, marks: Path) -> None:
    shop = install(slow=slow(marks))
    shop.up("--workers", "2")
    shop.wait(known(shop, "slow"))
    run = trigger(shop)
    shop.wait(lambda: began(marks) == 1)
    shop.command("runs", "cancel", str(run))
    assert shop.wait_for_runs("slow", 1) == {run: S.CANCELLED}
    (marks / "go").touch()
    cleared = json.loads(shop.command("runs", "clear", str(run), "--json"))
    assert cleared["attempt"] == 2
    assert shop.wait_for_runs("slow", 2)[cleared["run_id"]] is S.SUCCESS
    assert shop.stop() == 0


CLEANS = """
    import pathlib, time
    import tidemill as tm
    from tidemill.operators import BaseOperator

    class Rented(BaseOperator):
        def execute(self, context):
            pathlib.Path("FOLDER", "began-1").touch()
            while True:
                time.sleep(0.02)

        def on_kill(self):
            pathlib.Path("FOLDER", "given-back").touch()

    with tm.DAG("cleans"):
        Rented(task_id="rented")
"""


def test_a_task_that_is_stopped_cleans_up(install: Install, marks: Path) -> None:
    shop = install(cleans=CLEANS.replace("FOLDER", str(marks)))
    shop.up("--workers", "1")
    shop.wait(known(shop, "cleans"))
    run = trigger(shop, "cleans")
    shop.wait(lambda: began(marks) == 1)
    shop.command("runs", "cancel", str(run))
    assert shop.wait_for_runs("cleans", 1) == {run: S.CANCELLED}
    assert (marks / "given-back").exists()
    assert shop.stop() == 0


def test_a_backfill_runs_the_range_and_says_how_far_it_is(install: Install) -> None:
    shop = install(chain=CHAIN.replace("catchup=True", "catchup=False"))
    shop.up("--workers", "2")
    shop.wait_for_runs("chain", 1)
    preview = json.loads(shop.command("backfill", "run", "chain", "2026-01-01..2026-01-03", "--dry-run", "--json"))
    assert [start[:10] for start, _ in preview["intervals"]] == ["2026-01-01", "2026-01-02"]
    made = json.loads(shop.command("backfill", "run", "chain", "2026-01-01..2026-01-03", "--json"))

    def done() -> bool:
        found = json.loads(shop.command("backfill", "show", str(made["backfill_id"]), "--json"))
        return bool(found["state"] == "success" and found["progress"]["success"] == 2)

    shop.wait(done)
    assert len(shop.published("chain")) == 3
    assert shop.stop() == 0
