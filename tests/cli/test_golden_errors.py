"""The whole text of typical mistakes, as the terminal shows it: what happened, where in the user's file, what to try.

Each begins with the project that `tidemill init` writes, with one mistake in one file. No mistake shows a traceback.
"""

from __future__ import annotations

import sys
import textwrap

import pytest

from tidemill.model.branch import MAIN

FILE = "pipelines/shop.py"
MODEL = "pipelines/models/revenue_by_country.sql"
FEED = "feeds/2026-01-02/orders.csv"


def edit(shop, old, new, file=FILE):
    path = shop.folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def told(result):
    """Standard error without what is left of the run, which has tests of its own."""
    assert "Traceback" not in result.stderr
    left = ("kept", "untouched", "why:", "resume:")
    return [line for line in result.err.splitlines() if not line.startswith(left)]


def golden(text):
    return textwrap.dedent(text).strip("\n").splitlines()


#: Mistake -> (exit code, file, what stands there, what is written instead, the error).
IN_A_FILE = {
    "a wrong key column": (1, FILE, 'key="order_id"', 'key="id"', """
    error: Table "shop.clean_orders" has key="id", and its rows have no such column.
      at: pipelines/shop.py:11
      try: columns: order_id, ordered_at, customer, country, quantity, price, total
    """),
    "no key": (2, FILE, 'key="order_id", ', "", """
    error: Table "shop.clean_orders" is written by upsert and has no key.
      at: pipelines/shop.py:11
      try: name the columns that identify a row: key=["id"]
    """),
    "an unknown option": (2, FILE, 'key="order_id"', 'keys="order_id"', """
    error: There is no option "keys".
      at: pipelines/shop.py:11
      try: did you mean "key"?
    """),
    "an unknown write mode": (2, FILE, '"upsert"', '"upset"', """
    error: There is no write mode "upset".
      at: pipelines/shop.py:11
      try: did you mean "upsert"?
    """),
    "an unknown contract": (2, FILE, "orders.csv\"", 'orders.csv", contract="frozen"', """
    error: There is no contract mode "frozen".
      at: pipelines/shop.py:8
      try: did you mean "freeze"?
    """),
    "an unknown schedule": (2, FILE, "@daily", "@dayly", """
    error: There is no schedule "@dayly".
      at: pipelines/shop.py:5
      try: one of @hourly, @daily, @weekly, @monthly, @quarterly, @yearly, @once, @continuous
    """),
    "a name that SQL keeps": (2, FILE, 'Pipeline("shop"', 'Pipeline("temp"', """
    error: "temp" cannot name a pipeline: in SQL, "temp.<table>" means something else.
      at: pipelines/shop.py:5
      try: "temp_data"
    """),
    "an unknown upstream": (2, FILE, "def clean_orders(orders)", "def clean_orders(order)", """
    error: There is no table "order".
      at: pipelines/shop.py:11
      try: did you mean "orders"?
    """),
    "a table that reads itself": (2, FILE, "def clean_orders(orders)", "def clean_orders(orders, clean_orders)", """
    error: Table "clean_orders" reads the rows of the batch that it is about to make.
      at: pipelines/shop.py:11
      try: tm.whole() reads what it held before; the function's name is that of the table it makes
    """),
    "a circle": (2, FILE, "(orders):", "(orders, revenue_by_country=tm.whole()):", """
    error: Tables of pipeline "shop" read each other in a circle: clean_orders -> revenue_by_country -> clean_orders.
      at: pipelines/shop.py:11
      try: take one of these inputs out, or split a table in two
    """),
    "an unknown table in SQL": (2, MODEL, 'ref("clean_orders")', 'ref("clean_order")', f"""
    error: There is no table "clean_order".
      at: {MODEL}:2
      try: did you mean "clean_orders"?
    """),
    "an unknown column in SQL": (1, MODEL, "GROUP BY country", "GROUP BY contry", f"""
    error: There is no column "contry".
      at: {MODEL}:3
      try: did you mean "country"?
    """),
    "a syntax error in SQL": (1, MODEL, "GROUP BY", "GRUOP BY", f"""
    error: SQL syntax error at or near "BY".
      at: {MODEL}:3
      try: did you mean "GROUP"?
    """),
    "an unknown word in a template": (2, MODEL, "ref(", "reff(", f"""
    error: There is no template variable "reff".
      at: {MODEL}:2
      try: did you mean "ref"?
    """),
    "an unknown column in a function": (1, FILE, 'tm.col("customer")', 'tm.col("custmer")', """
    error: There is no column "custmer".
      at: pipelines/shop.py:14
      try: did you mean "customer"?
    """),
    "an error in a function": (1, FILE, "    return orders", "    print(1 / 0)\n    return orders", """
    pipelines/shop.py:14, in clean_orders
        print(1 / 0)
    ZeroDivisionError: division by zero
      try: tidemill -q run shop 2026-01-02 --debug
    """),
    "a pandas habit": (1, FILE, '.filter(tm.col("customer") != "test")', '[orders["customer"] != "test"]', """
    error: f[condition] does not filter.
      at: pipelines/shop.py:14
      try: f.filter(condition)
    """),
    "a syntax error in Python": (2, FILE, "def clean_orders(orders):", "def clean_orders(orders)", """
    error: SyntaxError: expected ':' (shop.py, line 12)
      at: pipelines/shop.py:12
      try: python pipelines/shop.py
    """),
    "a module that is not there": (2, FILE, "import tidemill as tm", "import tidemill as tm\nimport nothere.at_all", """
    error: ModuleNotFoundError: No module named 'nothere'
      at: pipelines/shop.py:4
      try: install nothere into this environment, or mend the import
    """),
    "a check that does not exist": (2, FILE, "tm.not_null", "tm.notnull", """
    error: AttributeError: tidemill has no "notnull"; did you mean "not_null"?
      at: pipelines/shop.py:18
      try: python pipelines/shop.py
    """),
    "a check of a column that is not there": (1, FILE, '"country")', '"contry")', """
    error: There is no column "contry".
      at: check "not_null(order_id, contry)" of shop.clean_orders
      try: did you mean "country"?
    """),
    "a failing check": (1, FILE, '"quantity", 1, 1000', '"quantity", 2, 1000', """
    error: A check of "shop.clean_orders" failed: between(quantity, 2, 1000): 1 of 3 rows (33.33%).
      at: pipelines/shop.py:11
      try: tidemill data show shop.clean_orders --branch batch-1 --failing
    """),
    "a section of the settings": (2, "tidemill.toml", "[project]", "[projct]", """
    error: There is no section "projct".
      at: tidemill.toml
      try: did you mean "project"?
    """),
    "a database that is not taken": (2, "tidemill.toml", "[project]", '[metadata]\nurl = "mysql://h/d"\n[project]', """
    error: The metadata store cannot be kept in "mysql".
      at: tidemill.toml
      try: "sqlite:///.tidemill/metadata.db" or "postgresql://user:password@host/database"
    """),
}  # fmt: skip


