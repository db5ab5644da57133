"""Amazon Redshift: from a connection to what its adapters are given.

    TIDEMILL_CONN_WAREHOUSE=redshift://user:password@host:5439/db?bucket=s3://b/waiting&iam_role=arn:aws:iam::...:role/...

    bucket      where files wait for COPY, and where UNLOAD puts them
    iam_role    the role by which the cluster reads and writes there; left out, its default one
    region      of the bucket, if it is not the cluster's
    format      json (the default), jsonpaths, csv, avro, parquet
    slices      files are made in multiples of it; left out, the cluster is asked
    keep_files  true: files stay in the bucket
    s3          the connection with the keys by which Tidemill itself reaches the bucket; left out, as [s3] says

All other options are the driver's: `ssl`, `iam`, `cluster_identifier`, `serverless_work_group` ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import SettingsError
from tidemill.model.redshift import Copying, Form
from tidemill.ports.tasks import Connections
from tidemill.wiring.object_settings import ObjectSettings, open_bucket

if TYPE_CHECKING:
    from tidemill.adapters.databases.redshift import RedshiftDatabase
    from tidemill.adapters.redshift.destination import RedshiftDestination
    from tidemill.ports.files import Files

_OURS = ("bucket", "iam_role", "region", "format", "slices", "keep_files", "s3")
_WORDS = {"true": True, "false": False}
_NUMBERS = ("timeout", "tcp_keepalive_idle", "tcp_keepalive_interval", "tcp_keepalive_count")


@dataclass(frozen=True)
class RedshiftParts:
    """What adapters are given.

    Args:
        driver: of the driver's.
        files: the place in the bucket.
        copying: how COPY and UNLOAD are told.
    """

    driver: dict[str, Any]
    files: Files
    copying: Copying


def redshift_parts(found: Mapping[str, Any], objects: ObjectSettings, connections: Connections) -> RedshiftParts:
    """Read a connection. Raises SettingsError: something is missing, or of the wrong kind."""
    from tidemill.adapters.s3.files import S3Files

    where = f"connection {found['conn_id']}"
    extra = dict(found["extra"])
    ours = {name: extra.pop(name) for name in _OURS if name in extra}
    if "bucket" not in ours:
        raise SettingsError(
            "Redshift reads and writes files in a bucket, and the connection names none.",
            where=where,
            hint="redshift://...?bucket=s3://bucket/waiting&iam_role=arn:aws:iam::...:role/...",
        )
    try:
        form = Form(str(ours.get("format", "json")).lower())
    except ValueError:
        raise SettingsError(
            f'"{ours["format"]}" is no format of files for Redshift.', where=where, hint=", ".join(Form)
        ) from None
    slices = str(ours.get("slices", ""))
    if slices and not (slices.isdecimal() and int(slices)):
        raise SettingsError(f'slices = "{slices}" is no number above zero.', where=where)
    copying = Copying(
        str(ours.get("iam_role", "default")), ours.get("region"), form, int(slices) if slices else None,
        str(ours.get("keep_files", "false")).lower() == "true",
    )  # fmt: skip
    bucket = open_bucket(str(ours["bucket"]), objects, connections, ours.get("s3"))
    files = S3Files(bucket, conditional=objects.conditional_writes)
    return RedshiftParts(_driver(found, extra), files, copying)


def driver_parts(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the driver is given of a connection, without what is for COPY and UNLOAD."""
    return _driver(found, {name: value for name, value in found["extra"].items() if name not in _OURS})


def _driver(found: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    names = {"host": "host", "port": "port", "user": "login", "password": "password", "database": "schema"}
    given: dict[str, Any] = {name: found[ours] for name, ours in names.items() if found[ours]}
    for name, value in extra.items():
        given[name] = int(value) if name in _NUMBERS else _WORDS.get(str(value).lower(), value)
    return given


def open_redshift_destination(
    found: Mapping[str, Any], objects: ObjectSettings, connections: Connections
) -> RedshiftDestination:
    """The destination of a connection."""
    from tidemill.adapters.redshift.destination import RedshiftDestination

    parts = redshift_parts(found, objects, connections)
    return RedshiftDestination(parts.driver, parts.files, parts.copying)


def open_redshift_database(
    found: Mapping[str, Any], objects: ObjectSettings, connections: Connections
) -> RedshiftDatabase:
    """The database of a connection, to be read."""
    from tidemill.adapters.databases.redshift import RedshiftDatabase

    parts = redshift_parts(found, objects, connections)
    return RedshiftDatabase(parts.driver, parts.files, parts.copying)
