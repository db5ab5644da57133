"""Engines that `tidemill query` asks beside the embedded one, by the kind of their connection.

athena://KEY:SECRET@?region_name=eu-west-1&workgroup=primary&output=s3://bucket/results&database=shop&catalog=...
postgresql://user:password@host/database
redshift://user:password@host/database        `bucket` and its like are not needed for queries
trino://user:password@host:8443/catalog/schema?http_scheme=https&verify=/etc/ssl/ours.pem
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import SettingsError, UnknownName
from tidemill.wiring.glue_settings import login_of
from tidemill.wiring.outside import of_libpq
from tidemill.wiring.redshift import driver_parts
from tidemill.wiring.secrets import connections_of
from tidemill.wiring.services import system_clock
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.ports.queries import QueryEngine

#: Engines, and the kinds of connections that are theirs.
KINDS = {
    "athena": ("athena", "aws"),
    "postgres": ("postgresql", "postgres"),
    "redshift": ("redshift",),
    "trino": ("trino",),
}
ENGINES = tuple(KINDS)
_VERIFIES = {"true": True, "false": False}


def open_queries(settings: Settings, engine: str | None, connection: str | None) -> QueryEngine:
    """An engine.

    Args:
        settings: of the project.
        engine: its name; None: as the connection's kind says.
        connection: the name of one; None: the connection that is called as the engine is.

    Raises:
        UnknownName: there is no such connection. SettingsError: it is of another kind, or says too little.
    """
    name = connection or engine or ""
    found = connections_of(settings).get(name)
    if found is None:
        if engine == "athena" and connection is None:
            return _athena({"conn_id": name, "login": None, "password": None, "extra": {}}, settings)
        error = UnknownName.of("connection", name, ())
        error.hint = f"set TIDEMILL_CONN_{name.upper()}={engine or 'trino'}://..."
        raise error
    kind = str(found["conn_type"])
    known = [one for one, kinds in KINDS.items() if kind in kinds]
    if not known or engine not in (None, *known):
        wanted = KINDS[engine] if engine else [one for kinds in KINDS.values() for one in kinds]
        raise SettingsError(
            f'The connection "{name}" is of kind "{kind}".', hint=f"one of: {', '.join(wanted)}; or --engine"
        )
    return _opened(known[0], found, settings)


def _opened(engine: str, found: Mapping[str, Any], settings: Settings) -> QueryEngine:
    match engine:
        case "athena":
            return _athena(found, settings)
        case "redshift":
            from tidemill.adapters.redshift.queries import RedshiftQueries

            return RedshiftQueries(driver_parts(found))
        case "trino":
            return _trino(found)
    from tidemill.adapters.dbapi.queries import PostgresQueries

    return PostgresQueries(of_libpq(found))


def _athena(found: Mapping[str, Any], settings: Settings) -> QueryEngine:
    from tidemill.adapters.aws.athena import AthenaQueries, Workgroup

    extra = found["extra"]
    glue = settings.glue
    # Who shows the lake in one region asks there, too.
    region, endpoint = (glue.region, glue.endpoint) if glue is not None else (None, None)
    login = login_of(
        found, extra.get("region_name") or extra.get("region") or region, extra.get("endpoint_url") or endpoint
    )
    group = Workgroup(extra.get("workgroup"), extra.get("output"), extra.get("database"), extra.get("catalog"))
    return AthenaQueries(login, group, system_clock())


def _trino(found: Mapping[str, Any]) -> QueryEngine:
    from tidemill.adapters.trino.queries import TrinoQueries

    extra = dict(found["extra"])
    scheme = str(extra.pop("http_scheme", "https" if found["password"] or found["port"] in (443, 8443) else "http"))
    where = f"connection {found['conn_id']}"
    if not found["host"]:
        raise SettingsError("The connection names no host.", where=where, hint="trino://user@host:8080/catalog/schema")
    if found["password"] and scheme != "https":
        raise SettingsError("A password is not sent in the clear.", where=where, hint="?http_scheme=https")
    catalog, _, schema = str(found["schema"] or "").partition("/")
    parts: dict[str, Any] = {
        "host": found["host"], "port": found["port"] or (443 if scheme == "https" else 8080),
        "user": found["login"] or "tidemill", "http_scheme": scheme,
    }  # fmt: skip
    if "verify" in extra:
        verify = str(extra.pop("verify"))
        parts["verify"] = _VERIFIES.get(verify.lower(), verify)
    if extra:
        raise UnknownName.of("option", next(iter(extra)), ("http_scheme", "verify"), where=where)
    named = {"catalog": catalog, "schema": schema}
    return TrinoQueries({**parts, **{name: one for name, one in named.items() if one}}, found["password"] or None)
