"""Destinations by the kind of their connection; others than ours come by the entry points `tidemill.destinations`.

duckdb:///file.db                    postgresql://user:password@host/database
file:///folder                       s3://KEY:SECRET@bucket/prefix?region=...&endpoint_url=...
redshift://user:password@host/database?bucket=s3://...   (see `redshift.py`)
kafka://host:9092                    <name>://...: the entry point of that name

An entry point is a function of the connection's parts and the project's folder that gives a `Destination`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tidemill.model.errors import SettingsError
from tidemill.ports.tasks import Connections
from tidemill.wiring.object_settings import ObjectSettings
from tidemill.wiring.outside import file_of, of_kafka, of_libpq
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.ports.destination import Destination

GROUP = "tidemill.destinations"
OURS = ("duckdb", "postgresql", "postgres", "redshift", "file", "s3", "kafka")
#: How long a broker may be away within a load; a load is a transaction of at least this time.
_PATIENCE = timedelta(minutes=2)


def open_destination(
    name: str, found: Mapping[str, Any], root: Path, settings: Settings | None, connections: Connections
) -> Destination:
    """The destination of a connection.

    Args:
        name: of the connection.
        found: its parts.
        root: of the project: relative paths begin there.
        settings: of the project, with the keys of object stores; None: there are none.
        connections: by name, where a connection names another one.

    Raises:
        SettingsError: no destination is of this kind, or what it needs is not installed.
    """
    match found["conn_type"]:
        case "duckdb":
            from tidemill.adapters.duckdb.destination import DuckDestination

            return DuckDestination(file_of(found, root))
        case "postgresql" | "postgres":
            from tidemill.adapters.postgres.destination import PostgresDestination

            return PostgresDestination(of_libpq(found))
        case "file":
            from tidemill.adapters.localfs.files import LocalFiles

            folder = file_of(found, root)
            folder.mkdir(parents=True, exist_ok=True)
            return _files(LocalFiles(folder))
        case "s3":
            return _files(_objects(found, settings))
        case "redshift":
            from tidemill.wiring.redshift import open_redshift_destination

            return open_redshift_destination(found, _keys(settings), connections)
        case "kafka":
            return _kafka(found)
        case kind:
            return _registered(name, kind, found, root)


def _files(files: Any) -> Destination:
    from tidemill.adapters.arrow.destination import FilesDestination
    from tidemill.wiring.services import system_clock

    return FilesDestination(files, system_clock())


def _objects(found: Mapping[str, Any], settings: Settings | None) -> Any:
    """A bucket: `s3://KEY:SECRET@bucket/prefix`, the rest as the project's section [s3] says."""
    from tidemill.adapters.s3.bucket import Bucket
    from tidemill.adapters.s3.files import S3Files
    from tidemill.wiring.object_settings import bucket_of, check_endpoint

    known, extra = _keys(settings), found["extra"]
    place = f"{found['host']}/{unquote(str(found['schema'] or '')).strip('/')}"
    endpoint = extra.get("endpoint_url") or extra.get("endpoint") or known.endpoint
    if found["port"]:  # as sources write it: the host is the store's
        place, _ = bucket_of(found)
        endpoint = f"{'http' if extra.get('http') == 'true' else 'https'}://{found['host']}:{found['port']}"
    if endpoint:
        check_endpoint(endpoint, f"connection {found['conn_id']}")
    bucket = Bucket.of_url(
        f"s3://{place}",
        endpoint=endpoint,
        region=extra.get("region") or extra.get("region_name") or known.region,
        path_style=extra["path_style"] == "true" if "path_style" in extra else known.path_style,
        key=found["login"] or None,
        secret=found["password"] or None,
        token=extra.get("aws_session_token") or extra.get("token"),
    )
    return S3Files(bucket, conditional=known.conditional_writes)


def _keys(settings: Settings | None) -> ObjectSettings:
    return settings.objects if settings is not None else ObjectSettings()


def _kafka(found: Mapping[str, Any]) -> Destination:
    try:
        from tidemill.adapters.kafka.topics import KafkaTopics
    except ImportError:
        raise SettingsError("Kafka's client is not installed.", hint='pip install "tidemill[kafka]"') from None
    from tidemill.adapters.arrow.topic_destination import TopicDestination
    from tidemill.flow.stream.stretch import whole
    from tidemill.wiring.services import system_clock

    topics = KafkaTopics(of_kafka(found), patience=_PATIENCE)
    return TopicDestination(topics, partial(whole, topics, system_clock()))


def _registered(name: str, kind: str, found: Mapping[str, Any], root: Path) -> Destination:
    """What a package has registered under the kind's name."""
    known = {one.name: one for one in entry_points(group=GROUP)}
    if kind not in known:
        raise SettingsError(
            f'The connection "{name}" is of kind "{kind}", and no destination is.',
            hint=f"one of: {', '.join([*OURS, *sorted(known)])}; a package adds one by an entry point {GROUP}",
        )
    try:
        make = known[kind].load()
    except Exception as error:
        raise SettingsError(f'The destination "{kind}" does not load: {type(error).__name__}: {error}.') from error
    made: Destination = make(found, root)
    return made
