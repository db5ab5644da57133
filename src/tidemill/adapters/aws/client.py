"""Clients of Amazon's services, and their errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tidemill.model.errors import Conflict, Refused, SettingsError, Unreachable

#: Errors that pass: the service has too much to do, or something has as many runs as it may have.
_PASSING = (
    "ConcurrentRunsExceededException", "InternalServiceException", "OperationTimeoutException",
    "ResourceNumberLimitExceededException", "Throttling", "ThrottlingException", "TooManyRequestsException",
)  # fmt: skip
#: Somebody else was first.
_LOST = ("AlreadyExistsException", "ConcurrentModificationException")
#: Who asks is not known, or its keys have run out.
_LOGIN = ("UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "InvalidSignatureException")


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, and where.

    Args:
        region: its name; None: as the environment says. `endpoint`: another address than Amazon's.
        key, secret, token: None: by what the environment, its files or the machine tells.
    """

    region: str | None = None
    endpoint: str | None = None
    key: str | None = None
    secret: str | None = None
    token: str | None = None

    def client(self, service: str) -> Any:
        """A client of one service. Raises SettingsError: boto3 is not installed, or no region is known."""
        try:
            import boto3
        except ImportError:
            raise SettingsError("boto3 is not installed.", hint='pip install "tidemill[aws]"') from None
        from botocore.config import Config

        with translated():
            return boto3.session.Session().client(
                service,
                region_name=self.region,
                endpoint_url=self.endpoint,
                aws_access_key_id=self.key,
                aws_secret_access_key=self.secret,
                aws_session_token=self.token,
                config=Config(connect_timeout=10, retries={"mode": "standard", "max_attempts": 4}),
            )


@contextmanager
def translated() -> Iterator[None]:
    """Errors of boto3 as ours: Conflict, Unreachable, Refused, SettingsError."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        code = str(told.get("Code"))
        what = f"AWS answered {code}: {told.get('Message')}"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _LOST:
            raise Conflict(what) from None
        if code in _LOGIN:
            raise SettingsError(what, hint="keys: AWS_ACCESS_KEY_ID, AWS_PROFILE, or a connection") from None
        raise (Unreachable(what) if code in _PASSING or status >= 500 else Refused(what)) from None
    except (NoCredentialsError, NoRegionError) as error:
        raise SettingsError(f"AWS cannot be asked: {error}", hint="aws://KEY:SECRET@?region_name=eu-west-1") from None
    except BotoCoreError as error:
        raise Unreachable(f"AWS does not answer: {error}") from None
