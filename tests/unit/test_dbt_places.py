"""What can be said of a dbt project without dbt: what to install for it, where things are, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

import tidemill as tm
from tidemill.adapters.dbt.environment import packages_for
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.operators import DbtProject
from tidemill.wiring.dbt import roots_of


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("shop:\n  outputs:\n    dev:\n      type: duckdb\n", ["dbt-duckdb>=1.11,<1.12"]),
        ("shop: {outputs: {dev: {type: 'postgres'}}}", ["dbt-postgres>=1.10,<1.12"]),
        ("a:\n  type: snowflake\n# type: duckdb\n", ["dbt-snowflake"]),
    ],
)
def test_the_adapters_to_install_are_those_that_the_profiles_name(tmp_path: Path, text: str, wanted: list[str]) -> None:
    (tmp_path / "profiles.yml").write_text(text)
    assert list(packages_for(tmp_path / "profiles.yml")) == ["dbt-core>=1.11,<1.12", *wanted]


def test_profiles_without_a_type_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "profiles.yml").write_text("shop: {}\n")
    with pytest.raises(DefinitionError, match="no type of database") as caught:
        packages_for(tmp_path / "profiles.yml")
    assert "dbt-duckdb" in str(caught.value.hint)


def test_a_path_is_that_of_the_project_also_in_a_kept_version_of_its_code(tmp_path: Path) -> None:
    kept = tmp_path / ".tidemill" / "checkouts" / "abc"
    for folder in (tmp_path, kept):
        (folder / "pipelines").mkdir(parents=True)
        (folder / "tidemill.toml").touch()
        (folder / "pipelines" / "a.py").touch()
    assert roots_of(tmp_path / "pipelines" / "a.py") == [tmp_path]
    assert roots_of(kept / "pipelines" / "a.py") == [tmp_path, kept]


def test_a_folder_without_a_dbt_project_is_one_clear_error() -> None:
    registry.clear()
    with pytest.raises(DefinitionError, match="no dbt_project") as caught, tm.DAG("d"):
        DbtProject("nowhere")
    assert "test_dbt_places.py" in str(caught.value.where)


def test_an_argument_that_there_is_not_is_told_with_the_nearest() -> None:
    registry.clear()
    with pytest.raises(UnknownName, match="argument of DbtProject") as caught, tm.DAG("d"):
        DbtProject("nowhere", selct="a")
    assert "select" in str(caught.value.hint)
