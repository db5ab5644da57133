"""Requests to web services as tasks, and waiting for what one answers."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from tidemill.authoring.arguments import as_length
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, RunFailed, Unreachable
from tidemill.operators.python import arguments_for
from tidemill.operators.sensors import BaseSensor
from tidemill.ports.http import Answer

#: Codes that may pass: the same request is worth another try.
_PASSING = (408, 425, 429)
#: Characters of an answer that tells of an error which the task's error shows.
_SHOWN = 300


class _Request:
    """What operator and sensor ask alike."""

    endpoint: str
    place: str

    def _take(
        self,
        method: str,
        endpoint: str,
        url: str,
        data: Any,
        json: Any,
        headers: Mapping[str, str] | None,
        http_conn_id: str | None,
        timeout: float | timedelta,
    ) -> None:
        if bool(url) == bool(endpoint):
            raise DefinitionError(
                "A request has either a url, or an endpoint at a connection.",
                where=self.place,
                hint='url="https://host/path", or endpoint="path", http_conn_id="api"',
            )
        if data is not None and json is not None:
            raise DefinitionError("data and json exclude each other.", where=self.place)
        if endpoint and http_conn_id is None:
            http_conn_id = "http_default"
        self.method = method.upper()
        self.endpoint = endpoint or url
        self.data = data
        self.json = json
        self.headers = dict(headers or {})
        self.http_conn_id = None if url else http_conn_id
        self.request_timeout = as_length(timeout)

    def _ask(self, context: TaskContext) -> Answer:
        headers, query, body = dict(self.headers), {}, None
        if self.json is not None:
            headers.setdefault("Content-Type", "application/json")
            body = json_.dumps(self.json).encode()
        elif isinstance(self.data, Mapping) and self.method in ("GET", "HEAD", "DELETE"):
            query = dict(self.data)
        elif isinstance(self.data, Mapping):
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            body = urlencode(dict(self.data), doseq=True).encode()
        elif self.data is not None:
            body = self.data if isinstance(self.data, bytes) else str(self.data).encode()
        client = context.services.need_outside().http(self.http_conn_id)
        seconds = self.request_timeout.total_seconds()
        return client.request(self.method, self.endpoint, headers=headers, query=query, body=body, timeout=seconds)

    def _checked(self, answer: Answer) -> Answer:
        """An answer that tells of no error. Raises Unreachable, RunFailed."""
        if answer.ok:
            return answer
        shown = " ".join(answer.text.split())[:_SHOWN]
        what = f"{self.method} {self.endpoint} was answered with {answer.status} {answer.reason}: {shown}"
        if answer.status not in _PASSING and answer.status < 500:
            raise RunFailed(what, where=self.place)
        error = Unreachable(what, where=self.place)
        wait = answer.headers.get("retry-after", "")
        if wait.isdigit():
            error.retry_after = int(wait)  # type: ignore[attr-defined]  # what a try that fails may tell its next one
        raise error

    def _call(self, function: Callable[..., Any], answer: Answer, context: TaskContext) -> Any:
        return function(answer, **arguments_for(function, (answer,), {}, context))


class HttpOperator(_Request, BaseOperator):
    """Sends a request; what was answered, as text, is what the task returns. Codes from 400 on are failures.

    Args:
        endpoint: a path at the connection's host. `url`: the whole address, without a connection.
        method: GET, POST, PUT, PATCH, DELETE, HEAD; as in Airflow POST is what is meant where none is given.
        data: of GET, HEAD, DELETE the query; of others the body: a dictionary is sent as a form. `json`: as JSON.
        headers: beside those of the connection.
        http_conn_id: a connection `https://user:password@host?Authorization=Bearer%20...`; its query are headers.
        response_check: a function of the answer, and variables of the context by name; false: the task fails.
        response_filter: makes of the answer what the task returns: `lambda answer: answer.json()["id"]`.
        log_response: the answer goes to the log.
        timeout: seconds without a byte.
        options: those of every task.
    """

    kind = "http"
    template_fields: Sequence[str] = ("endpoint", "data", "json", "headers")
    template_ext: Sequence[str] = (".json",)

    def __init__(
        self,
        *,
        endpoint: str = "",
        url: str = "",
        method: str = "POST",
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        http_conn_id: str | None = None,
        response_check: Callable[..., Any] | None = None,
        response_filter: Callable[..., Any] | None = None,
        log_response: bool = False,
        timeout: float | timedelta = 60,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._take(method, endpoint, url, data, json, headers, http_conn_id, timeout)
        self.response_check = response_check
        self.response_filter = response_filter
        self.log_response = log_response

    def execute(self, context: TaskContext) -> Any:
        """Ask, and judge the answer."""
        answer = self._checked(self._ask(context))
        self.log.info("%s %s: %s", self.method, self.endpoint, answer.status)
        if self.log_response:
            self.log.info("%s", answer.text)
        if self.response_check is not None and not self._call(self.response_check, answer, context):
            raise RunFailed(f"The answer to {self.method} {self.endpoint} does not pass.", where=self.place)
        return answer.text if self.response_filter is None else self._call(self.response_filter, answer, context)


class HttpSensor(_Request, BaseSensor):
    """Asks a web service until it answers what is waited for.

    Args:
        endpoint, url, method, data, json, headers, http_conn_id: see `HttpOperator`; the method is GET where none is
            given.
        request_timeout: of one request, seconds without a byte.
        response_check: true, or a `PokeReturnValue`, once it is there; left out, any answer but an error will do.
        response_error_codes_allowlist: codes that say that it is not there yet.
        options: those of `BaseSensor`.
    """

    template_fields: Sequence[str] = ("endpoint", "data", "json", "headers")

    def __init__(
        self,
        *,
        endpoint: str = "",
        url: str = "",
        method: str = "GET",
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        http_conn_id: str | None = None,
        response_check: Callable[..., Any] | None = None,
        response_error_codes_allowlist: Sequence[int | str] = (404,),
        request_timeout: float | timedelta = 60,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._take(method, endpoint, url, data, json, headers, http_conn_id, request_timeout)
        self.response_check = response_check
        self.not_yet = frozenset(map(int, response_error_codes_allowlist))

    def poke(self, context: TaskContext) -> Any:
        """Ask once."""
        answer = self._ask(context)
        if answer.status in self.not_yet:
            return False
        self._checked(answer)
        return True if self.response_check is None else self._call(self.response_check, answer, context)
