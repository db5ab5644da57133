"""Patterns of files: `in/*.csv`, `in/**/part-?.[jc]s*`. `*` and `?` stay within a name, `**` stands for any folders."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, relative to where it is looked for."""

    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Its parts."""
        return tuple(part for part in self.text.split("/") if part)

    @property
    def is_fixed(self) -> bool:
        """Whether it names one file."""
        return not _WILD.search(self.text)

    @property
    def base(self) -> str:
        """The folder in which everything lies that matches; empty: the root."""
        fixed = []
        for part in self.parts[:-1]:
            if _WILD.search(part):
                break
            fixed.append(part)
        return "/".join(fixed)

    def matches(self, path: str) -> bool:
        """Whether a path does."""
        return self._expression.fullmatch(path) is not None

    def may_hold(self, folder: str) -> bool:
        """Whether something that matches can lie in a folder, or below it."""
        wanted = self.parts[:-1]
        for at, name in enumerate(folder.split("/") if folder else ()):
            if at < len(wanted) and wanted[at] == "**":
                return True
            if at >= len(wanted) or not fnmatch.fnmatchcase(name, wanted[at]):
                return False
        return True

    @property
    def _expression(self) -> re.Pattern[str]:
        made = ""
        *folders, last = self.parts
        for part in folders:
            made += "(?:[^/]+/)*" if part == "**" else _within(part) + "/"
        return re.compile(made + ("(?:[^/]+/)*[^/]+" if last == "**" else _within(last)))


def _within(part: str) -> str:
    """An expression of one name: what `fnmatch` makes, but that nothing in it is a `/`."""
    made, at = "", 0
    while at < len(part):
        sign = part[at]
        at += 1
        if sign == "*":
            made += "[^/]*"
        elif sign == "?":
            made += "[^/]"
        elif sign == "[" and (end := part.find("]", at + 1 + part.startswith("!", at))) > 0:
            inside = part[at:end].replace("\\", "\\\\").replace("[", "\\[")
            made += f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside.replace('^', chr(92) + '^')}]"
            at = end + 1
        else:
            made += re.escape(sign)
    return made
