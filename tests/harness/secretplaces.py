"""Places of secrets, of each kind, with a way to plant secrets in them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3

from harness.objectstore import ObjectStore
from harness.s3keys import KEY, SECRET
from tidemill.adapters.aws.secrets import ParameterStore, SecretsManager
from tidemill.adapters.crypto.keys import Keys
from tidemill.adapters.crypto.secrets import StoredSecrets
from tidemill.adapters.localfs.secrets import DotEnvSecrets, FolderSecrets
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.system.secrets import EnvironmentSecrets
from tidemill.model.secret import variable_of
from tidemill.ports.secrets import Secrets
from tidemill.testing.clock import ManualClock


def key(number: int = 0) -> str:
    """The text of a key; the same number, the same key."""
    return base64.b64encode(bytes([number]) * 32).decode()


@dataclass
class Place:
    """A place of secrets.

    Args:
        secrets: the port.
        plant: puts a secret there, by the place's own means.
    """

    secrets: Secrets
    plant: Callable[[str, str], None]


def environment(_folder: Path, _store: ObjectStore) -> Place:
    """Variables."""
    variables: dict[str, str] = {"PATH": "/bin", "TIDEMILL_SECRET_KEY": key()}
    return Place(EnvironmentSecrets(variables), lambda name, value: variables.update({variable_of(name): value}))


def dotenv(folder: Path, _store: ObjectStore) -> Place:
    """A `.env`."""
    path = folder / ".env"

    def plant(name: str, value: str) -> None:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("$", "\\$")
        with path.open("a", encoding="utf-8") as file:
            file.write(f'# more\nexport {variable_of(name)}="{escaped}"  # one\n')
        path.chmod(0o600)

    return Place(DotEnvSecrets(path), plant)


def folder_of_files(folder: Path, _store: ObjectStore) -> Place:
    """A folder, with the links that Kubernetes makes."""
    inner = folder / "mounted" / "..2026_01"
    inner.mkdir(parents=True)

    def plant(name: str, value: str) -> None:
        (inner / name).parent.mkdir(exist_ok=True)
        (inner / name).write_bytes(value.encode() + b"\n")
        link = folder / "mounted" / name
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(inner / name)

    return Place(FolderSecrets(folder / "mounted"), plant)


def _client(kind: str, store: ObjectStore) -> object:
    return boto3.client(
        kind, endpoint_url=store.endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )


def manager(folder: Path, store: ObjectStore) -> Place:
    """AWS Secrets Manager."""
    client, prefix = _client("secretsmanager", store), f"{folder.name}/"
    made = SecretsManager(prefix, ManualClock(), region="us-east-1", endpoint=store.endpoint)
    return Place(made, lambda name, value: client.create_secret(Name=prefix + name, SecretString=value))  # type: ignore[attr-defined]


def parameters(folder: Path, store: ObjectStore) -> Place:
    """Parameters of AWS Systems Manager."""
    client, prefix = _client("ssm", store), f"{folder.name}/"
    made = ParameterStore(prefix, ManualClock(), region="us-east-1", endpoint=store.endpoint)

    def plant(name: str, value: str) -> None:
        client.put_parameter(Name=f"/{prefix}{name}", Value=value, Type="SecureString")  # type: ignore[attr-defined]

    return Place(made, plant)


def store(folder: Path, _store: ObjectStore, keys: str = "") -> Place:
    """The metadata database."""

    def opened(_make: bool) -> SqlMetadata:
        metadata = SqlMetadata(f"sqlite:///{folder / 'metadata.db'}", "project", ManualClock(), durable=False)
        metadata.migrate()
        return metadata

    made = StoredSecrets(opened, "project", lambda: Keys(keys or key(), "TIDEMILL_SECRET_KEY"))
    return Place(made, made.put)


KINDS: dict[str, Callable[[Path, ObjectStore], Place]] = {
    "environment": environment, ".env": dotenv, "files": folder_of_files, "aws-secrets-manager": manager,
    "aws-ssm": parameters, "store": store,
}  # fmt: skip
