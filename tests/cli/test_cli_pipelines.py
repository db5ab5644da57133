"""`tidemill pipelines`: what it says of pipelines, of their next runs, and of files that cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime

import pytest

from harness.commands import CommandLine
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings

LS = """\
pipeline  schedule  state  next run  last runs  file
shop  @daily  active  now  -  pipelines/shop.py
next: tidemill pipelines show shop"""

SHOW = """\
pipeline  shop  tables, published together, 5 tasks
declared  pipelines/shop.py:5
schedule  @daily  active
interval  from TIME to TIME  newest
next run  now
runs  1 at the same time
code  VERSION  read TIME

task  kind  after  tries  reads  writes  place
extract.orders  extract  -  1  -  -  pipelines/shop.py:8
load.orders  load  extract.orders  1  -  shop.orders  pipelines/shop.py:8
build.clean_orders  build  load.orders  1  shop.orders  shop.clean_orders  pipelines/shop.py:11
check.clean_orders  check  build.clean_orders  1  shop.clean_orders  -  pipelines/shop.py:11
build.revenue_by_country  build  check.clean_orders  1  shop.clean_orders  shop.revenue_by_country  MODEL
next: tidemill pipelines next shop"""

BROKEN = """\
pipeline  schedule  state  next run  last runs  file
shop  @daily  file broken  now  -  pipelines/shop.py

error: pipelines/shop.py cannot be read: NameError: name 'nonsense' is not defined
  at: pipelines/shop.py:1
  try: python pipelines/shop.py
next: tidemill pipelines show shop"""


def write(cli: CommandLine, name: str, options: str) -> None:
    cli.write(f"pipelines/{name}.py", f"import tidemill as tm\np = tm.Pipeline('{name}'{options})\n")


def test_the_list_tells_what_the_files_say_though_nothing_runs(shop: CommandLine) -> None:
    result = shop("pipelines", "ls")
    assert (result.exit_code, result.out, result.err) == (0, LS, "")


def test_a_broken_file_is_told_beside_its_pipeline(shop: CommandLine) -> None:
    shop("pipelines", "ls")
    shop.write("pipelines/shop.py", "nonsense\n")
    result = shop("pipelines", "ls")
    assert (result.exit_code, result.out) == (0, BROKEN)
    told = shop("pipelines", "ls", "--json").object
    assert [one["readable"] for one in told["pipelines"]] == [False]
    assert [error["file"] for error in told["errors"]] == ["pipelines/shop.py"]
    assert "cannot be read" in shop("pipelines", "show", "shop").out


def test_one_pipeline_is_shown_with_its_tasks(shop: CommandLine) -> None:
    result = shop("pipelines", "show", "shop")
    version = shop("pipelines", "ls", "--json").object["pipelines"][0]["code_version"]
    told = result.out.replace(version, "VERSION").replace("pipelines/models/revenue_by_country.sql", "MODEL")
    assert (result.exit_code, told) == (0, SHOW)
    made = shop("pipelines", "show", "shop", "--json").object
    assert (made["definition"]["kind"], made["errors"]) == ("tables", [])


def test_the_next_runs_are_those_that_a_scheduler_would_begin(cli: CommandLine) -> None:
    write(cli, "p", ", '@daily', start='2026-01-01', end='2026-01-04', catchup=True, zone='Europe/London'")
    told = cli("pipelines", "next", "p").out.splitlines()
    assert [line.split("  ")[1:] for line in told[1:]] == [["now", f"2026-01-0{day}"] for day in (1, 2, 3)]
    assert len(cli("pipelines", "next", "p", "-n", "1").out.splitlines()) == 2
    found = cli("pipelines", "next", "p", "--json").object
    assert [one["interval"][0] for one in found["next"]] == [f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3)]


@pytest.mark.parametrize(
    ("options", "told"),
    [("", "it runs by hand only"), (", 'other.t'", None), (", FilesArrive('in/*')", "when files come that match in/*"),
     (", Published('a.b')", "it runs when a.b is published"), (", '@daily', start='2999-01-01'", "2999-01-01"),
     (", '@daily', end='2001-01-01', start='2001-01-01'", "no more runs; it ends at 2001-01-01 00:00:00")],
)  # fmt: skip
def test_why_there_is_no_next_run_is_told(cli: CommandLine, options: str, told: str | None) -> None:
    more = "from tidemill.model.condition import FilesArrive, Published\n"
    cli.write("pipelines/p.py", f"{more}import tidemill as tm\np = tm.Pipeline('p'{options})\n")
    result = cli("pipelines", "next", "p")
    if told is None:
        assert (result.exit_code, "There is no pipeline" in result.err) == (2, True)
    else:
        assert told in result.stdout


def test_a_schedule_is_paused_and_resumed(shop: CommandLine) -> None:
    result = shop("pipelines", "pause", "shop")
    assert (result.exit_code, result.out) == (0, "paused  shop\nnext: tidemill pipelines unpause shop")
    assert shop("pipelines", "ls").out.splitlines()[1] == "shop  @daily  paused  -  -  pipelines/shop.py"
    assert "it is paused" in shop("pipelines", "next", "shop").err
    result = shop("pipelines", "unpause", "shop", "--json")
    assert result.object == {"resumed": ["shop"]}
    assert "active" in shop("pipelines", "ls").out


def test_a_misspelt_name_is_answered_with_the_nearest(shop: CommandLine) -> None:
    for command in ("show", "next", "pause", "unpause"):
        result = shop("pipelines", command, "shp")
        assert (result.exit_code, result.out) == (2, "")
        assert result.err == 'error: There is no pipeline "shp".\n  try: did you mean "shop"?'


def test_the_strip_shows_the_last_runs(filled: CommandLine) -> None:
    assert filled("pipelines", "ls").out.splitlines()[1] == "shop  @daily  active  now  +  pipelines/shop.py"


def test_a_project_without_pipelines_says_so(cli: CommandLine) -> None:
    result = cli("pipelines", "ls")
    assert (result.exit_code, result.out, result.err) == (
        0,
        "",
        "no pipeline in pipelines/*.py, pipelines/*.yaml, pipelines/*.yml",
    )


FOLLOW = """
import os, select
from pathlib import Path
from tidemill.wiring.parsing import parse_forever
from tidemill.wiring.settings import load_settings
stopping = lambda: bool(select.select([0], [], [], 0)[0])
parse_forever(load_settings(Path(".")), stopping, 0, changed=lambda names: os.write(1, b"ready"))
"""


def seen_at(cli: CommandLine) -> datetime:
    store = open_metadata(load_settings(cli.folder), system_clock())
    with store.read() as tx:
        record = tx.definitions.pipeline("shop")
    store.close()
    assert record is not None
    return record.seen_at


def test_while_a_parser_follows_the_files_commands_leave_them_to_it(shop: CommandLine) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW], cwd=shop.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 5) == b"ready"
    read = seen_at(shop)
    assert shop("pipelines", "ls").out == LS
    assert seen_at(shop) == read
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
    assert shop("pipelines", "ls").out == LS
    assert seen_at(shop) > read
