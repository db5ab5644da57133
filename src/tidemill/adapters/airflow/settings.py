"""Reads `airflow.cfg`."""

from __future__ import annotations

from configparser import Error, RawConfigParser
from pathlib import Path

from tidemill.model.errors import SettingsError


def read_sections(path: Path) -> dict[str, dict[str, str]]:
    """All settings of a file, by section; nothing is replaced in them. Raises SettingsError."""
    parser = RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise SettingsError(f"The settings of Airflow cannot be read: {why}.", where=str(path)) from None
    return {name: {key: value.strip() for key, value in parser[name].items()} for name in parser.sections()}
