"""Basic authentication (RFC 7617), to a service or to a proxy."""

from __future__ import annotations

import base64


def basic(login: str, password: str, header: str = "Authorization") -> dict[str, str]:
    """The header of basic authentication."""
    return {header: f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode('ascii')}"}
