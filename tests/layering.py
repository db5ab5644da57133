"""Reads a package's source with `ast` and answers, for the architecture's rules, where the code breaks them.

Each function takes modules and what is allowed, and returns complaints as `file:line: what`; none means the rule
holds. `test_architecture.py` asks them about Tidemill, `test_architecture_checker.py` about small made-up packages.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

#: In a table of allowed packages: every one.
ANY = "*"

State = TypeVar("State")


@dataclass(frozen=True)
class Import:
    """One imported name: `from a.b import c` is `a.b.c`, whether `c` is a module or something in one."""

    target: str
    line: int
    #: Executed when the module is loaded; otherwise inside a function, or for type checkers only.
    at_load: bool
    #: Seen by type checkers only (`if TYPE_CHECKING:`).
    for_types: bool

    @property
    def top(self) -> str:
        """The top package."""
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file."""

    #: Dotted, with the package in front; a package's `__init__` has the package's own name.
    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def layer(self) -> str:
        """The folder or file under the package's root that it belongs to; empty for the root's `__init__`."""
        return _layer(self.name)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Everything that it imports, `import_module("literal")` included."""
        return tuple(_imports(self))

    def at(self, line: int, what: str) -> str:
        """A complaint."""
        return f"{self.path}:{line}: {what}"


def _layer(dotted: str) -> str:
    return (dotted.split(".", 2)[1:2] or [""])[0]


def read_package(root: Path) -> list[Module]:
    """All modules of the package whose folder is `root`, without hidden folders (virtual environments).

    Paths are shown relative to the folder that holds `root`.
    """
    found = []
    for path in sorted(root.rglob("*.py")):
        shown = path.relative_to(root.parent)
        if any(part.startswith(".") for part in shown.parts):
            continue
        parts = shown.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, shown, path.read_text("utf-8")))
    return found


# What a module imports ------------------------------------------------------------------------------------------------


def _imports(module: Module) -> Iterator[Import]:
    for node, at_load, for_types in _walk(module.tree, at_load=True, for_types=False):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            targets = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("import_module", "__import__"):
            targets = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for target in targets:
            yield Import(target, node.lineno, at_load and not for_types, for_types)


def _walk(node: ast.AST, *, at_load: bool, for_types: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, at_load, for_types
        inside = at_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and _last_name(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield statement, inside, True
                yield from _walk(statement, at_load=inside, for_types=True)
            for statement in child.orelse:
                yield statement, inside, for_types
                yield from _walk(statement, at_load=inside, for_types=for_types)
        else:
            yield from _walk(child, at_load=inside, for_types=for_types)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    if module.path.name != "__init__.py":
        parts = parts[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


# Imports against the layers -------------------------------------------------------------------------------------------


def against_layers(modules: Iterable[Module], may_import: Mapping[str, Collection[str]]) -> list[str]:
    """Imports of a layer that the importing layer may not know. Every layer may import its own modules.

    Imports for types count: what a module can name, it depends on. So does naming the package's root, through
    which everything can be reached.
    """
    complaints = []
    for module in modules:
        package = module.name.partition(".")[0]
        if module.layer not in may_import:
            complaints.append(module.at(1, f'"{module.layer}" is not a layer of {package}'))
            continue
        for imported in module.imports:
            if imported.top != package:
                continue
            layer = _layer(imported.target)
            if layer not in may_import:
                complaints.append(module.at(imported.line, f"imports {imported.target} from the package's root"))
            elif layer not in (module.layer, *may_import[module.layer]):
                complaints.append(module.at(imported.line, f"{module.layer} may not import {imported.target}"))
    return complaints


def between_siblings(modules: Iterable[Module], layer: str) -> list[str]:
    """Imports between two folders of a layer whose folders must not know each other."""
    complaints = []
    for module in modules:
        own = module.name.split(".")
        if module.layer != layer or len(own) < 3:
            continue
        for imported in module.imports:
            other = imported.target.split(".")
            if other[:2] == own[:2] and len(other) > 2 and other[2] != own[2]:
                complaints.append(module.at(imported.line, f"{'.'.join(own[1:3])} knows {'.'.join(other[1:3])}"))
    return complaints


def foreign_packages(modules: Iterable[Module], allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Imports of packages from elsewhere that a layer may not use; imports for types load nothing and are free.

    `allowed` maps a layer, or a module in it (dotted, without the package in front), to top packages; ANY: all of
    them. What is allowed holds for the modules within, too.
    """
    complaints = []
    for module in modules:
        package, _, inner = module.name.partition(".")
        usable = {top for place, tops in allowed.items() if f"{inner}.".startswith(f"{place}.") for top in tops}
        for imported in module.imports:
            if imported.for_types or imported.top in (package, "__future__") or imported.top in sys.stdlib_module_names:
                continue
            if ANY not in usable and imported.top not in usable:
                complaints.append(module.at(imported.line, f"{inner or package} may not import {imported.top}"))
    return complaints


def eager_packages(modules: Iterable[Module], layer: str) -> list[str]:
    """Packages from elsewhere that the `__init__` modules of a layer load: listing a folder must cost nothing."""
    complaints = []
    for module in modules:
        if module.layer == layer and module.path.name == "__init__.py":
            for imported in module.imports:
                outside = imported.top != module.name.partition(".")[0]
                if imported.at_load and outside and imported.top not in sys.stdlib_module_names:
                    complaints.append(module.at(imported.line, f"{module.name} loads {imported.top}"))
    return complaints


