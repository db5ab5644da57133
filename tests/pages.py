"""Reads the documentation's pages and does what they say: `test_docs.py` runs each page through this module.

    python tests/pages.py PAGE         # in an empty folder; exit 1 and a message where the page does not hold

A page is worked through from top to bottom, in one process and one project folder. The words after a fence's
language say what happens to its block:

    ```python                      run; blocks of a page share their names, and `__name__` is "__main__"
    ```python file=pipelines/a.py  written to that file of the project (any language)
    ```text output                 what the Python block before it must have printed
    ```console                     every line that begins with `$ tidemill` or `$ python` is run
    ```console output              the same, and what stands below each command must be what it shows
    ```console exit=1              the last command must end with that exit code
    ```python no-run               only compiled (a console block: only shown)

In expected output a line `...` stands for any lines, and `...` within a line for any text. What a reader need not
see goes into a comment that begins with `<!-- python` or `<!-- console` and ends with `-->`, each on its own line.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
import shlex
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import warm

_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})\s*(.*?)\s*$")
_HIDDEN = re.compile(r"^<!-- (python|console)\b(.*)$")
#: `[text](target)` and `![text](target "title")`.
_LINK = re.compile(r"\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)")


class PageError(Exception):
    """A page says something that does not hold."""


@dataclass(frozen=True)
class Block:
    """One fenced or hidden block."""

    page: Path
    #: Number of the line before the block's first line of content.
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def has(self, word: str) -> bool:
        """Whether the fence says `word`."""
        return word in self.words

    def value(self, name: str) -> str | None:
        """What the fence says after `name=`."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)

    def fail(self, what: str) -> PageError:
        """The error to raise about this block."""
        return PageError(f"{self.page.name}:{self.line + 1}: {what}")


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order. Raises PageError where one is not closed."""
    found: list[Block] = []
    lines = page.read_text("utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence, hidden = _FENCE.match(lines[at]), _HIDDEN.match(lines[at])
        if not fence and not hidden:
            at += 1
            continue
        begin = at
        at += 1
        while at < len(lines) and not _closes(lines[at], fence):
            at += 1
        if at == len(lines):
            raise PageError(f"{page.name}:{begin + 1}: the block is not closed")
        words = ((hidden[1] + hidden[2]) if hidden else (fence[3] if fence else "")).split()
        text = "".join(f"{line}\n" for line in lines[begin + 1 : at])
        found.append(Block(page, begin + 1, words[0] if words else "", tuple(words[1:]), text))
        at += 1
    return found


def _closes(line: str, fence: re.Match[str] | None) -> bool:
    if fence is None:
        return line.strip() == "-->"
    return bool(re.fullmatch(rf" {{0,3}}{re.escape(fence[2][0])}{{{len(fence[2])},}}\s*", line))


# Running --------------------------------------------------------------------------------------------------------------


def run_page(page: Path, project: Path) -> int:
    """Work through a page in `project`, which becomes the current folder; returns how many blocks did something.

    Raises:
        PageError: a block fails, shows something else, or a command ends otherwise than it should.
    """
    os.chdir(project)
    sys.path.insert(0, str(project))
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    done = 0
    for block in blocks(page):
        target = block.value("file")
        if target is not None:
            _write(block, project, target)
        elif block.language == "python":
            code = _compiled(block)
            if block.has("no-run"):
                continue
            printed = _execute(block, code, names)
        elif block.language == "text" and block.has("output"):
            if not matches(block.text, printed):
                raise block.fail(f"shows\n{block.text}\nbut the code before it prints\n{printed}")
        elif block.language == "console" and not block.has("no-run"):
            if not _console(block):
                continue
        else:
            continue
        done += 1
    return done


def _write(block: Block, project: Path, target: str) -> None:
    path = (project / target).resolve()
    if not path.is_relative_to(project.resolve()):
        raise block.fail(f"{target} is outside the project")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def _compiled(block: Block) -> types.CodeType:
    # The name is no file's, so that the code counts as typed in the project's folder; tracebacks still show lines.
    name = f"<{block.page.name}>"
    linecache.cache[name] = (0, None, block.page.read_text("utf-8").splitlines(keepends=True), name)
    try:
        # Empty lines in front make the line numbers of messages those of the page.
        return compile("\n" * block.line + block.text, name, "exec")
    except SyntaxError as error:
        raise PageError(f"{block.page.name}:{error.lineno}: {error.msg}") from None


def _execute(block: Block, code: types.CodeType, names: dict[str, object]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        try:
            exec(code, names)
        except Exception as error:
            on_page = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == code.co_filename]
            message = f"{block.page.name}:{on_page[-1]}: {type(error).__name__}: {error}"
            raise PageError(message) from error
    return shown.getvalue()


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block that can be run, each with what stands below it."""
    parts = re.split(r"^\$ ", block.text, flags=re.M)[1:]
    for part in parts:
        command, _, expected = part.partition("\n")
        if command.split()[:1] in (["tidemill"], ["python"]):
            yield command, expected


def _console(block: Block) -> bool:
    found = list(commands(block))
    for number, (command, expected) in enumerate(found, start=1):
        words = shlex.split(command, comments=True)
        words[0] = sys.executable if words[0] == "python" else str(Path(sys.executable).parent / words[0])
        result = warm.run(words, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}, joined=True)
        code = int(block.value("exit") or 0) if number == len(found) else 0
        if result.returncode != code:
            raise block.fail(f"`{command}` ended with {result.returncode} instead of {code}:\n{result.stdout}")
        if block.has("output") and not matches(expected, result.stdout):
            raise block.fail(f"`{command}` shows\n{result.stdout}\ninstead of\n{expected}")
    return bool(found)


def matches(expected: str, found: str) -> bool:
    """Whether `found` is `expected`, in which `...` stands for any text of a line, or alone for any lines."""
    pattern = ""
    for line in expected.rstrip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += "[^\n]*?".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n"
    shown = "".join(f"{line.rstrip()}\n" for line in found.rstrip().splitlines())
    return re.fullmatch(pattern, shown) is not None


# Links ----------------------------------------------------------------------------------------------------------------


def broken_links(pages: Iterable[Path], root: Path) -> list[str]:
    """Links between the pages, or to other files under `root`, that lead nowhere. Addresses of the web are free."""
    complaints = []
    for page in pages:
        for number, target in links(page):
            path, _, anchor = target.partition("#")
            where = f"{page.relative_to(root)}:{number}"
            linked = (page.parent / path).resolve() if path else page
            if not linked.is_relative_to(root.resolve()) or not linked.exists():
                complaints.append(f"{where}: there is no {target}")
            elif anchor and linked.suffix == ".md" and anchor not in anchors(linked):
                complaints.append(f"{where}: {linked.name} has no heading #{anchor}")
    return complaints


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every link that is not an address of the web, outside code."""
    for number, line in _prose(page):
        for match in _LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            if not re.match(r"[a-z]+:", match[1]):
                yield number, match[1]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as repository hosts make them."""
    found: set[str] = set()
    for _, line in _prose(page):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            text = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            repeated = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(text)}(-\d+)?", anchor))
            found.add(f"{text}-{repeated}" if repeated else text)
    return found


def _prose(page: Path) -> Iterator[tuple[int, str]]:
    fence: re.Match[str] | None = None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if fence is not None:
            fence = None if _closes(line, fence) else fence
        elif not (fence := _FENCE.match(line)):
            yield number, line


if __name__ == "__main__":
    try:
        count = run_page(Path(sys.argv[1]).resolve(), Path.cwd())
    except PageError as failed:
        sys.exit(str(failed))
    print(f"{count} blocks")
