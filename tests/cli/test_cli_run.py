"""`tidemill run` and `replay`: what they say and how they exit, when it goes well and when it does not."""

from __future__ import annotations

import pytest

FACTS = """\
ran  shop 2026-01-02  batch 1  attempt 1  SECONDS
extracted  shop.orders  161 B
loaded  shop.orders  3 rows
built  shop.clean_orders  3 rows
checked  shop.clean_orders  3 of 3 passed
built  shop.revenue_by_country  3 rows
published  shop.clean_orders  3 rows  upsert
published  shop.orders  3 rows  append
published  shop.revenue_by_country  3 rows  replace
next: tidemill data show shop.revenue_by_country"""

PROGRESS = """\
running shop for 2026-01-02, the latest complete interval (no date was given)
batch 1: shop 2026-01-02, attempt 1, 5 tasks
  extract.orders  success  161 B, in SECONDS
  load.orders  success  3 rows, in SECONDS
  build.clean_orders  success  3 rows, in SECONDS
  check.clean_orders  success  3 rows, 3 of 3 checks passed, in SECONDS
  build.revenue_by_country  success  3 rows, in SECONDS"""


def spoil(shop):
    """Put an order into the second day's feed that the check does not let pass."""
    file = shop.folder / "feeds" / "2026-01-02" / "orders.csv"
    file.write_text(file.read_text().replace("NO,1,19.90", "NO,5000,19.90"))


def mend(shop):
    file = shop.folder / "feeds" / "2026-01-02" / "orders.csv"
    file.write_text(file.read_text().replace("NO,5000,19.90", "NO,1,19.90"))


def test_without_a_date_the_latest_complete_interval_is_run_and_named(shop):
    result = shop("run", "shop")
    assert (result.exit_code, result.out, result.err) == (0, FACTS, PROGRESS)


def test_quiet_leaves_the_facts(shop):
    result = shop("-q", "run", "shop")
    assert (result.out, result.stderr) == (FACTS, "")


def test_a_range_runs_in_order_one_line_each(shop):
    result = shop("run", "shop", "2026-01-01..2026-01-02")
    assert result.exit_code == 0
    assert result.out.splitlines() == [
        "published  shop 2026-01-01  batch 1  4 rows loaded  3 tables  SECONDS",
        "published  shop 2026-01-02  batch 2  3 rows loaded  3 tables  SECONDS",
        "next: tidemill data show shop.revenue_by_country",
    ]


def test_a_second_run_reads_the_archive(shop):
    shop("run", "shop", "2026-01-02")
    spoil(shop)
    result = shop("run", "shop", "2026-01-02")
    assert result.exit_code == 0
    assert "extracted  shop.orders  161 B  already archived" in result.out
    assert "batch 1  attempt 2" in result.out


def test_a_failed_check_says_what_is_left_why_and_how_to_go_on(shop):
    spoil(shop)
    result = shop("-q", "run", "shop", "2026-01-02")
    assert result.exit_code == 1
    assert (
        result.out
        == """\
failed  shop 2026-01-02  batch 1  attempt 1  SECONDS
extracted  shop.orders  164 B
loaded  shop.orders  3 rows
built  shop.clean_orders  3 rows
failed  shop.clean_orders  check  between(quantity, 1, 1000)
skipped  shop.revenue_by_country  build  what it needs failed"""
    )
    assert (
        result.err
        == """\
error: A check of "shop.clean_orders" failed: between(quantity, 1, 1000): 1 of 3 rows (33.33%).
  at: pipelines/shop.py:11
  try: tidemill data show shop.clean_orders --branch batch-1 --failing
kept  branch batch-1  shop.clean_orders, shop.orders
untouched  main
why:  tidemill data batches 1
resume:  tidemill run shop 2026-01-02"""
    )


def test_every_command_that_a_failure_names_works(shop):
    spoil(shop)
    shop("-q", "run", "shop", "2026-01-02")
    failing = shop("data", "show", "shop.clean_orders", "--branch", "batch-1", "--failing")
    assert "between(quantity, 1, 1000)  error, batch 1: 1 of 3 rows (33.33%)" in failing.out
    assert "5000" in failing.out
    why = shop("data", "batches", "1")
    assert "state  failed, 1 attempt" in why.out
    mend(shop)
    resumed = shop("-q", "run", "shop", "2026-01-02", "--refetch")
    assert resumed.exit_code == 0