def import_circles(modules: Iterable[Module]) -> list[str]:
    """Modules that load each other: which of them can be loaded first hangs on who asks, and some cannot.

    A module's own package has begun to load before it, and does not count.
    """
    loads: dict[str, set[str]] = {module.name: set() for module in modules}
    for module in modules:
        own = set(_and_above(module.name))
        for imported in module.imports:
            if imported.at_load:
                loads[module.name] |= loads.keys() & set(_and_above(imported.target)) - own
    try:
        graphlib.TopologicalSorter(loads).prepare()
    except graphlib.CycleError as circle:
        return [" is loaded by ".join(circle.args[1])]
    return []


def _and_above(dotted: str) -> list[str]:
    """`a.b.c`: a, a.b, a.b.c."""
    parts = dotted.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


# Purity ---------------------------------------------------------------------------------------------------------------


def impure_imports(modules: Iterable[Module], layers: Collection[str], pure: Collection[str]) -> list[str]:
    """Standard modules outside the list `pure`, imported by pure layers.

    An entry of `pure` is a module (`math`), or one name of a module that holds others too (`pathlib.PurePath`).
    """
    complaints = []
    for module in modules:
        if module.layer not in layers:
            continue
        for imported in module.imports:
            if imported.top not in sys.stdlib_module_names or imported.top == "__future__":
                continue
            names = imported.target.split(".")
            if not any(".".join(names[:n]) in pure for n in range(1, len(names) + 1)):
                complaints.append(module.at(imported.line, f"{imported.target} is not on the list of pure modules"))
    return complaints


def impure_calls(modules: Iterable[Module], layers: Collection[str]) -> list[str]:
    """Calls in pure layers that read a clock, draw a random number, or open, read or write something."""
    complaints = []
    for module in modules:
        if module.layer not in layers:
            continue
        for line, called in _calls(module):
            first, _, last = called.rpartition(".")
            if (
                called in ("open", "print", "input", "breakpoint", "exec", "eval")
                or last in ("now", "utcnow", "today", "uuid1", "uuid4")
                or called.startswith("sys.std")
                or (first in ("polars", "pl") and last.startswith(("read_", "scan_", "write_", "sink_")))
            ):
                complaints.append(module.at(line, f"calls {called}()"))
    return complaints


def calls_of(modules: Iterable[Module], forbidden: Collection[str]) -> list[str]:
    """Calls of functions by their full names (`datetime.datetime.now`), whatever they were imported as."""
    return [
        module.at(line, f"calls {called}()")
        for module in modules
        for line, called in _calls(module)
        if called in forbidden
    ]


def _calls(module: Module) -> Iterator[tuple[int, str]]:
    """Line and name of every call, with names replaced by what they were imported from."""
    meaning: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            meaning.update({a.asname: a.name for a in node.names if a.asname})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            meaning.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            first, dot, rest = name.partition(".")
            yield node.lineno, meaning.get(first, first) + dot + rest


# Files ----------------------------------------------------------------------------------------------------------------


def without_docstring(modules: Iterable[Module]) -> list[str]:
    """Modules that do not open with a docstring."""
    return [
        module.at(1, "has no docstring") for module in modules if not (ast.get_docstring(module.tree) or "").strip()
    ]


def too_long(modules: Iterable[Module], limit: int, reasons: Mapping[str, str]) -> list[str]:
    """Files over `limit` lines without a reason, and reasons that no file needs."""
    lines = {module.path.as_posix(): module.text.count("\n") for module in modules}
    over = {path for path, count in lines.items() if count > limit}
    return [
        *(f"{path}: {lines[path]} lines, over {limit}" for path in sorted(over - set(reasons))),
        *(f"{path}: listed as long without being so" for path in sorted(set(reasons) - over)),
        *(f"{path}: listed without a reason" for path, reason in reasons.items() if not reason.strip()),
    ]


# State tables ---------------------------------------------------------------------------------------------------------


def reachable(transitions: Mapping[State, Collection[State]], start: State) -> set[State]:
    """The states that can follow `start`, itself included."""
    seen, todo = {start}, [start]
    while todo:
        for state in transitions.get(todo.pop(), ()):
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return seen


def bad_states(
    states: Iterable[State], transitions: Mapping[State, Collection[State]], start: State, ends: Collection[State]
) -> list[str]:
    """States without an entry, that nothing leads to, or from which no end can be reached."""
    complaints = []
    from_start = reachable(transitions, start)
    for state in states:
        if state not in transitions:
            complaints.append(f"{state} has no entry in the table")
        if state not in from_start:
            complaints.append(f"{state} cannot be reached from {start}")
        if state not in ends and not set(transitions.get(state, ())):
            complaints.append(f"{state} is no end and cannot be left")
        elif not reachable(transitions, state) & set(ends):
            complaints.append(f"{state} can never end")
    return complaints


# At run time ----------------------------------------------------------------------------------------------------------


def loaded_by(statement: str, watched: Collection[str], path: Path | None = None) -> set[str]:
    """Which of `watched` a fresh interpreter has loaded after `statement`; `path` is searched first for modules."""
    program = "\n".join(
        ["import sys", f"sys.path[:0] = {[str(path)] if path else []!r}", statement,
         f"print(*sorted({set(watched)!r} & set(sys.modules)))"]
    )  # fmt: skip
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())
