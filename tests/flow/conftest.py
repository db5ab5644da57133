"""What the tests of whole runs share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.feeding import Shop
from harness.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project on embedded defaults."""
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A project of one feed; what its files put into this process goes with the test."""
    modules, path = dict(sys.modules), list(sys.path)
    yield Shop(tmp_path)
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        if "pipelines" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
