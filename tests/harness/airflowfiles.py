"""Airflow's own example files: taken from its wheels, once, and kept below the cache of tests; none is in this
repository. What Airflow said of them is data, made by `scripts/record_airflow_answers.py`.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from harness import services

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "airflow"
CACHE = ROOT / ".pytest_cache" / "airflow"
FOLDERS = {
    "core": "airflow/example_dags",
    "standard": "airflow/providers/standard/example_dags",
    "sql": "airflow/providers/common/sql/example_dags",
}
#: What is installed beside them, as it would be for Airflow.
_BESIDE = ("apache-airflow-providers-common-sql", "apache-airflow-providers-common-compat")
_NEEDS = ("httpx>=0.28,<1", "methodtools>=0.4,<1", "more-itertools>=10,<12", "sqlparse>=0.5,<1")
_WHEELS = ("apache-airflow-core", "apache-airflow-providers-standard", "apache-airflow-providers-common-sql")


@cache
def answers() -> dict[str, Any]:
    """How the files' tasks end under Airflow, with the versions that were asked."""
    made: dict[str, Any] = json.loads((DATA / "answers.json").read_text("utf-8"))
    return made


@cache
def differences() -> dict[str, dict[str, Any]]:
    """Files that do not load, and DAGs that end otherwise or are not compared, each with its reason."""
    made: dict[str, dict[str, Any]] = json.loads((DATA / "differences.json").read_text("utf-8"))
    return made


def example_files() -> dict[str, Path]:
    """The files by name: `core/tutorial.py`. Skips the test where the package index does not answer."""
    folder = _fetched()
    return {
        f"{label}/{file.name}": file
        for label, inner in FOLDERS.items()
        for file in sorted((folder / inner).glob("*.py"))
        if file.name != "__init__.py"
    }


def needs() -> Path:
    """A folder with the packages that the files import beside Airflow's names."""
    pins = [f"{name}=={answers()['versions'][name]}" for name in _BESIDE]
    made = CACHE / "-".join(("beside", *(pin.rpartition("=")[2] for pin in pins)))

    def make(folder: Path) -> None:
        install(folder, "--no-deps", *pins)
        install(folder, *_NEEDS)

    return made_once(made, make, "what Airflow's example files need")


def _fetched() -> Path:
    pins = [f"{name}=={answers()['versions'][name]}" for name in _WHEELS]
    made = CACHE / "-".join(pin.rpartition("=")[2] for pin in pins)
    return made_once(made, lambda folder: _fetch(folder, pins), "Airflow's example files")


def _fetch(folder: Path, pins: list[str]) -> None:
    # Only the examples: the package itself must not be found.
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=CACHE) as wheels:
        install(Path(wheels), "--no-deps", *pins)
        for inner in FOLDERS.values():
            shutil.copytree(Path(wheels, inner), folder / inner)


def install(folder: Path, *what: str) -> None:
    """Install packages into a folder. Raises OSError, CalledProcessError."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
    subprocess.run([*command, *what], check=True, capture_output=True, text=True)


def made_once(folder: Path, make: Callable[[Path], None], what: str) -> Path:
    """A folder of the cache, filled by the first process that asks while others wait; it appears when it is whole.

    Skips the test where the package index does not answer.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with CACHE.joinpath("making.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was ended meanwhile
            try:
                make(partial)
            except (OSError, subprocess.CalledProcessError) as error:
                services.missing(what, str(getattr(error, "stderr", error)).strip())
            partial.rename(folder)
    return folder
