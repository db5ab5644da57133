"""`tidemill init`: a small project that runs, with a test, a CI file and a dev container, to be made one's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from tidemill.cli.command import Command
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.version import __version__

_TEMPLATES = Path(__file__).with_name("template")

#: File of the project -> its template. Templates have names of their own so that tools do not take them for code.
FILES: Mapping[str, str] = {
    "tidemill.toml": "tidemill.toml.tmpl",
    "pipelines/shop.py": "shop.py.tmpl",
    "pipelines/models/revenue_by_country.sql": "revenue_by_country.sql.tmpl",
    "feeds/2026-01-01/orders.csv": "orders-1.csv.tmpl",
    "feeds/2026-01-02/orders.csv": "orders-2.csv.tmpl",
    "tests/test_shop.py": "test_shop.py.tmpl",
    "pyproject.toml": "pyproject.toml.tmpl",
    "requirements.txt": "requirements.txt.tmpl",
    "README.md": "README.md.tmpl",
    ".gitignore": "gitignore.tmpl",
    ".github/workflows/ci.yml": "ci.yml.tmpl",
    ".devcontainer/devcontainer.json": "devcontainer.json.tmpl",
}


@click.command(cls=Command)
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path, file_okay=False))
@pass_invocation
def init(invocation: Invocation, folder: Path) -> None:
    """Write a new project that runs as it is.

    FOLDER is made where it does not exist; without it, the current folder is used. No file is overwritten: if one that
    would be written exists, nothing is.
    """
    from tidemill.model.errors import UserError
    from tidemill.wiring.settings import name_from

    name = name_from(folder.resolve())
    there = [path for path in FILES if (folder / path).exists()]
    if there:
        names = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise UserError(
            f'"{folder}" has files that would be overwritten: {names}.', hint="tidemill init another_folder"
        )
    for path, template in FILES.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("@NAME@", name).replace("@VERSION@", __version__), encoding="utf-8")
    enter = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(os.fspath(folder))} && "
    command = f"{enter}tidemill run shop"
    if invocation.json:
        invocation.out.object({"folder": str(folder.resolve()), "name": name, "files": list(FILES), "next": command})
        return
    invocation.out.facts([("wrote", str(folder / path)) for path in FILES])
    invocation.out.next(command)
