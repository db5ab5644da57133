"""Port `secrets` on the environment: `TIDEMILL_CONN_SHOP_DB`, `TIDEMILL_SECRET_PII_KEY`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tidemill.model.secret import Secret, name_of, variable_of


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
        variable = variable_of(name)
        value = self._variables.get(variable)
        return Secret(value, variable) if value else None

    def names(self) -> list[str]:
        """All names."""
        return sorted(name for variable, value in self._variables.items() if value and (name := name_of(variable)))