@pytest.mark.parametrize("mistake", IN_A_FILE)
def test_a_mistake_in_a_file(shop, mistake):
    code, file, old, new, text = IN_A_FILE[mistake]
    edit(shop, old, new, file)
    result = shop("-q", "run", "shop", "2026-01-02")
    assert (told(result), result.exit_code) == (golden(text), code)


PATTERNS = "pipelines/*.py, pipelines/*.yaml, pipelines/*.yml"
#: Arguments -> the error, after the first day was published.
ON_THE_COMMAND_LINE = {
    "doctr": 'error: There is no command "doctr".\n  try: did you mean "tidemill doctor"?',
    "data hist": 'error: There is no command "hist".\n  try: did you mean "tidemill data history"?',
    "run shop --refech": 'error: There is no option "--refech".\n  try: did you mean "--refetch"?',
    "run shp": f'error: There is no pipeline "shp".\n  at: {PATTERNS}\n  try: did you mean "shop"?',
    "check shp": f'error: There is no pipeline "shp".\n  at: {PATTERNS}\n  try: did you mean "shop"?',
    "run shop 2026-13-01": 'error: "2026-13-01" is no date or time.\n  try: "2013-01-15" or "2013-01-15T03:00"',
    "run shop 2026-01-02..2026-01-01": (
        'error: The range "2026-01-02..2026-01-01" runs backwards.\n  try: "2026-01-01..2026-01-02"'
    ),
    "run shop 2062-01-01": (
        'error: The interval 2062-01-01 is after the end of "shop", 2026-01-03 00:00.\n  at: pipelines/shop.py:5\n'
        "  try: another date, or another start= or end= of the pipeline"
    ),
    "run shop 2025-12-31..2026-01-01": (
        'error: The interval 2025-12-31 is before the start of "shop", 2026-01-01 00:00.\n  at: pipelines/shop.py:5\n'
        "  try: another date, or another start= or end= of the pipeline"
    ),
    "run shop 2026-01-01 --from clean_order": (
        'error: There is no task "clean_order".\n'
        '  try: did you mean "clean_orders" or "check.clean_orders" or "build.clean_orders"?'
    ),
    "run shop 2026-01-01 --param day=1": (
        'error: There is no parameter "day".\n  at: pipelines/shop.py:5\n'
        '  try: declare it: params={"day": ...}'
    ),
    "data show ordrs": (
        'error: There is no table "ordrs".\n  at: branch "main"\n  try: did you mean "shop.orders"?'
    ),
    "data history shop.clean_order": (
        'error: There is no table "shop.clean_order".\n  at: branch "main"\n'
        '  try: did you mean "shop.clean_orders" or "shop.orders"?'
    ),
    "data batches 99": 'error: There is no batch "99".\n  try: known: 1',
    "replay 99": 'error: There is no batch "99".\n  try: known: 1',
    "branch revert 99": 'error: There is no batch "99".\n  try: known: 1',
    "branch diff exprt": 'error: There is no branch "exprt".\n  try: did you mean "expert"?',
    "branch merge exprt": 'error: There is no branch "exprt".\n  try: did you mean "expert"?',
    "branch drop exprt": 'error: There is no branch "exprt".\n  try: did you mean "expert"?',
    "branch create x --from exprt": 'error: There is no branch "exprt".\n  try: did you mean "expert"?',
    "data ls --branch exprt": 'error: There is no branch "exprt".\n  try: did you mean "expert"?',
    "branch merge batch-1": (
        'error: Branch "batch-1" cannot be published: it is merged.\n  try: tidemill branch ls --all'
    ),
    "query": "error: Missing argument \"SQL\".\n  try: tidemill query --help",
}  # fmt: skip


