"""Names of pipelines and tables: what SQL, the catalog and the archive can all hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.errors import DefinitionError
from tidemill.model.table import TableName, check_name


@pytest.fixture(autouse=True)
def _no_pipelines() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


@pytest.mark.parametrize(
    "name", ["temp", "system", "pg_catalog", "pg_temp", "information_schema", "main", "memory", "TEMP", "Main"]
)
def test_a_pipeline_cannot_have_the_name_of_a_schema_that_sql_keeps(name: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Pipeline(name)
    error = caught.value
    assert error.what == (
        f'"{name}" cannot name a pipeline: its tables would be "{name}.<table>" in SQL, '
        "where that means something else."
    )
    assert error.hint == f'"{name}_data"'
    assert error.where is not None
    assert "test_names.py" in error.where
    assert Pipeline(f"{name}_data").name == f"{name}_data"


def test_nor_that_of_the_system_tables_nor_that_of_a_batch() -> None:
    with pytest.raises(DefinitionError, match="where that means Tidemill's own tables"):
        Pipeline("tidemill")
    with pytest.raises(DefinitionError) as caught:
        Pipeline("shop__batch")
    assert caught.value.hint == '"shop"'


def test_pipelines_that_differ_only_in_case_are_one_schema_in_sql() -> None:
    Pipeline("shop")
    with pytest.raises(DefinitionError, match='"shop" and "Shop" differ only in case'):
        Pipeline("Shop")


def test_tables_that_differ_only_in_case_are_one_table_in_sql() -> None:
    p = Pipeline("shop")
    p.files("feeds/a.csv", name="orders")
    with pytest.raises(DefinitionError, match='"orders" and "Orders" differ only in case'):
        p.files("feeds/b.csv", name="Orders")


@pytest.mark.parametrize(("name", "keeps"), [("a__quarantine", "the rejected rows"), ("a__input", "all rows ever")])
def test_a_table_cannot_have_the_name_of_one_that_is_kept_beside_another(name: str, keeps: str) -> None:
    p = Pipeline("shop")
    with pytest.raises(DefinitionError, match=f'it is where "a" keeps {keeps}'):
        p.files("feeds/a.csv", name=name)
    with pytest.raises(DefinitionError, match=f'it is where "a" keeps {keeps}'):
        p.sql(text="select 1 as n", name=name)


@pytest.mark.parametrize("text", ["../x", "a.b.c", "a b", "", "x.", ".x", "x-y", "1a", "a" * 128])
def test_what_is_no_name_of_a_table(text: str) -> None:
    with pytest.raises(DefinitionError):
        TableName.parse(text, "shop")


def test_the_hint_is_a_name_that_fits() -> None:
    for name in ("../x", "2013 flights", "été", "", "a-b", "x" * 200):
        with pytest.raises(DefinitionError) as caught:
            check_name(name, "table")
        assert check_name((caught.value.hint or "").strip('"'), "table")
