"""Port `secrets` on the environment: `TIDEMILL_CONN_SHOP_DB`, `TIDEMILL_SECRET_PII_KEY`; connections and variables
also by Airflow's names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from tidemill.model.secret import Secret, found_among, name_of


class EnvironmentSecrets:
    """Variables of this process.

    Args:
        variables: others than its own.
    """

    kind = "environment"

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables

    def get(self, name: str) -> Secret | None:
        """One secret."""
        found = found_among(self._variables, name)
        return Secret(found[1], found[0]) if found else None

    def names(self) -> list[str]:
        """All names."""
        return sorted({name for variable, value in self._variables.items() if value and (name := name_of(variable))})
