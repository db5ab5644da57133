"""The interpreter that has dbt, for a whole session and for the next one; and projects to run with it."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import services
from tidemill.adapters.dbt.environment import packages_for
from tidemill.model.errors import Unreachable
from tidemill.wiring.dbt import dbt_environments

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "tests" / "data" / "dbt_shop"


def dbt_python() -> Path:
    """Made once (a second where the packages are at hand, else a download of 60 MB), then kept for later sessions."""
    try:
        environments = dbt_environments(ROOT / ".pytest_cache" / "venvs")
        return environments.having(packages_for(SHOP / "profiles.yml"), called="dbt") / "bin" / "python"
    except Unreachable as error:
        services.missing("dbt", str(error))
        raise


def dbt_shop(folder: Path) -> Path:
    """A project of Tidemill's with the dbt project in `dbt/shop`."""
    shutil.rmtree(folder / "dbt", ignore_errors=True)
    shutil.copytree(SHOP, folder / "dbt" / "shop")
    (folder / "pipelines").mkdir(exist_ok=True)
    if not (folder / "tidemill.toml").exists():
        (folder / "tidemill.toml").write_text('[project]\nname = "shop"\n')
    return folder / "dbt" / "shop"
