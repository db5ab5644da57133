"""One definition for many feeds: a function with parameters that makes pipelines, in a file that Python imports."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import warm

FILE = """
import tidemill as tm


def feed(shop: str, limit: int) -> tm.Pipeline:
    p = tm.Pipeline(f"shop_{shop}", schedule="@daily", start="2026-01-01", end="2026-01-02")
    orders = p.files(f"feeds/{shop}/{{{{ ds }}}}.csv", name="orders")

    @p.table(key="id", write="upsert")
    def kept(orders):
        return orders.filter(tm.col("n") < limit)

    kept.expect(tm.not_null("id"))
    p.sql(text="select count(*) as rows from {{ ref('kept') }}", name="summary")
    return p


for number in range(20):
    feed(f"s{number:02}", limit=number)
"""


def tidemill(folder: Path, *arguments: str) -> str:
    done = warm.run([sys.executable, "-m", "tidemill.cli", *arguments], cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_function_makes_twenty_pipelines_that_share_nothing_but_their_code(tmp_path: Path) -> None:
    """Each has its own tables, and the parameters that it was made with."""
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shops"\n')
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "shops.py").write_text(FILE)
    for number in range(20):
        folder = tmp_path / "feeds" / f"s{number:02}"
        folder.mkdir(parents=True)
        (folder / "2026-01-01.csv").write_text("id,n\n" + "".join(f"{n},{n}\n" for n in range(20)))
    checked = json.loads(tidemill(tmp_path, "check", "--json"))
    assert [p["pipeline"] for p in checked["pipelines"]] == [f"shop_s{n:02}" for n in range(20)]
    for number in (3, 17):
        tidemill(tmp_path, "run", f"shop_s{number:02}", "2026-01-01")
    sql = "select (select rows from shop_s03.summary) as three, (select rows from shop_s17.summary) as seventeen"
    assert tidemill(tmp_path, "query", sql).split() == ["three", "seventeen", "3", "17"]
