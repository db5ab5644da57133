"""Sections `[metrics]` and `[otel]` of a project's settings.

[metrics]
listen = "127.0.0.1:9464"      TIDEMILL_METRICS_LISTEN; `tidemill up` then serves /metrics there
token = "env:METRICS_TOKEN"    what Prometheus shows (authorization: credentials); needed beyond this computer
[otel]
enabled = true                 metrics and traces go where OTEL_EXPORTER_OTLP_ENDPOINT says; extra `otel`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidemill.model.errors import SettingsError

_LOOPBACK = ("localhost", "::1")
_HINT = 'listen = "127.0.0.1:9464"'


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Who may look at what runs; see the module's text.

    Args:
        host, port: where `/metrics` is served; an empty host: nowhere.
        token: what whoever asks must show; empty: nothing.
        otel: whether metrics and traces are sent by OpenTelemetry.
    """

    host: str = ""
    port: int = 0
    token: str = ""
    otel: bool = False

    def at(self, address: str) -> MetricsSettings:
        """The same, served at an address. Raises SettingsError."""
        return _checked(replace(self, **_address(address, None)), None)


def read_metrics_settings(
    data: Mapping[str, Any], env: Mapping[str, str], where: str, secret: Callable[[str], str]
) -> MetricsSettings:
    """The sections, with the environment before them.

    Raises:
        SettingsError: an address is none, or is open to others without a token.
    """
    given, otel = data.get("metrics", {}), data.get("otel", {}).get("enabled", False)
    if not isinstance(otel, bool):
        raise SettingsError(f"otel.enabled = {otel!r} is neither true nor false.", where=where, hint="enabled = true")
    listen = str(env.get("TIDEMILL_METRICS_LISTEN") or given.get("listen", ""))
    token = secret(str(given.get("token", "")))
    made = MetricsSettings(token=token, otel=otel)
    return _checked(replace(made, **_address(listen, where)), where) if listen else made


def _address(text: str, where: str | None) -> dict[str, Any]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f'"{text}" is no address to serve metrics at.', where=where, hint=_HINT)
    return {"host": host.removeprefix("[").removesuffix("]"), "port": int(port)}


def _checked(made: MetricsSettings, where: str | None) -> MetricsSettings:
    """Metrics name pipelines, topics and tables: strangers do not get them by accident."""
    if not (made.token or made.host in _LOOPBACK or made.host.startswith("127.")):
        raise SettingsError(
            f"Metrics at {made.host} can be asked for by other computers, and there is no token.",
            where=where,
            hint='[metrics] token = "env:METRICS_TOKEN", or listen on 127.0.0.1',
        )
    return made
