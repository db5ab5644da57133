"""Port `managed_jobs` on AWS Glue."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tidemill.adapters.aws.client import translated
from tidemill.ports.managed_jobs import JobRun

_GOOD = ("SUCCEEDED",)
_BAD = ("FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")
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
        with translated():
            return str(self._glue.start_job_run(JobName=job, Arguments=dict(arguments), **options)["JobRunId"])

    def look(self, job: str, run: str) -> JobRun:
        """How a run is now."""
        with translated():
            found = self._glue.get_job_run(JobName=job, RunId=run)["JobRun"]
        state = str(found["JobRunState"])
        return JobRun(state, state in (*_GOOD, *_BAD), state in _GOOD, str(found.get("ErrorMessage") or ""))

    def last_lines(self, run: str, most: int) -> list[str]:
        """The last lines of a run's error log."""
        from botocore.exceptions import ClientError

        with translated():
            try:
                found = self._client("logs").get_log_events(
                    logGroupName=_LOGS, logStreamName=run, limit=most, startFromHead=False
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in ("ResourceNotFoundException", "AccessDeniedException"):
                    return []
                raise
        return [str(event["message"]).rstrip() for event in found["events"]][-most:]