@pytest.mark.parametrize("line", ON_THE_COMMAND_LINE)
def test_a_mistake_on_the_command_line(filled, line):
    assert filled("branch", "create", "expert").exit_code == 0
    result = filled("-q", *line.split())
    assert result.err == ON_THE_COMMAND_LINE[line]
    assert result.exit_code in (1, 2)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("selct 1", 'SQL syntax error at or near "1".\n  at: line 1, column 7\n  try: did you mean "SELECT"?'),
        ("select * from shop.orders\nwhere", 'SQL syntax error: something is missing after "where".\n'
                                             "  at: line 2, column 1"),
        ("select 'a", "This SQL cannot be read.\n  try: is a quote or a comment left open?"),
        ("select * from shop.ordrs", 'There is no table "shop.ordrs".\n  at: branch "main"\n'
                                     '  try: did you mean "shop.orders" or "shop.clean_orders"?'),
        ("select\n  ordr_id from shop.orders", 'There is no column "ordr_id".\n  at: line 2, column 3\n'
                                               '  try: did you mean "order_id"?'),
        ("select * from tidemill.run", 'There is no table "tidemill.run".\n'
                                       '  try: did you mean "tidemill.runs" or "tidemill.tasks" or "tidemill.files"?'),
        ("drop table shop.orders", "A statement that only reads is wanted, and this is DROP.\n"
                                   "  try: SELECT ..., FROM ..., WITH ... SELECT ... or VALUES ..."),
    ],
)  # fmt: skip
def test_a_mistake_in_a_query(published, sql, text):
    result = published("query", sql)
    assert (result.err, result.exit_code) == (f"error: {text}", 2)


