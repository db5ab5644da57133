"""`tidemill branch`: what the commands say, and that they do what they say."""

from __future__ import annotations

import pytest


@pytest.fixture
def filled(shop):
    assert shop("-q", "run", "shop", "2026-01-01").exit_code == 0
    return shop


def spoil(shop):
    file = shop.folder / "feeds" / "2026-01-02" / "orders.csv"
    file.write_text(file.read_text().replace("NO,1,19.90", "NO,5000,19.90"))


def test_create_ls_and_drop(filled):
    made = filled("branch", "create", "try")
    assert made.out == "created  branch try  from main  4 tables\nnext: tidemill branch diff try"
    listed = filled("branch", "ls")
    assert (
        listed.out
        == """\
name  kind  state  tables  changed  from  created  expires
main  main  open  4  -  -  TIME  -
try  branch  open  4  0  main  TIME  -"""
    )
    assert filled("branch", "drop", "try").out == "dropped  try"
    assert "try" not in filled("branch", "ls").out


def test_a_tag_never_moves(filled):
    assert filled("branch", "tag", "v1").out.startswith("tagged  tag v1  from main  4 tables")
    filled("-q", "run", "shop", "2026-01-02")
    assert filled("query", "select count(*) as n from orders", "--branch", "v1").stdout == "n\n4\n"
    assert filled("query", "select count(*) as n from orders").stdout == "n\n7\n"
    assert "shop.orders  changed  0  -3  0  whole rows" in filled("branch", "diff", "v1").out


def test_names_that_are_taken_or_unknown(filled):
    filled("branch", "create", "try")
    taken = filled("branch", "create", "try")
    assert (taken.exit_code, taken.err.splitlines()[0]) == (1, 'error: A ref "try" exists.')
    unknown = filled("branch", "drop", "tyr")
    assert (unknown.exit_code, unknown.err) == (2, 'error: There is no branch "tyr".\n  try: did you mean "try"?')
    assert filled("branch", "drop", "main").err == 'error: "main" cannot be dropped.'


def test_ls_hides_branches_of_runs_and_names_the_failed_one(filled):
    spoil(filled)
    filled("-q", "run", "shop", "2026-01-02")
    result = filled("branch", "ls")
    assert "batch-2" not in result.out.splitlines()[1]
    assert result.out.splitlines()[-1] == "next: tidemill branch diff batch-2"
    assert result.err == "1 branch of a run not listed: --all"
    assert "batch-2  run  failed  4  3  main  TIME  TIME" in filled("branch", "ls", "--all").out


def test_diff_shows_tables_and_rows_before_and_after(filled):
    spoil(filled)
    filled("-q", "run", "shop", "2026-01-02")
    result = filled("branch", "diff", "batch-2")
    assert result.err == "run batch-2 against main as it was when batch-2 was made"
    assert (
        result.out
        == """\
table  change  added  removed  changed  rows matched by
shop.clean_orders  changed  +2  0  ~1  order_id
shop.orders  changed  +3  0  0  whole rows

shop.clean_orders
  + order_id=5  ordered_at=TIME customer=ann country=NO quantity=5000 price=19.9 total=99500.0
  + order_id=6  ordered_at=TIME customer=dee country=DK quantity=4 price=4.5 total=18.0
  ~ order_id=2  ordered_at: TIME -> TIME  quantity: 1 -> 2  total: 12.0 -> 24.0

shop.orders
  + order_id=2 ordered_at=TIME customer=bo country=SE quantity=2 price=12.0
  + order_id=5 ordered_at=TIME customer=ann country=NO quantity=5000 price=19.9
  + order_id=6 ordered_at=TIME customer=dee country=DK quantity=4 price=4.5

next: tidemill data show shop.clean_orders --branch batch-2""".replace("ordered_at: TIME -> TIME  ", "")
    )


def test_diff_of_one_table_bounded(filled):
    spoil(filled)
    filled("-q", "run", "shop", "2026-01-02")
    result = filled("branch", "diff", "batch-2", "orders", "--limit", "1")
    assert "  + 2 more added" in result.out.splitlines()
    assert "shop.clean_orders" not in result.out.split("next:")[0]
    told = filled("branch", "diff", "batch-2", "clean_orders", "--json").object
    (table,) = told["tables"]
    assert (table["added"], table["removed"], table["changed"], table["key"]) == (2, 0, 1, ["order_id"])
    changed = next(r for r in table["rows"] if r["kind"] == "changed")
    assert (changed["key"], changed["before"], changed["after"]) == (
        {"order_id": 2}, {"quantity": 1, "total": 12.0}, {"quantity": 2, "total": 24.0},
    )  # fmt: skip


def test_diff_of_a_branch_without_a_difference(filled):
    filled("branch", "create", "try")
    assert filled("branch", "diff", "try").out == "no difference: try changed no table"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("main", 2, 'error: "main" is what branches are compared with.'),
        ("tyr", 2, 'error: There is no branch "tyr".'),
        ("gone", 1, 'error: Branch "gone" was dropped: its tables are gone.'),
    ],
)
def test_diff_of_what_cannot_be_compared(filled, name, code, message):
    filled("branch", "create", "gone")
    filled("branch", "drop", "gone")
    result = filled("branch", "diff", name)
    assert (result.exit_code, result.err.splitlines()[0]) == (code, message)


def test_merge_of_a_branch_that_changed_nothing(filled):
    filled("branch", "create", "try")
    assert filled("branch", "merge", "try").out == "merged  try into main  0 tables\nnext: tidemill data ls"


def test_the_branch_of_a_run_is_not_merged(filled):
    spoil(filled)
    filled("-q", "run", "shop", "2026-01-02")
    result = filled("branch", "merge", "batch-2")
    assert result.exit_code == 1
    assert result.err.splitlines()[0] == 'error: "batch-2" is a run and cannot be merged.'


def test_revert_undoes_a_batch_and_replay_brings_it_back(filled):
    before = filled("query", "from clean_orders select order_id, total order by 1").stdout
    filled("-q", "run", "shop", "2026-01-02")
    after = filled("query", "from clean_orders select order_id, total order by 1").stdout
    result = filled("branch", "revert", "2")
    assert result.exit_code == 0
    assert result.out.splitlines()[0] == "reverted  batch 2  3 tables"
    assert result.out.splitlines()[-1] == "next: tidemill replay 2"
    assert filled("query", "from clean_orders select order_id, total order by 1").stdout == before
    assert "2  shop  2026-01-02  reverted" in filled("data", "batches").out
    assert filled("-q", "replay", "2").exit_code == 0
    assert filled("query", "from clean_orders select order_id, total order by 1").stdout == after


def test_a_batch_that_is_not_published_cannot_be_reverted(filled):
    spoil(filled)
    filled("-q", "run", "shop", "2026-01-02")
    result = filled("branch", "revert", "2")
    assert (result.exit_code, result.err.splitlines()[0]) == (
        1, "error: Batch 2 (shop 2026-01-02) is not on main: it is open.",
    )  # fmt: skip
