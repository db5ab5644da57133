"""Port `environments`: virtual environments, made by uv where there is one (a second or two when its cache is warm)."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.model.errors import SettingsError, Unreachable

_TIMEOUT = 900.0


@dataclass(frozen=True, slots=True)
class VirtualEnvironments:
    """See the port.

    Args:
        folder: where they are kept.
        hint: what to try where packages cannot be installed.
    """

    folder: Path
    hint: str

    def having(self, packages: Sequence[str], python: str | None = None, *, called: str | None = None) -> Path:
        """See the port. Another Python than that which runs this needs uv."""
        version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
        text = "\n".join([version, *sorted(packages)])
        title = called or _title(packages[0])
        made = self.folder / f"{title}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if (made / ".ready").exists():
            return made
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{made.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (made / ".ready").exists():
                shutil.rmtree(made, ignore_errors=True)
                self._make(made, python, packages)
                (made / ".ready").touch()
        return made

    def _make(self, made: Path, python: str | None, packages: Sequence[str]) -> None:
        uv, inner = shutil.which("uv"), made / "bin" / "python"
        if uv is not None:
            self._run([uv, "venv", "--quiet", "--python", python or sys.executable, str(made)], packages)
            self._run([uv, "pip", "install", "--quiet", "--python", str(inner), *packages], packages)
            return
        if python is not None and python != f"{sys.version_info.major}.{sys.version_info.minor}":
            raise SettingsError(f"An environment with Python {python} needs uv.", hint="pip install uv")
        self._run([sys.executable, "-m", "venv", str(made)], packages)
        pip = [str(inner), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        self._run([*pip, *packages], packages)

    def _run(self, command: list[str], packages: Sequence[str]) -> None:
        named = ", ".join(_title(package) for package in packages)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"Installing {named} took over {_TIMEOUT:g} s.") from None
        if done.returncode:
            said = "".join(f"\n    {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-8:])
            raise Unreachable(f"An environment with {named} could not be made.{said}", hint=self.hint)


def _title(package: str) -> str:
    """What of a package may be shown, and stand in a folder's name."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(?=$|[\s\[=<>!~;@])", package)
    return found[0].lower() if found else "package"
