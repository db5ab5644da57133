"""Files of a folder that `.airflowignore` leaves out, by either of its two syntaxes.

glob: as `.gitignore`, relative to the folder of the file; `!` takes back. regexp: searched for in the path below the
folder of DAGs. A folder that is left out is left out with all that is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

IGNORE_FILE = ".airflowignore"
SYNTAXES = ("glob", "regexp")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line.

    Args:
        pattern: is searched for.
        base: paths are relative to this folder; empty, or with `/` at its end.
        takes_back: what matches is not left out, whatever was said before.
        folders_only: it is about folders.
    """

    pattern: re.Pattern[str]
    base: str
    takes_back: bool = False
    folders_only: bool = False


def rules_of(text: str, syntax: str, folder: str, dags: str) -> list[Rule]:
    """The rules of a file; lines that are no pattern are left out, as Airflow leaves them out.

    Args:
        text: of the file.
        syntax: one of `SYNTAXES`.
        folder: that the file is in, relative to the project; empty, or with `/` at its end.
        dags: the folder of DAGs, likewise: what regular expressions see begins there.
    """
    made = []
    for line in text.splitlines():
        bare = re.sub(r"\s*#.*", "", line).strip()
        if bare:
            rule = _glob(bare, folder) if syntax == "glob" else _regexp(bare, dags)
            made += [rule] if rule is not None else []
    return made


def ignored_by(path: str, rules_at: Callable[[str], list[Rule]]) -> bool:
    """Whether a file is left out.

    Args:
        path: relative to the project.
        rules_at: the rules of the file that lies in a folder; none where there is none.
    """
    rules = list(rules_at(""))
    for folder in _folders(path):
        if _matches(folder, rules, is_folder=True):
            return True
        rules += rules_at(folder)
    return _matches(path, rules, is_folder=False)


def _folders(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[: at + 1]
        at = path.find("/", at + 1)


def _matches(path: str, rules: list[Rule], *, is_folder: bool) -> bool:
    left_out = False
    for rule in rules:
        if path.startswith(rule.base) and (is_folder or not rule.folders_only):
            own = path[len(rule.base) :].removesuffix("/")
            if own and rule.pattern.search(own):
                left_out = not rule.takes_back
    return left_out


def _regexp(line: str, dags: str) -> Rule | None:
    try:
        return Rule(re.compile(line), dags)
    except re.error:
        return None


def _glob(line: str, folder: str) -> Rule | None:
    takes_back = line.startswith("!")
    bare = line[takes_back:].removeprefix("\\")
    folders_only = bare.endswith("/")
    inner = bare.strip("/")
    if not inner:
        return None
    # With a slash before its end a pattern begins at the file's folder; without, it may be anywhere below.
    begin = "^" if "/" in bare.rstrip("/") else "(?:^|/)"
    try:
        return Rule(re.compile(f"{begin}{_expression(inner)}$"), folder, takes_back, folders_only)
    except re.error:
        return None


def _expression(pattern: str) -> str:
    parts = re.split(r"(^\*\*/|/\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\])", pattern)
    meant = {"**/": "(?:.*/)?", "/**/": "/(?:.*/)?", "/**": "/.*", "?": "[^/]"}
    made = ""
    for part in parts:
        if part in meant:
            made += meant[part]
        elif part and not part.strip("*"):
            made += "[^/]*"
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            made += f"[^{part[2:]}" if part[1] == "!" else part
        else:
            made += re.escape(part)
    return made
