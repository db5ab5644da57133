"""Port `outside`: how a task comes by a system outside of Tidemill, by the name of a connection."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from tidemill.ports.containers import Containers
from tidemill.ports.destination import Destination
from tidemill.ports.http import HttpClient
from tidemill.ports.mail import Mail
from tidemill.ports.managed_jobs import ManagedJobs
from tidemill.ports.sqlclient import SqlClient
from tidemill.ports.topic import Topics


class Outside(Protocol):
    """Systems outside. Nothing is opened before it is used.

    Raises:
        UnknownName: there is no such connection. SettingsError: it is of another kind, or a driver is not installed.
    """

    def mail(self, connection: str | None) -> Mail:
        """A mail server; None: that of the project's notices."""
        ...

    def http(self, connection: str | None) -> HttpClient:
        """A web service; None: any, by whole addresses."""
        ...

    def sql(self, connection: str) -> SqlClient:
        """A database."""
        ...

    def destination(self, connection: str) -> Destination:
        """A database that batches are loaded into."""
        ...

    def containers(self, connection: str | None) -> Containers:
        """An engine of containers; None: the one that DOCKER_HOST names, or this computer's."""
        ...

    def glue(self, connection: str | None, region: str | None) -> ManagedJobs:
        """AWS Glue; None: by what the environment tells of AWS."""
        ...

    def filesystem(self, protocol: str, bucket: str, connection: str | None) -> Any:
        """What `fsspec` calls a file system: `s3` with a bucket, or `file`; None: by the project's settings."""
        ...

    def topics(self, connection: str, patience: timedelta) -> Topics:
        """A broker of topics, which is called unreachable when it has not answered for so long."""
        ...
