"""Port `managed_jobs` on AWS Glue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.ports.managed_jobs import JobRun

_GOOD = ("SUCCEEDED",)
_BAD = ("FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")
#: Errors that pass: the service has too much to do, or the job has as many runs as it may have.
_PASSING = (
    "ConcurrentRunsExceededException", "InternalServiceException", "OperationTimeoutException",
    "ResourceNumberLimitExceededException", "Throttling", "ThrottlingException",
)  # fmt: skip
#: Where Glue writes what goes wrong in runs.
_LOGS = "/aws-glue/jobs/error"


class GlueJobs:
    """Glue in one region.

    Args:
        region: its name; None: as the environment says. `endpoint`: another address than Amazon's.
        key, secret, token: who asks; None: by what the environment, its files or the machine tells.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        key: str | None = None,
        secret: str | None = None,
        token: str | None = None,
    ) -> None:
        self._given = {
            "region_name": region,
            "endpoint_url": endpoint,
            "aws_access_key_id": key,
            "aws_secret_access_key": secret,
            "aws_session_token": token,
        }

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.session.Session()

    def _client(self, name: str) -> Any:
        return self._session.client(name, **self._given)

    @cached_property
    def _glue(self) -> Any:
        return self._client("glue")

    def start(self, job: str, arguments: Mapping[str, str], options: Mapping[str, Any]) -> str:
        """Begin a run of a job."""
        with _translated():
            return str(self._glue.start_job_run(JobName=job, Arguments=dict(arguments), **options)["JobRunId"])

    def look(self, job: str, run: str) -> JobRun:
        """How a run is now."""
        with _translated():
            found = self._glue.get_job_run(JobName=job, RunId=run)["JobRun"]
        state = str(found["JobRunState"])
        return JobRun(state, state in (*_GOOD, *_BAD), state in _GOOD, str(found.get("ErrorMessage") or ""))

    def last_lines(self, run: str, most: int) -> list[str]:
        """The last lines of a run's error log."""
        from botocore.exceptions import ClientError

        with _translated():
            try:
                found = self._client("logs").get_log_events(
                    logGroupName=_LOGS, logStreamName=run, limit=most, startFromHead=False
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in ("ResourceNotFoundException", "AccessDeniedException"):
                    return []
                raise
        return [str(event["message"]).rstrip() for event in found["events"]][-most:]


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of boto3 as ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        what = f"AWS answered {told.get('Code')}: {told.get('Message')}"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise (Unreachable(what) if told.get("Code") in _PASSING or status >= 500 else Refused(what)) from None
    except (NoCredentialsError, NoRegionError) as error:
        raise SettingsError(f"AWS cannot be asked: {error}", hint="aws://KEY:SECRET@?region_name=eu-west-1") from None
    except BotoCoreError as error:
        raise Unreachable(f"AWS does not answer: {error}") from None