def test_a_range_stops_at_the_first_failure_and_resumes_from_there(shop):
    file = shop.folder / "feeds" / "2026-01-01" / "orders.csv"
    good = file.read_text()
    file.write_text(good.replace(",2,4.50", ",2000,4.50"))
    result = shop("-q", "run", "shop", "2026-01-01..2026-01-02")
    assert result.exit_code == 1
    assert "batch 2" not in result.out
    assert result.err.splitlines()[-1] == "resume:  tidemill run shop 2026-01-01..2026-01-02"


def test_reading_commands_say_which_branch_they_read_after_a_failure(shop):
    shop("run", "shop", "2026-01-01")
    for command in (
        ["data", "ls"],
        ["data", "show", "orders"],
        ["data", "history", "orders"],
        ["query", "from orders"],
    ):
        assert "reading" not in shop(*command).err
    spoil(shop)
    shop("run", "shop", "2026-01-02")
    for command in (
        ["data", "ls"],
        ["data", "show", "orders"],
        ["data", "history", "orders"],
        ["query", "from orders"],
    ):
        assert "reading main; batch 2 failed and is on branch batch-2" in shop(*command).err
        told = shop(*command, "--branch", "batch-2").err
        assert "reading batch-2; batch 2 failed and is not on main" in told
    mend(shop)
    shop("run", "shop", "2026-01-02", "--refetch")
    assert "reading" not in shop("data", "ls").err


BROKEN = """
import tidemill as tm

broken = tm.Pipeline("broken", params={"n": 3, "ratio": 0.5, "name": "x", "quick": False})


@broken.source
def rows(context):
    print("asked for", context.params["n"])
    for i in range(context.params["n"]):
        yield {"id": i}


@broken.table
def bad(rows):
    return rows.with_columns(x=1 / 0)
"""


def test_an_error_in_the_users_code_begins_with_the_line(cli):
    cli.write("pipelines/broken.py", BROKEN)
    result = cli("-q", "run", "broken", "monday")
    assert result.exit_code == 1
    assert (
        result.err
        == """\
pipelines/broken.py:15, in bad
    return rows.with_columns(x=1 / 0)
ZeroDivisionError: division by zero
  try: tidemill -q run broken monday --debug
kept  branch batch-1  broken.rows
untouched  main
why:  tidemill data batches 1
resume:  tidemill run broken monday"""
    )


def test_debug_shows_the_traceback(cli):
    cli.write("pipelines/broken.py", BROKEN)
    result = cli("-q", "run", "broken", "monday", "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert "ZeroDivisionError: division by zero" in result.stderr


def test_a_file_that_does_not_load_names_the_line(cli):
    cli.write("pipelines/a.py", "import tidemill as tm\n\np = tm.Pipelin('p')\n")
    result = cli("run", "p")
    assert result.exit_code == 2
    assert result.err.splitlines()[:2] == [
        'error: AttributeError: tidemill has no "Pipelin"; did you mean "Pipeline"?',
        "  at: pipelines/a.py:3",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "brokn"],
         'error: There is no pipeline "brokn".\n  at: pipelines/*.py, pipelines/*.yaml, pipelines/*.yml\n'
         '  try: did you mean "broken"?'),
        (["run", "broken", "--param", "m=1"],
         'error: There is no parameter "m".\n  at: pipelines/broken.py:3\n  try: known: n, name, quick, ratio'),
        (["run", "broken", "--param", "n=many"],
         'error: Parameter "n" does not fit: \'many\' is not of type \'integer\'.\n  at: pipelines/broken.py:3\n'
         "  try: type: integer"),
        (["run", "broken", "--param", "n"], 'error: "n" is no parameter.\n  try: --param name=value'),
        (["run", "nowhere.py"],
         'error: There is no file "nowhere.py".\n  try: a pipeline\'s name, or the path of its file'),
        (["run", "pipelines/broken.py:brokn"],
         'error: There is no pipeline "brokn".\n  at: pipelines/broken.py\n  try: did you mean "broken"?'),
        (["replay", "7"], 'error: There is no batch "7".\n  try: there is no batch yet'),
    ],
)  # fmt: skip
def test_a_wrong_name_or_value(cli, arguments, message):
    cli.write("pipelines/broken.py", BROKEN)
    result = cli(*arguments)
    assert (result.exit_code, result.err) == (2, message)


def test_parameters_have_the_type_of_their_default(cli):
    code = BROKEN.replace("x=1 / 0", "x=1")
    cli.write("pipelines/broken.py", code)
    result = cli("-q", "run", "broken", "k", "--param", "n=5", "--param", "quick=true", "--param", "ratio=1")
    assert result.exit_code == 0
    assert "asked for 5" in result.out
    assert "loaded  broken.rows  5 rows" in result.out


