"""What the environment that dbt lives in must have.

It is its own: dbt-core 1.11 wants `pathspec<0.13`, for instance, where other tools of the day want 1.0.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tidemill.model.errors import DefinitionError, SettingsError

#: dbt-core 1.12 wants a helper from outside of the registry, and does not install where that cannot be reached.
CORE = "dbt-core>=1.11,<1.12"
#: Adapters that were tried with it; any other is installed by its name.
ADAPTERS = {"duckdb": "dbt-duckdb>=1.11,<1.12", "postgres": "dbt-postgres>=1.10,<1.12"}
#: `type: duckdb` in profiles.yml. The file is a template, so it is no YAML before dbt has rendered it.
_TYPE = re.compile(r"""(?:^|[\s{,])["']?type["']?\s*:\s*["']?([a-z][a-z0-9_]*)""", re.M)


def packages_for(profiles: Path) -> tuple[str, ...]:
    """dbt-core and the adapters that a `profiles.yml` names.

    Raises:
        DefinitionError: it cannot be read, or names none.
    """
    try:
        text = profiles.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(
            f"dbt's profiles cannot be read: {error}.", where=str(profiles), hint="profiles_dir= names their folder"
        ) from None
    types = dict.fromkeys(_TYPE.findall(re.sub(r"(?m)^\s*#.*$", "", text)))
    if not types:
        raise DefinitionError(
            "dbt's profiles name no type of database.", where=str(profiles), hint='packages=["dbt-duckdb"]'
        )
    return (CORE, *(ADAPTERS.get(one, f"dbt-{one}") for one in types))


def checked_python(given: str) -> Path:
    """An interpreter that a user has named. Raises SettingsError."""
    found = shutil.which(given)
    if found is None:
        raise SettingsError(f'There is no Python "{given}".', hint='python="/path/to/venv/bin/python"')
    return Path(found)
