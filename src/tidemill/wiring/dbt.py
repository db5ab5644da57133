"""What runs dbt projects, put together for a project: each process that asks has its own."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from tidemill.adapters.dbt.projects import DbtProjects
from tidemill.adapters.venv.environments import VirtualEnvironments
from tidemill.authoring.task_context import DBT_VARS
from tidemill.wiring.settings import STATE_FOLDER, find_root

_open: dict[tuple[int, Path], DbtProjects] = {}


def open_dbt(root: Path) -> DbtProjects:
    """What runs the dbt projects of a project; warm processes stay for the next task.

    Args:
        root: its folder.
    """
    key = (os.getpid(), root)
    if key not in _open:
        state = root / STATE_FOLDER
        _open[key] = DbtProjects(state, DBT_VARS, dbt_environments(state / "venvs"))
        atexit.register(_open[key].close)
    return _open[key]


def dbt_environments(folder: Path) -> VirtualEnvironments:
    """Environments of dbt, kept in a folder."""
    hint = 'packages=["dbt-core<1.12", ...], or python="/path/to/python" of an environment that has dbt'
    return VirtualEnvironments(folder, hint)


def roots_of(file: Path) -> list[Path]:
    """The folders that a path in a pipeline file is relative to: the project's, and that of the code's version.

    The code of a run lies below the project's state folder; dbt needs files that no version keeps (seeds).
    """
    near = file.resolve().parent if file.is_file() else Path.cwd()
    code = find_root(near) or near
    parts = code.parts
    real = Path(*parts[: parts.index(STATE_FOLDER)]) if STATE_FOLDER in parts else code
    return list(dict.fromkeys((real, code)))
