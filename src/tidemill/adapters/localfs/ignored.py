"""Which pipeline files of a folder `.airflowignore` files leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tidemill.plan.ignored import IGNORE_FILE, Rule, ignored_by, rules_of


class IgnoredFiles:
    """Files that are left out: `ignored("dags/old/a.py")`. What the files say is read again when they have changed.

    Args:
        root: the project's folder.
        bases: folders of DAGs in it, relative to it.
        syntax: of the files.
    """

    def __init__(self, root: Path, bases: Sequence[str], syntax: str) -> None:
        self._root = root
        self._bases = sorted((f"{base.strip('/')}/" for base in bases if base.strip("/")), key=len, reverse=True)
        self._syntax = syntax
        self._known: dict[str, tuple[tuple[int, int], list[Rule]]] = {}

    def __call__(self, path: str) -> bool:
        """Whether a path relative to the project is left out."""
        return ignored_by(path, self._rules_at)

    def _rules_at(self, folder: str) -> list[Rule]:
        file = self._root / folder / IGNORE_FILE
        try:
            found = file.stat()
        except OSError:
            return []
        stamp = (found.st_mtime_ns, found.st_size)
        known = self._known.get(folder)
        if known is None or known[0] != stamp:
            dags = next((base for base in self._bases if folder.startswith(base)), "")
            text = file.read_text("utf-8", errors="replace")
            known = self._known[folder] = (stamp, rules_of(text, self._syntax, folder, dags))
        return known[1]