def test_json_is_one_object_whatever_the_users_code_prints(cli):
    cli.write("pipelines/broken.py", BROKEN)
    result = cli("run", "broken", "k", "--json")
    told = result.object
    assert "asked for 3" in result.stderr
    assert result.exit_code == 1
    assert told["ok"] is False
    assert [(r["batch_id"], r["state"], r["branch"]) for r in told["runs"]] == [(1, "failed", "batch-1")]
    assert told["error"]["kind"] == "ZeroDivisionError"
    assert told["error"]["where"] == "pipelines/broken.py:15, in bad"
    assert told["error"]["left"] == ["broken.rows"]
    assert told["next"] == "tidemill run broken k"


def test_json_of_a_run_that_went_well(shop):
    told = shop("run", "shop", "2026-01-02", "--json").object
    assert told["ok"] is True
    (run,) = told["runs"]
    assert run["interval"] == ["2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"]
    assert [(t["task"], t["state"], t["rows"]) for t in run["tasks"]][:2] == [
        ("extract.orders", "success", None), ("load.orders", "success", 3),
    ]  # fmt: skip
    assert {t["table"]: t["total"] for t in run["tables"]}["shop.orders"] == 3
    assert [c["passed"] for c in run["checks"]] == [True, True, True]


def test_a_file_is_run_by_its_path(cli):
    """A lone script needs no project: it is one."""
    (cli.folder / "tidemill.toml").unlink()
    cli.write("jobs/one.py", BROKEN.replace("x=1 / 0", "x=1"))
    result = cli("-q", "run", "jobs/one.py", "k")
    assert result.exit_code == 0
    assert (cli.folder / "jobs" / ".tidemill").is_dir()
    assert not (cli.folder / ".tidemill").exists()


def test_a_file_with_several_pipelines_wants_a_name(cli):
    cli.write("two.py", BROKEN.replace("x=1 / 0", "x=1") + '\nother = tm.Pipeline("other")\n')
    result = cli("run", "two.py")
    assert result.err == 'error: "two.py" makes 2 pipelines.\n  try: two.py:broken, two.py:other'
    assert cli("-q", "run", "two.py:broken", "k").exit_code == 0


def test_replay_runs_a_batch_from_its_archive(shop):
    shop("run", "shop", "2026-01-01..2026-01-02")
    before = shop("query", "select order_id, total from clean_orders order by 1").stdout
    for file in shop.folder.glob("feeds/*/*.csv"):
        file.unlink()
    code = shop.folder / "pipelines" / "shop.py"
    code.write_text(code.read_text().replace('* tm.col("price")', '* tm.col("price") * 2'))
    result = shop("-q", "replay", "2", "1")
    assert result.exit_code == 0
    assert [line.split("  ")[1:3] for line in result.out.splitlines()[:2]] == [
        ["shop 2026-01-02", "batch 2"], ["shop 2026-01-01", "batch 1"],
    ]  # fmt: skip
    after = shop("query", "select order_id, total / 2 as total from clean_orders order by 1").stdout
    assert after == before


def test_a_batch_without_an_archive_cannot_be_replayed(shop):
    for file in shop.folder.glob("feeds/*/*.csv"):
        file.unlink()
    assert shop("run", "shop", "2026-01-01").exit_code != 0
    result = shop("replay", "1")
    assert result.exit_code == 1
    assert result.err == (
        'error: Batch 1 (shop 2026-01-01) has nothing archived from "orders".\n'
        "  at: pipelines/shop.py:8\n  try: tidemill run shop 2026-01-01"
    )


def test_from_runs_a_task_and_what_follows_it(shop):
    shop("run", "shop", "2026-01-02")
    result = shop("-q", "run", "shop", "2026-01-02", "--from", "revenue_by_country")
    assert result.exit_code == 0
    assert [line.split("  ")[0] for line in result.out.splitlines()] == [
        "ran",
        "built",
        "published",
        "next: tidemill data show shop.revenue_by_country",
    ]


def test_an_interruption_publishes_nothing_and_says_how_to_resume(cli):
    cli.write(
        "pipelines/broken.py",
        BROKEN.replace("1 / 0", "interrupt()")
        + """

def interrupt():
    raise KeyboardInterrupt
""",
    )
    result = cli("-q", "run", "broken", "k")
    assert result.exit_code == 130
    assert result.err == "interrupted: nothing of this run was published\nresume:  tidemill run broken k"
    assert cli("data", "ls", "--json").object["tables"] == []
    assert cli("data", "batches", "--json").object["batches"][0]["state"] == "cancelled"
