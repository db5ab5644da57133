"""Projects for the tests of commands."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.commands import CommandLine


@dataclass(frozen=True)
class Copied:
    """A project that took long to make, and a copy of it as it was."""

    folder: Path
    kept: Path

    def anew(self) -> CommandLine:
        """Put it back, whatever a test has done to it."""
        shutil.rmtree(self.folder)
        return CommandLine(self.kept).copied(self.folder)


@pytest.fixture(scope="module", autouse=True)
def _surroundings() -> Iterator[None]:
    """Times are shown in the computer's zone, which in tests is UTC; no settings come from outside."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("TIDEMILL_")]:
            patch.delenv(name)
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    """What a project's files put into this process goes with the test."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        if not name.startswith("tidemill") and "pipelines" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line in an empty project."""
    return _empty(tmp_path)


@pytest.fixture(scope="module")
def new_cli(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], CommandLine]:
    """Makes empty projects, to be filled once and copied for each test."""
    return lambda: _empty(tmp_path_factory.mktemp("made"))


def _empty(folder: Path) -> CommandLine:
    made = CommandLine(folder)
    made.write("tidemill.toml", '[project]\nname = "test"\n')
    return made


@pytest.fixture(scope="session")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """It, for copies."""
    return _shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(made_shop: CommandLine, tmp_path: Path) -> CommandLine:
    """The project that `tidemill init` writes."""
    return made_shop.copied(tmp_path)


@pytest.fixture(scope="session")
def made_filled(made_shop: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Copied:
    """That project with its first day published, to be put back as it was made."""
    folder = tmp_path_factory.mktemp("filled")
    made = made_shop.copied(folder / "shop")
    assert made("-q", "run", "shop", "2026-01-01").exit_code == 0
    made.copied(folder / "kept")
    return Copied(made.folder, folder / "kept")


@pytest.fixture
def filled(made_filled: Copied) -> CommandLine:
    """That project with its first day published: always in the same folder, as tables cannot move."""
    return made_filled.anew()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """That project with both of its days published, for tests that only read."""
    made = _shop(tmp_path_factory.mktemp("published"))
    assert made("-q", "run", "shop", "2026-01-01..2026-01-02").exit_code == 0
    return made


def _shop(folder: Path) -> CommandLine:
    made = CommandLine(folder)
    assert made("init").exit_code == 0
    return made
