"""Port `environments`: Python packages in places of their own, where they and Tidemill's never meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class PythonEnvironments(Protocol):
    """Makes environments, and keeps them.

    Promises:
      - The same packages and Python give the same folder, which is made once; processes that want the same wait for
        each other.
      - A folder that is given is whole: what was left half made is made anew.
      - Errors show names of packages, never addresses: these may hold a login.
    """

    def having(self, packages: Sequence[str], python: str | None = None, *, called: str | None = None) -> Path:
        """The folder of an environment with these packages, which has `bin/python`.

        Args:
            packages: as pip takes them.
            python: a version, `3.12`; None: that which runs this.
            called: how its folder's name begins; None: as the first package.

        Raises:
            Unreachable: the packages could not be installed.
            SettingsError: that Python cannot be had here.
        """
        ...
