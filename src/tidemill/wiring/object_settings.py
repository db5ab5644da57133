"""Section `[s3]` of a project's settings: how `s3://bucket/prefix` is reached, wherever such an address stands.

[s3]
endpoint = "https://minio.example:9000"      another store than Amazon's; else AWS_ENDPOINT_URL, if it is set
region = "eu-central-1"                      else AWS_REGION
path_style = true                            the bucket in the path; so anyway with an endpoint
connection = "store"                         keys: TIDEMILL_CONN_STORE=s3://KEY:SECRET@; else AWS_ACCESS_KEY_ID and
                                             AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role
conditional_writes = true                    false: the store has none, and only one machine writes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tidemill.model.errors import SettingsError
from tidemill.ports.tasks import Connections

if TYPE_CHECKING:
    from tidemill.adapters.s3.bucket import Bucket

S3_KEYS = ("endpoint", "region", "path_style", "connection", "conditional_writes")
#: Kinds of connections that hold keys of object stores.
KINDS = ("s3", "aws")


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """How object stores are reached; see the module's text."""

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    connection: str | None = None
    conditional_writes: bool = True


def read_object_settings(data: Mapping[str, Any], where: str) -> ObjectSettings:
    """The section. Raises SettingsError: a value is of the wrong kind."""
    given = data.get("s3", {})
    for name, value in given.items():
        wanted = bool if name in ("path_style", "conditional_writes") else str
        if not isinstance(value, wanted):
            hint = "true or false" if wanted is bool else f'{name} = "..."'
            raise SettingsError(f"s3.{name} = {value!r} is of the wrong kind.", where=where, hint=hint)
    made = ObjectSettings(**given)
    if made.endpoint is not None:
        check_endpoint(made.endpoint, where)
    return made


def check_endpoint(endpoint: str, where: str | None) -> None:
    """Raises SettingsError: this is no address of a store."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise SettingsError(
            f'"{parts.scheme}://{parts.netloc.rpartition("@")[2]}" is no address of an object store.',
            where=where,
            hint='endpoint = "https://host:port", without a login: keys come from the environment or a connection',
        )


def open_bucket(url: str, settings: ObjectSettings, connections: Connections, connection: str | None = None) -> Bucket:
    """The place `s3://bucket/prefix`, with the keys of a connection, or of the section's.

    A connection is `s3://KEY:SECRET@host:port?region=...`: with a host it has its own endpoint, by https unless
    `?http=true`; `endpoint_url`, `region_name` and `aws_session_token` are Airflow's names.

    Raises:
        SettingsError: there is no such connection, or the address is none.
    """
    from tidemill.adapters.s3.bucket import Bucket

    name = connection or settings.connection
    options: dict[str, Any] = {"endpoint": settings.endpoint, "region": settings.region}
    options["path_style"] = settings.path_style
    if name is not None:
        found = connections.get(name)
        if found is None or found["conn_type"] not in KINDS:
            told = "There is no connection" if found is None else "This is no connection to an object store:"
            raise SettingsError(f'{told} "{name}".', where=url, hint=f"TIDEMILL_CONN_{name.upper()}=s3://KEY:SECRET@")
        options |= _of_connection(found, options)
    return Bucket.of_url(url, **options)


def bucket_of(found: Mapping[str, Any]) -> tuple[str, bool]:
    """`bucket/prefix` that a connection names, and whether its host is the bucket, as destinations are written.

    `s3://KEY:SECRET@host:9000/bucket/prefix` has its own endpoint. `s3://KEY:SECRET@bucket/prefix` has none: its host
    has neither port nor dot, or another endpoint is said beside it.
    """
    extra, host, path = found["extra"], str(found["host"] or ""), unquote(str(found["schema"] or "")).strip("/")
    beside = bool(extra.get("endpoint_url") or extra.get("endpoint"))
    plain = "." not in host and host != "localhost" and extra.get("http") is None
    if host and not found["port"] and found["conn_type"] == "s3" and (beside or plain):
        return f"{host}/{path}".rstrip("/"), True
    return path, False


def _of_connection(found: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    extra = found["extra"]
    endpoint = extra.get("endpoint_url") or extra.get("endpoint")
    if not endpoint and found["host"] and not bucket_of(found)[1]:
        port = f":{found['port']}" if found["port"] else ""
        endpoint = f"{'http' if extra.get('http') == 'true' else 'https'}://{found['host']}{port}"
    if endpoint:
        check_endpoint(endpoint, f"connection {found['conn_id']}")
    style = extra.get("path_style")
    return {
        "key": found["login"] or None,
        "secret": found["password"] or None,
        "token": extra.get("aws_session_token") or extra.get("token"),
        "endpoint": endpoint or before["endpoint"],
        "region": extra.get("region") or extra.get("region_name") or before["region"],
        "path_style": before["path_style"] if style is None else style == "true",
    }
