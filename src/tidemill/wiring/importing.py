"""How the user's files import each other, and that none of them hides an installed module of its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from tidemill.compat.airflow.reach import PLUGINS
from tidemill.plan.code import folder_of
from tidemill.wiring.settings import Settings


def import_folders(settings: Settings) -> list[str]:
    """Where packages of the user's are found: the folder of plug-ins, the project's own, and those of its patterns."""
    root = settings.root
    plugins = [str(root / PLUGINS)] if (root / PLUGINS).is_dir() else []
    return [*plugins, str(root), *(str(root / folder_of(pattern)) for pattern in settings.pipelines)]


def make_importable(settings: Settings, files: Iterable[Path]) -> None:
    """Let the user's files import each other, and what lies in the folders that `import_folders` gives."""
    folders = dict.fromkeys((*import_folders(settings), *(str(file.parent) for file in files)))
    for path in folders:
        if path not in sys.path:
            sys.path.insert(0, path)
    # Without those of other versions of the code, which have left the path.
    _installed_first.folders = {path for path in (*_installed_first.folders, *folders) if path in sys.path}
    if _installed_first not in sys.meta_path:
        sys.meta_path.insert(0, _installed_first)


def module_name(file: Path) -> str:
    """What a pipeline file is called as a module: as others import it; `pipelines.json` where `json` is another."""
    taken = file.stem in sys.builtin_module_names or _installed_first.find_spec(file.stem, None) is not None
    return f"{file.parent.name}.{file.stem}" if taken else file.stem


def hidden_by_installed(error: BaseException) -> str | None:
    """What to do about an import that meant a file of the user's and found an installed module; None: it is not so."""
    name = error.name if isinstance(error, ImportError) else None
    found = _installed_first.find_spec(name, None) if name else None
    return f'"{name}" is {found.origin}: rename your {name}.py' if found is not None else None


class _InstalledFirst(MetaPathFinder):
    """Finds an installed module where a file in one of the user's folders has its name.

    The folders come first on the path, so that the user's modules are those of this project and of this version of its
    code. But `pipelines/requests.py` is a pipeline; whoever imports `requests`, libraries too, means the package.
    """

    def __init__(self) -> None:
        self.folders: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if path is not None or not any(os.path.isfile(f"{folder}/{fullname}.py") for folder in self.folders):
            return None
        own = {"", os.getcwd(), *self.folders}
        spec = PathFinder.find_spec(fullname, [path for path in sys.path if path not in own])
        return spec if spec is not None and spec.loader is not None else None


_installed_first = _InstalledFirst()
