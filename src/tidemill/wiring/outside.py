"""Systems outside that tasks reach: adapters by the kind of a connection. Nothing is loaded before it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import SettingsError, UnknownName
from tidemill.ports.tasks import Connections
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.ports.containers import Containers
    from tidemill.ports.destination import Destination
    from tidemill.ports.http import HttpClient
    from tidemill.ports.mail import Mail
    from tidemill.ports.managed_jobs import ManagedJobs
    from tidemill.ports.sqlclient import SqlClient
    from tidemill.ports.topic import Topics


_POSTGRES = ("postgresql", "postgres")


class OutsideSystems:
    """Port `outside` by the project's connections.

    Args:
        connections: them.
        root: relative paths of files begin here.
        settings: whose notices' mail server is that of letters, too; None: there is none.
    """

    def __init__(self, connections: Connections, root: Path, settings: Settings | None = None) -> None:
        self._connections = connections
        self._root = root
        self._settings = settings

    def mail(self, connection: str | None) -> Mail:
        """A mail server."""
        from tidemill.adapters.notify.smtp import SmtpMail

        if connection is None:
            known = self._settings.notify if self._settings is not None else ()
            one = next((notify for notify in known if notify.kind == "email"), None)
            if one is None:
                raise SettingsError(
                    "There is no mail server.", hint='TIDEMILL_CONN_MAIL=smtp://user:password@host and conn_id="mail"'
                )
            return SmtpMail.of_url(one.url, one.sender)
        found = self._found(connection, ("smtp", "smtps"))
        extra = found["extra"]
        sender = str(extra.get("from") or found["login"] or "tidemill@localhost")
        kind, host = found["conn_type"], found["host"]
        return SmtpMail(kind, host, found["port"] or 0, found["login"], found["password"], sender)

    def http(self, connection: str | None) -> HttpClient:
        """A web service. The query of the connection's address are headers, as in Airflow."""
        from tidemill.adapters.http.client import UrllibClient

        if connection is None:
            return UrllibClient()
        found = self._found(connection, ("http", "https"))
        port = f":{found['port']}" if found["port"] else ""
        host = f"[{found['host']}]" if ":" in found["host"] else found["host"]
        base = f"{found['conn_type']}://{host}{port}/{found['schema']}"
        return UrllibClient(base, found["login"], found["password"], found["extra"])

    def sql(self, connection: str) -> SqlClient:
        """A database."""
        from tidemill.adapters.dbapi.sqlclient import DuckClient, PostgresClient, SqliteClient

        found = self._found(connection, ("sqlite", "duckdb", *_POSTGRES))
        if found["conn_type"] in _POSTGRES:
            return PostgresClient(of_libpq(found))
        path = self._file(found)
        return SqliteClient(path) if found["conn_type"] == "sqlite" else DuckClient(path)

    def destination(self, connection: str) -> Destination:
        """A store that rows are loaded into: a database, files, topics, or what a package has registered."""
        from tidemill.wiring.destinations import open_destination

        return open_destination(
            connection, self._found(connection, None), self._root, self._settings, self._connections
        )

    def _file(self, found: Mapping[str, Any]) -> Path:
        return file_of(found, self._root)

    def containers(self, connection: str | None) -> Containers:
        """An engine of containers."""
        from tidemill.adapters.docker.containers import DockerEngine

        self._must_have("docker", "docker")
        if connection is None:
            return DockerEngine(None)
        found = self._found(connection, ("unix", "tcp", "http", "https", "ssh"))
        if found["conn_type"] == "unix":
            return DockerEngine(f"unix:///{found['schema'].lstrip('/')}")
        login = f"{found['login']}@" if found["login"] else ""
        port = f":{found['port']}" if found["port"] else ""
        return DockerEngine(f"{found['conn_type']}://{login}{found['host']}{port}")

    def glue(self, connection: str | None, region: str | None) -> ManagedJobs:
        """AWS Glue."""
        from tidemill.adapters.aws.glue import GlueJobs

        self._must_have("boto3", "aws")
        found = {} if connection is None else self._found(connection, ("aws",))
        extra: Mapping[str, Any] = found.get("extra", {})
        return GlueJobs(
            region=region or extra.get("region_name"),
            endpoint=extra.get("endpoint_url"),
            key=found.get("login") or None,
            secret=found.get("password") or None,
            token=extra.get("aws_session_token"),
        )

    def filesystem(self, protocol: str, bucket: str, connection: str | None) -> Any:
        """What `fsspec` calls a file system."""
        from tidemill.adapters.localfs.filesystem import local_filesystem
        from tidemill.adapters.s3.filesystem import filesystem_of
        from tidemill.wiring.object_settings import ObjectSettings, open_bucket

        if protocol == "file":
            self._must_have("fsspec", "s3")
            return local_filesystem()
        if protocol not in ("s3", "s3a", "s3n"):
            raise SettingsError(f'Files of "{protocol}://" cannot be reached.', hint="s3://bucket/key, file:///path")
        settings = self._settings.objects if self._settings is not None else ObjectSettings()
        return filesystem_of(open_bucket(f"s3://{bucket}", settings, self._connections, connection))

    def topics(self, connection: str, patience: timedelta) -> Topics:
        """A cluster of Kafka. The query of the connection's address are settings of its client."""
        self._must_have("confluent_kafka", "kafka")
        from tidemill.adapters.kafka.topics import KafkaTopics

        return KafkaTopics(of_kafka(self._found(connection, ("kafka",))), patience=patience)

    def _found(self, name: str, kinds: Collection[str] | None) -> Mapping[str, Any]:
        found = self._connections.get(name)
        if found is None:
            error = UnknownName.of("connection", name, ())
            error.hint = f"set TIDEMILL_CONN_{name.upper()}={next(iter(kinds or _POSTGRES))}://..."
            raise error
        if kinds is not None and found["conn_type"] not in kinds:
            raise SettingsError(
                f'The connection "{name}" is of kind "{found["conn_type"]}".', hint=f"one of: {', '.join(kinds)}"
            )
        return found

    @staticmethod
    def _must_have(module: str, extra: str) -> None:
        if importlib.util.find_spec(module) is None:
            raise SettingsError(f"{module} is not installed.", hint=f'pip install "tidemill[{extra}]"')


def of_libpq(found: Mapping[str, Any]) -> dict[str, Any]:
    """What libpq takes, of a connection."""
    names = {"host": "host", "port": "port", "user": "login", "password": "password", "dbname": "schema"}
    return {**{name: found[ours] for name, ours in names.items() if found[ours]}, **found["extra"]}


def of_kafka(found: Mapping[str, Any]) -> dict[str, Any]:
    """The client's settings, of a connection."""
    port = f":{found['port']}" if found["port"] else ""
    # A password is sent to nobody in the clear, unless the address says so.
    login = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": found["login"],
        "sasl.password": found["password"],
    }
    options = {**(login if found["login"] else {}), **found["extra"]}
    return {**options, "bootstrap.servers": f"{found['host']}{port}"}


def file_of(found: Mapping[str, Any], root: Path) -> Path:
    """The file that a connection names."""
    if not found["schema"]:
        raise SettingsError(
            f'The connection "{found["conn_id"]}" names no file.', hint=f"{found['conn_type']}:///data/shop.db"
        )
    return root / str(found["schema"])
