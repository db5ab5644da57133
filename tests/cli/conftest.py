"""Projects for the tests of commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.commands import CommandLine


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in the computer's zone: in tests that is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The command line in an empty project."""
    monkeypatch.chdir(tmp_path)
    for name in ("TIDEMILL_PROJECT", "TIDEMILL_METADATA_URL", "TIDEMILL_ARCHIVE_URL", "TIDEMILL_LAKE_URL"):
        monkeypatch.delenv(name, raising=False)
    modules, path = dict(sys.modules), list(sys.path)
    made = CommandLine(tmp_path)
    made.write("tidemill.toml", '[project]\nname = "test"\n')
    yield made
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def shop(cli: CommandLine) -> CommandLine:
    """The project that `tidemill init` writes."""
    (cli.folder / "tidemill.toml").unlink()
    assert cli("init").exit_code == 0
    return cli
