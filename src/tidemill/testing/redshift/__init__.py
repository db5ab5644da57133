"""An emulator of Amazon Redshift for tests: a server that its driver connects to, over a real PostgreSQL.

    driver -> server (listens) -> session (one connection) -> statements (what is translated) -> PostgreSQL
                                        '-> loading (COPY), exporting (UNLOAD) -> S3

It is stricter than complete: grammar, options and types that it does not know raise an error, and never pass. Which
pages of Amazon's documentation it follows, and what it does not do, is listed in docs/redshift.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.testing.redshift.server import RedshiftEmulator as RedshiftEmulator
    from tidemill.testing.redshift.server import Storage as Storage

__all__ = ["RedshiftEmulator", "Storage"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f'tidemill.testing.redshift has no "{name}"')
    import importlib

    return getattr(importlib.import_module("tidemill.testing.redshift.server"), name)
