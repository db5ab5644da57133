"""What belongs to a project's code, which of its files make pipelines, and the version that all of it has."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import PurePosixPath

from tidemill.plan.ignored import IGNORE_FILE

#: Files whose change makes another version: Python, SQL, settings, lock files, schemas of messages, and what leaves
#: pipeline files out.
SUFFIXES = (".py", ".sql", ".toml", ".lock", ".yml", ".yaml", ".avsc", ".proto", IGNORE_FILE)
#: Below the folders of pipeline files, what these read or render is code, too: settings, scripts, templates, lookups.
BESIDE = (
    ".bash", ".cfg", ".conf", ".csv", ".ddl", ".hql", ".html", ".ini", ".j2", ".jinja", ".jinja2", ".json", ".md",
    ".sh", ".tpl", ".txt", ".xml",
)  # fmt: skip
#: One of them that has more bytes is data.
MOST_BESIDE = 1_000_000
#: Those among them that may make pipelines.
PIPELINES = (".py", ".yaml", ".yml")
#: Folders that hold no code of the project: its state, its history, what was installed, its tests.
SKIPPED = frozenset({".tidemill", ".git", ".venv", "venv", "__pycache__", "node_modules", "tests"})


def version_of(digests: Mapping[str, bytes]) -> str:
    """The version of files by their contents: the same code, the same version.

    Args:
        digests: SHA-256 of each file by its path relative to the project.
    """
    whole = hashlib.sha256()
    for path in sorted(digests):
        whole.update(path.encode("utf-8", "surrogateescape"))
        whole.update(digests[path])
    return whole.hexdigest()[:12]


def folder_of(pattern: str) -> str:
    """The folder of a pattern before its first wildcard: `dags` of `dags/**/*.py`; empty: the project's own."""
    return "/".join(takewhile(lambda part: not set(part) & set("*?["), PurePosixPath(pattern).parent.parts))


def folders_of(patterns: Iterable[str]) -> tuple[str, ...]:
    """The folders of some patterns, each with a slash at its end; not the project's own, in which there may be data."""
    return tuple(sorted({f"{folder}/" for pattern in patterns if (folder := folder_of(pattern))}))


class Patterns:
    """Which files make pipelines: `*` and `?` stay within a folder, `**` spans any number of them."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._matches = re.compile("|".join(map(_expression, patterns)) or "(?!)").fullmatch

    def __call__(self, path: str) -> bool:
        """Whether a path relative to the project is that of a pipeline file."""
        return path.endswith(PIPELINES) and self._matches(path) is not None


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern.removeprefix("./"))
    meant = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meant.get(part) or _letters(part) for part in parts)


def _letters(part: str) -> str:
    """Letters that stand for themselves, or a choice of them (`[ab]`, `[!ab]`)."""
    if part[:1] != "[" or part[-1:] != "]":
        return re.escape(part)
    inner = part[1:-1].replace("\\", "\\\\")
    return f"[^{inner[1:]}]" if inner[0] == "!" else f"[{inner}]"
