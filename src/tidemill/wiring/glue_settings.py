"""Section `[glue]` of a project's settings: the AWS Glue catalog that shows the lake's tables to other engines.

[glue]
region = "eu-central-1"                      else AWS_REGION
connection = "aws"                           keys: TIDEMILL_CONN_AWS=aws://KEY:SECRET@; else AWS_ACCESS_KEY_ID and
                                             AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role
catalog = "123456789012"                     the account whose catalog it is, if not that of the keys
prefix = "lake_"                             before the names of databases, which are those of pipelines
tables = ["shop.*"]                          patterns of names; all, if nothing is said
endpoint = "http://127.0.0.1:5000"           another address than Amazon's
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.model.delivery import EVERY, CatalogMirror, DeliverySpec
from tidemill.model.errors import SettingsError
from tidemill.wiring.object_settings import check_endpoint

if TYPE_CHECKING:
    from tidemill.adapters.aws.client import Login
    from tidemill.ports.mirror import TableMirror
    from tidemill.ports.tasks import Connections
    from tidemill.wiring.settings import Settings

GLUE_KEYS = ("region", "connection", "catalog", "prefix", "tables", "endpoint")
#: The mirror's name among deliveries.
NAME = "glue"


@dataclass(frozen=True, slots=True)
class GlueSettings:
    """Which catalog shows what; see the module's text."""

    region: str | None = None
    connection: str | None = None
    catalog: str | None = None
    prefix: str = ""
    tables: tuple[str, ...] = ("*",)
    endpoint: str | None = None


def read_glue_settings(data: Mapping[str, Any], lake: str, where: str) -> GlueSettings | None:
    """The section; None: there is none. Raises SettingsError: a value is of the wrong kind, or nobody could read."""
    if "glue" not in data:
        return None
    given = dict(data["glue"])
    tables = given.pop("tables", ["*"])
    tables = [tables] if isinstance(tables, str) else tables
    if not isinstance(tables, list) or not tables or not all(isinstance(one, str) for one in tables):
        raise SettingsError(f"glue.tables = {tables!r} is no list of patterns.", where=where, hint='["shop.*"]')
    for name, value in given.items():
        if not isinstance(value, str):
            raise SettingsError(f"glue.{name} = {value!r} is of the wrong kind.", where=where, hint=f'{name} = "..."')
    made = GlueSettings(**given, tables=tuple(tables))
    if not re.fullmatch(r"[a-z0-9_]{0,100}", made.prefix):
        raise SettingsError(
            f'glue.prefix = "{made.prefix}" cannot begin a name.', where=where, hint="small letters, digits and _"
        )
    if made.endpoint is not None:
        check_endpoint(made.endpoint, where)
    if not lake.startswith("s3://"):
        raise SettingsError(
            "[glue] shows the lake to engines that read from S3, and the lake is a folder.",
            where=where,
            hint='[lake] url = "s3://bucket/prefix"',
        )
    return made


def mirrors_of(settings: Settings) -> tuple[DeliverySpec, ...]:
    """The catalogs that are to show the lake: one, or none."""
    found = settings.glue
    if found is None:
        return ()
    return (DeliverySpec(EVERY, NAME, (), mirror=CatalogMirror(found.tables, found.prefix)),)


def open_mirror(settings: Settings, connections: Connections) -> TableMirror:
    """The catalog of the section. Raises SettingsError: there is no such section, or connection."""
    from tidemill.adapters.aws.tables import GlueTables

    found = settings.glue
    if found is None:
        raise SettingsError("The settings name no catalog any more.", hint="[glue] in tidemill.toml")
    return GlueTables(aws_login(found.connection, connections, found.region, found.endpoint), found.catalog)


def aws_login(
    name: str | None, connections: Connections, region: str | None = None, endpoint: str | None = None
) -> Login:
    """Who asks Amazon, by the name of a connection; None: as the environment says. Raises SettingsError."""
    from tidemill.adapters.aws.client import Login

    if name is None:
        return Login(region, endpoint)
    found = connections.get(name)
    if found is None or found["conn_type"] != "aws":
        told = "There is no connection" if found is None else "This is no connection to AWS:"
        raise SettingsError(f'{told} "{name}".', hint=f"TIDEMILL_CONN_{name.upper()}=aws://KEY:SECRET@")
    return login_of(found, region, endpoint)


def login_of(found: Mapping[str, Any], region: str | None = None, endpoint: str | None = None) -> Login:
    """Who asks Amazon, of a connection: `KEY:SECRET@?region_name=...&endpoint_url=...&aws_session_token=...`."""
    from tidemill.adapters.aws.client import Login

    extra: Mapping[str, Any] = found["extra"]
    endpoint = endpoint or extra.get("endpoint_url")
    if endpoint:
        check_endpoint(endpoint, f"connection {found['conn_id']}")
    region = region or extra.get("region_name") or extra.get("region")
    return Login(region, endpoint, found["login"] or None, found["password"] or None, extra.get("aws_session_token"))
