"""The environment that dbt lives in: its own, so that its packages and Tidemill's never meet.

They cannot share one: dbt-core 1.11 wants `pathspec<0.13`, for instance, where other tools of the day want 1.0. So it
is made once for each list of packages, by uv where there is one (a second or two when its cache is warm), and kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tidemill.model.errors import DefinitionError, SettingsError, Unreachable

#: dbt-core 1.12 wants a helper from outside of the registry, and does not install where that cannot be reached.
CORE = "dbt-core>=1.11,<1.12"
#: Adapters that were tried with it; any other is installed by its name.
ADAPTERS = {"duckdb": "dbt-duckdb>=1.11,<1.12", "postgres": "dbt-postgres>=1.10,<1.12"}
#: `type: duckdb` in profiles.yml. The file is a template, so it is no YAML before dbt has rendered it.
_TYPE = re.compile(r"""(?:^|[\s{,])["']?type["']?\s*:\s*["']?([a-z][a-z0-9_]*)""", re.M)
_TIMEOUT = 900.0


def packages_for(profiles: Path) -> tuple[str, ...]:
    """dbt-core and the adapters that a `profiles.yml` names.

    Raises:
        DefinitionError: it cannot be read, or names none.
    """
    try:
        text = profiles.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(
            f"dbt's profiles cannot be read: {error}.", where=str(profiles), hint="profiles_dir= names their folder"
        ) from None
    types = dict.fromkeys(_TYPE.findall(re.sub(r"(?m)^\s*#.*$", "", text)))
    if not types:
        raise DefinitionError(
            "dbt's profiles name no type of database.", where=str(profiles), hint='packages=["dbt-duckdb"]'
        )
    return (CORE, *(ADAPTERS.get(one, f"dbt-{one}") for one in types))


def python_with(packages: Sequence[str], folder: Path) -> Path:
    """The interpreter of an environment with these packages, which is made if it is not there.

    Args:
        packages: as pip takes them.
        folder: where environments are kept; processes that want the same wait for each other.

    Raises:
        Unreachable: the packages could not be installed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = "\n".join([version, *sorted(packages)])
    made = folder / f"dbt-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    python = made / "bin" / "python"
    if (made / ".ready").exists():
        return python
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / ".ready").exists():
            shutil.rmtree(made, ignore_errors=True)
            _make(made, python, packages)
            (made / ".ready").touch()
    return python


def _make(made: Path, python: Path, packages: Sequence[str]) -> None:
    uv = shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(made)], packages)
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *packages], packages)
        return
    _run([sys.executable, "-m", "venv", str(made)], packages)
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], packages)


def _run(command: list[str], packages: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"Installing {', '.join(packages)} took over {_TIMEOUT:g} s.") from None
    if done.returncode:
        said = "".join(f"\n    {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-8:])
        raise Unreachable(
            f"An environment with {', '.join(packages)} could not be made.{said}",
            hint='packages=["dbt-core<1.12", ...], or python="/path/to/python" of an environment that has dbt',
        )


def checked_python(given: str) -> Path:
    """An interpreter that a user has named. Raises SettingsError."""
    found = shutil.which(given)
    if found is None:
        raise SettingsError(f'There is no Python "{given}".', hint='python="/path/to/venv/bin/python"')
    return Path(found)