def test_no_project(tmp_path):
    from harness.commands import CommandLine

    result = CommandLine(tmp_path)("run", "shop")
    assert (result.err, result.exit_code) == (
        f'error: There is no project at or above "{tmp_path}".\n  try: tidemill init my_project, or --project FOLDER',
        2,
    )


def test_a_frozen_contract(filled):
    edit(filled, 'orders.csv"', 'orders.csv", contract="freeze"')
    feed = filled.folder / FEED
    header, *rows = feed.read_text().splitlines()
    feed.write_text("\n".join([header + ",coupon", *(row + ",SPRING" for row in rows)]) + "\n")
    result = filled("-q", "run", "shop", "2026-01-02")
    assert told(result) == golden(f"""
        error: The data differs from the table, and its contract is freeze:
            + coupon string
          at: {FEED}
          try: change the source, or let the table follow: contract evolve
        """)
    assert result.exit_code == 1


def test_a_merge_that_conflicts(filled):
    """One side dropped a table, the other replaced it: neither may win silently."""
    from tidemill.wiring.services import connect
    from tidemill.wiring.settings import load_settings

    assert filled("branch", "create", "work").exit_code == 0
    services = connect(load_settings(filled.folder))
    with services.metadata.write() as tx:
        for name, pointer in tx.refs.pointers("work").items():
            if name.table == "revenue_by_country":
                tx.refs.swap("work", name, pointer, None)
    services.metadata.close()
    assert filled("-q", "run", "shop", "2026-01-02").exit_code == 0
    result = filled("branch", "merge", "work")
    assert (result.err, result.exit_code) == (
        'error: Branch "work" conflicts with "main" on shop.revenue_by_country: the branch dropped it and '
        "the head changed it.\n  try: tidemill branch diff work",
        1,
    )


def test_a_batch_that_another_process_runs(filled):
    from tidemill.flow.attempt import open_attempt
    from tidemill.flow.run import open_batch
    from tidemill.wiring.project import load_pipelines
    from tidemill.wiring.runner import keys_of
    from tidemill.wiring.services import connect
    from tidemill.wiring.settings import load_settings

    settings = load_settings(filled.folder)
    services = connect(settings)
    spec = load_pipelines(settings)["shop"].spec()
    (key,) = keys_of(spec, "2026-01-02", services)
    with open_attempt(services, spec, open_batch(services, spec, key)) as attempt:
        attempt.commit({}, {next(iter(spec.transforms.values())).table.name: "SELECT 1 AS one"})
        busy = filled("-q", "run", "shop", "2026-01-02")
        locked = filled("branch", "drop", attempt.branch)
    services.metadata.close()
    assert attempt.run.lease_until is not None
    until = f"{attempt.run.lease_until:%H:%M:%S} UTC"
    assert busy.err == (
        f"error: Batch 2 is being run by another process until {until}.\n  at: {services.holder}\n"
        "  try: wait for it, or stop that process"
    )
    assert locked.err == ('error: Branch "batch-2" is being written by run 2.\n  try: wait for it, or stop it')
    assert (busy.exit_code, locked.exit_code) == (1, 1)


def test_main_stays(filled):
    result = filled("branch", "drop", MAIN)
    assert (result.err, result.exit_code) == ('error: "main" cannot be dropped.', 1)


@pytest.mark.parametrize(
    ("module", "file", "old", "new", "text"),
    [
        ("pandas", FILE, 'key="order_id"', 'engine="pandas", key="order_id"', """
            error: pandas is not installed.
              at: pipelines/shop.py:11
              try: pip install "tidemill[pandas]"
            """),
        ("psycopg", "tidemill.toml", "[project]", '[metadata]\nurl = "postgresql://u@h/d"\n[project]', """
            error: The metadata store is in PostgreSQL, whose driver is not installed.
              at: tidemill.toml
              try: pip install "tidemill[postgres]"
            """),
    ],
)  # fmt: skip
def test_an_extra_that_is_not_installed(shop, monkeypatch, module, file, old, new, text):
    edit(shop, old, new, file)
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    result = shop("-q", "run", "shop", "2026-01-02")
    assert told(result) == golden(text)
