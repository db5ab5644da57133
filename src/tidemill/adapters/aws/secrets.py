"""Port `secrets` on AWS: Secrets Manager, and the Parameter Store of Systems Manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from tidemill.model.errors import SettingsError, Unreachable
from tidemill.model.secret import Secret, canonical
from tidemill.ports.clock import Clock

#: Values are asked for again after so many seconds.
_FRESH = 60.0
_NOT_THERE = ("ResourceNotFoundException", "ParameterNotFound")
_PASSING = ("Throttling", "ThrottlingException", "InternalServiceError", "InternalServerError")


class _Aws:
    """What both services share. Who asks is what the environment, its files or the machine tell boto3."""

    kind = ""
    _service = ""

    def __init__(self, prefix: str, clock: Clock, *, region: str | None = None, endpoint: str | None = None) -> None:
        self._prefix = prefix
        self._clock = clock
        self._given = {"region_name": region, "endpoint_url": endpoint}
        self._kept: dict[str, tuple[float, Secret | None]] = {}

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
        except ImportError:
            raise SettingsError("boto3 is not installed.", hint='pip install "tidemill[aws]"') from None
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})
        with self._translated(self._prefix):
            return boto3.session.Session().client(self._service, config=config, **self._given)

    def get(self, name: str) -> Secret | None:
        """One secret, as it was within the last minute."""
        now = self._clock.monotonic()
        known = self._kept.get(name)
        if known is None or now - known[0] >= _FRESH:
            full = self._prefix + canonical(name)
            client = self._client
            with self._translated(full):
                value = self._ask(client, full)
            secret = Secret(value, f"{self.kind} {full}") if value else None
            known = self._kept[name] = (now, secret)
        return known[1]

    def names(self) -> list[str]:
        """All names below the prefix."""
        client = self._client
        with self._translated(self._prefix):
            found = list(self._list(client))
        return sorted(name for full in found if (name := _ours(full, self._prefix)) is not None)

    def _ask(self, client: Any, full: str) -> str | None:
        call, named, taken = self._call(client)
        try:
            found = call(**named(full))
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _NOT_THERE:
                return None
            raise
        value = taken(found)
        if value is None:
            raise SettingsError("The secret is no text.", where=f"{self.kind} {full}")
        return str(value).removesuffix("\n")

    def _call(self, client: Any) -> tuple[Callable[..., Any], Callable[[str], dict[str, Any]], Callable[[Any], Any]]:
        raise AssertionError("each service has its own")

    def _list(self, client: Any) -> Iterator[str]:
        raise AssertionError("each service has its own")

    @contextmanager
    def _translated(self, about: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

        where = f"{self.kind} {about}"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = Unreachable if code in _PASSING else SettingsError
            raise kind(f"The secret cannot be read: {code}.", where=where) from None
        except (ConnectionError, HTTPClientError) as error:
            raise Unreachable(f"AWS does not answer: {type(error).__name__}.", where=where) from None
        except (BotoCoreError, ValueError) as error:
            hint = "a region, and keys: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE, or the machine's role"
            raise SettingsError(f"AWS cannot be asked: {type(error).__name__}.", where=where, hint=hint) from None


class SecretsManager(_Aws):
    """Secrets Manager: `<prefix>pii-key`, `<prefix>connections/shop_db`."""

    kind = "aws-secrets-manager"
    _service = "secretsmanager"

    def _call(self, client: Any) -> tuple[Callable[..., Any], Callable[[str], dict[str, Any]], Callable[[Any], Any]]:
        return client.get_secret_value, lambda full: {"SecretId": full}, lambda found: found.get("SecretString")

    def _list(self, client: Any) -> Iterator[str]:
        for page in client.get_paginator("list_secrets").paginate():
            yield from (one["Name"] for one in page["SecretList"])


class ParameterStore(_Aws):
    """Parameters of Systems Manager, decrypted by KMS where they are SecureString: `/<prefix>pii-key`."""

    kind = "aws-ssm"
    _service = "ssm"

    def __init__(self, prefix: str, clock: Clock, *, region: str | None = None, endpoint: str | None = None) -> None:
        super().__init__(f"/{prefix.lstrip('/')}", clock, region=region, endpoint=endpoint)

    def _call(self, client: Any) -> tuple[Callable[..., Any], Callable[[str], dict[str, Any]], Callable[[Any], Any]]:
        return (
            client.get_parameter,
            lambda full: {"Name": full, "WithDecryption": True},
            lambda found: found["Parameter"]["Value"],
        )

    def _list(self, client: Any) -> Iterator[str]:
        filters = [{"Key": "Name", "Option": "BeginsWith", "Values": [self._prefix]}]
        for page in client.get_paginator("describe_parameters").paginate(ParameterFilters=filters):
            yield from (one["Name"] for one in page["Parameters"])


def _ours(full: str, prefix: str) -> str | None:
    try:
        return canonical(full.removeprefix(prefix)) if full.startswith(prefix) else None
    except SettingsError:
        return None
