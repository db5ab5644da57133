"""The environment that a tap lives in: its own, so that its packages and anybody else's never meet.

It is made once for each list of packages, by uv where there is one, and kept.
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

from tidemill.model.errors import SettingsError, Unreachable

_TIMEOUT = 900.0


def environment_with(packages: Sequence[str], python: str | None, folder: Path) -> Path:
    """The folder of an environment with these packages, which is made if it is not there.

    Args:
        packages: as pip takes them.
        python: a version, `3.12`; None: that which runs this. Another one needs uv.
        folder: where environments are kept; processes that want the same wait for each other.

    Raises:
        Unreachable: the packages could not be installed.
        SettingsError: another Python is wanted, and there is no uv.
    """
    version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    text = "\n".join([version, *sorted(packages)])
    made = folder / f"{_title(packages[0])}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if (made / ".ready").exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / ".ready").exists():
            shutil.rmtree(made, ignore_errors=True)
            _make(made, python, packages)
            (made / ".ready").touch()
    return made


def _title(package: str) -> str:
    """What of a package may stand in a folder's name: addresses may hold a login."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(?=$|[\s\[=<>!~;@])", package)
    return found[0].lower() if found else "tap"


def _make(made: Path, python: str | None, packages: Sequence[str]) -> None:
    uv, inner = shutil.which("uv"), made / "bin" / "python"
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", python or sys.executable, str(made)], packages)
        _run([uv, "pip", "install", "--quiet", "--python", str(inner), *packages], packages)
        return
    if python is not None and python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise SettingsError(f"An environment with Python {python} needs uv.", hint="pip install uv")
    _run([sys.executable, "-m", "venv", str(made)], packages)
    _run([str(inner), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], packages)


def _run(command: list[str], packages: Sequence[str]) -> None:
    named = ", ".join(_title(package) for package in packages)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"Installing {named} took over {_TIMEOUT:g} s.") from None
    if done.returncode:
        said = "".join(f"\n    {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-8:])
        raise Unreachable(
            f"An environment with {named} could not be made.{said}",
            hint='another version, "tap-shop==1.2"; an older Python, python="3.12"; or packages that it lacks',
        )
