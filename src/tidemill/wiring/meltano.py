"""Reading Meltano's project files for a pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_project(file: Path) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """See `tidemill.adapters.meltano.project.read_yaml`."""
    from tidemill.adapters.meltano.project import read_yaml

    return read_yaml(file)
