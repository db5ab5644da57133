"""What the tests of whole runs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project on embedded defaults."""
    made = Project(tmp_path)
    yield made
    made.close()
