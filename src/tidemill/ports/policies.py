"""Port `policies`: values of columns, changed before anything is written; and back again, where there is a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tidemill.model.policy import Policy
from tidemill.model.table import Schema


class ColumnPolicies(Protocol):
    """Changes Arrow columns by their policies.

    Promises: nulls stay null; values are taken as text, a number as it is written; equal texts become equal ones, in
    every table and at any time; different ones become different ones, save by `mask` and `drop`.
    """

    def schema(self, schema: Schema, policies: Mapping[str, Policy]) -> Schema:
        """The columns afterwards: those of `drop` are gone, others that have a policy are text."""
        ...

    def apply(self, batch: Any, policies: Mapping[str, Policy]) -> Any:
        """An Arrow record batch afterwards; columns that it has not are passed over.

        Raises:
            SettingsError: a salt or key is missing, or is none.
        """
        ...

    def decrypt(self, table: Any, columns: Mapping[str, str]) -> Any:
        """An Arrow table with columns that `encrypt` made as they were, as text.

        Args:
            table: it.
            columns: column -> name of the key's secret.

        Raises:
            SettingsError: the key is missing, or another one. DataError: a value was changed, or was never encrypted.
        """
        ...
