"""Files of pipelines import each other, and hide no module of Python's or installed package of their name."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.model.errors import DefinitionError
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.settings import Settings

MADE = "import tidemill as tm\np = tm.Pipeline({name!r}, schedule=None)\nNAME = {name!r}\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A project whose files are called like modules of Python's: one that is built in, one that is imported late."""
    for name in ("time", "colorsys", "paint"):
        (tmp_path / "pipelines").mkdir(exist_ok=True)
        (tmp_path / "pipelines" / f"{name}.py").write_text(MADE.format(name=name), "utf-8")
    modules, path = dict(sys.modules), list(sys.path)
    sys.modules.pop("colorsys", None)
    yield tmp_path
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)


def loaded(root: Path) -> list[str]:
    return sorted(load_pipelines(Settings(root, "test")))


def test_a_file_called_like_a_module_is_a_pipeline_and_the_module_stays_what_it_is(root: Path) -> None:
    other = "from colorsys import rgb_to_hsv\nfrom paint import NAME\nfrom pipelines.colorsys import NAME as whole\n"
    (root / "pipelines" / "aquarelle.py").write_text(other + MADE.format(name="aquarelle"), "utf-8")
    assert loaded(root) == ["aquarelle", "colorsys", "paint", "time"]
    assert sys.modules["time"] is time
    assert hasattr(sys.modules["colorsys"], "rgb_to_hsv")


def test_who_means_the_file_is_told_its_name_is_taken(root: Path) -> None:
    (root / "pipelines" / "aquarelle.py").write_text("from colorsys import NAME\n", "utf-8")
    with pytest.raises(DefinitionError, match="cannot import name 'NAME'") as told:
        loaded(root)
    assert str(told.value.hint).endswith("colorsys.py: rename your colorsys.py")
