"""A YAML file with the line of each of its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidemill.model.errors import DefinitionError, SettingsError


def read_yaml(file: Path) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """The document of a file, and the lines (from 1) of its members by their paths.

    Raises:
        SettingsError: PyYAML is not installed.
        DefinitionError: there is no such file, or it is no YAML.
    """
    try:
        import yaml
    except ImportError:
        raise SettingsError(
            "Meltano's files are YAML, which needs the extra yaml.", hint="pip install 'tidemill[yaml]'"
        ) from None
    try:
        text = file.read_text("utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f'The file "{file}" cannot be read: {error}.') from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DefinitionError(
            f"This is no YAML: {getattr(error, 'problem', None) or error}.",
            where=str(file) if mark is None else f"{file}:{mark.line + 1}",
        ) from None
    lines: dict[tuple[str | int, ...], int] = {}

    def walk(node: Any, path: tuple[str | int, ...]) -> None:
        lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                lines[*path, str(key.value)] = key.start_mark.line + 1
                walk(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for at, value in enumerate(node.value):
                walk(value, (*path, at))

    if root is not None:
        walk(root, ())
    return document, lines
