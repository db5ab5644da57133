"""A pipeline written in a notebook: cells run again and again, previews, reads, and what a cell shows."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tidemill.authoring import registry
from tidemill.model.branch import RefKind, RefState
from tidemill.model.errors import UnknownName
from tidemill.wiring.runner import close, services_of
from tidemill.wiring.settings import load_settings

PIPELINE = """
import tidemill as tm
shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")
"""
SOURCE = """
@shop.source
def orders(interval):
    asked.append(interval.ds)
    yield {"id": 1, "note": "<b>&</b>", "price": 10}
    yield {"id": 2, "note": None, "price": 20}
"""
TABLE = """
@shop.table(key="id", write="upsert")
def clean(orders):
    return orders.with_columns(double=tm.col("price") * 2)

clean.expect(tm.not_null("id"))
"""


class Notebook:
    """Cells in one namespace; the value of a cell's last line is what it shows."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"asked": []}
        self._numbers = itertools.count(1)

    def __call__(self, cell: str) -> Any:
        file = f"ipykernel_4711/{next(self._numbers)}.py"
        tree = ast.parse(cell.strip())
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, file, "exec"), self.names)
        return eval(compile(ast.Expression(last.value), file, "eval"), self.names) if last else None


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A notebook in an empty folder, with the pipeline's three cells run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEMILL_PROJECT", raising=False)
    registry.clear()
    made = Notebook()
    for cell in (PIPELINE, SOURCE, TABLE):
        made(cell)
    yield made
    close(tmp_path)
    registry.clear()


class Cells(HTMLParser):
    """The texts of a table's cells, and whether every element that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th", "caption"} & set(self.open):
            self.cells[-1] += data


def test_a_cell_that_runs_again_replaces_what_it_defined(notebook: Notebook) -> None:
    notebook('shop.run("2026-01-01")')
    notebook(TABLE.replace("* 2", "* 3"))
    notebook('shop.run("2026-01-01")')
    assert notebook('tm.read("clean").to_polars()["double"].sort().to_list()') == [30, 60]
    spec = notebook("shop.spec()")
    assert list(spec.transforms) == ["clean"]
    assert [c.name for c in spec.checks["clean"]] == ["not_null(id)"]
    assert notebook("asked") == ["2026-01-01"], "the source is not asked for what the archive has"


def test_the_pipelines_own_cell_begins_anew(notebook: Notebook) -> None:
    notebook(PIPELINE)
    assert notebook("shop.spec()").transforms == {}
    notebook(PIPELINE.replace('"shop"', '"Shop"'))
    notebook(PIPELINE)
    for cell in (SOURCE, TABLE):
        notebook(cell)
    assert notebook('shop.run("2026-01-01")').last.ok


def test_a_table_that_runs_again_keeps_the_checks_of_other_cells(notebook: Notebook) -> None:
    notebook('clean.expect(tm.between("price", 0, 15))')
    notebook(TABLE)
    assert sorted(c.name for c in notebook("shop.spec()").checks["clean"]) == ["between(price, 0, 15)", "not_null(id)"]
    with pytest.raises(Exception, match="between"):
        notebook('shop.run("2026-01-01")')
    notebook('clean.expect(tm.between("price", 0, 15, severity="warn"))')
    assert notebook('shop.run("2026-01-01")').last.ok


def test_a_preview_shows_rows_and_publishes_nothing(notebook: Notebook, tmp_path: Path) -> None:
    shown = notebook('clean.preview("2026-01-01")')
    assert sorted(shown.to_polars()["double"]) == [20, 40]
    assert repr(shown).startswith("shop.clean, 2026-01-01, not published: 2 rows")
    services = services_of(load_settings(tmp_path))
    with services.metadata.read() as tx:
        assert tx.refs.pointers("main") == {}
        assert {r.state for r in tx.refs.all(kinds=[RefKind.RUN])} == {RefState.DROPPED}
    notebook(TABLE.replace("* 2", "* 3"))
    assert notebook('clean.preview("2026-01-01", rows=1)').to_arrow().num_rows == 1
    assert notebook('shop.preview("orders", "2026-01-01")').columns[:3] == ["id", "note", "price"]
    assert notebook('shop.run("2026-01-01")').last.ok
    assert notebook("asked") == ["2026-01-01"]


def test_a_preview_of_what_is_not_there(notebook: Notebook) -> None:
    with pytest.raises(UnknownName, match='There is no table "cleen"'):
        notebook('shop.preview("cleen", "2026-01-01")')


def test_read_gives_frames_of_every_kind(notebook: Notebook) -> None:
    notebook('shop.run("2026-01-01")')
    assert notebook('tm.read("clean").to_polars().height') == 2
    assert notebook('tm.read("shop.clean").to_arrow().num_rows') == 2
    assert sorted(notebook('tm.read("clean").to_pandas()["price"]')) == [10, 20]
    assert notebook('len(tm.query("select * from clean where price > 15"))') == 1
    with pytest.raises(UnknownName, match="did you mean"):
        notebook('tm.read("cleen")')


def test_read_takes_a_branch_and_a_moment(notebook: Notebook) -> None:
    notebook('shop.run("2026-01-01")')
    before = notebook("__import__('datetime').datetime.now(__import__('datetime').UTC)")
    notebook.names["before"] = before
    notebook(TABLE.replace("* 2", "* 3"))
    notebook('shop.run("2026-01-01")')
    assert sorted(notebook('tm.read("clean", at=before).to_polars()["double"]')) == [20, 40]
    assert sorted(notebook('tm.read("clean").to_polars()["double"]')) == [30, 60]
    notebook('clean.expect(tm.between("price", 0, 15))')
    with pytest.raises(Exception, match="--branch batch-2"):
        notebook('shop.run("2026-01-02")')
    assert notebook('tm.read("orders", branch="batch-2").to_polars().height') == 4
    assert notebook('tm.read("orders").to_polars().height') == 2


def test_what_a_cell_shows_is_a_table_with_its_texts_escaped(notebook: Notebook) -> None:
    shown = notebook('shop.run("2026-01-01..2026-01-02")')
    cells = Cells(shown._repr_html_()).cells
    assert cells[:5] == ["batch", "interval", "state", "rows", "time"]
    assert cells[5:8] == ["1", "shop 2026-01-01", "success"]
    assert "shop.clean 2" in cells[8]
    assert re.fullmatch(r"batch 1  shop 2026-01-01  success  \d+\.\d\d s  .*shop.clean 2.*", repr(shown).split("\n")[0])
    rows = notebook('tm.query("select id, note from orders where _batch_id = 1 order by id")')
    html = rows._repr_html_()
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in html
    assert Cells(html).cells == ["query: 2 rows", "idint64", "notestring", "1", "<b>&</b>", "2", "null"]


def test_a_long_result_shows_its_first_rows(notebook: Notebook) -> None:
    html = notebook('tm.query("select range as n from range(1000)")')._repr_html_()
    assert Cells(html).cells[0] == "query: first 10 of 1,000 rows"
    assert html.count("<tr>") == 11
