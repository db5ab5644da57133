"""A schema registry for tests: the documented API of Confluent's over HTTP, in a thread on a free port.

No real one could be had: Confluent's and Apicurio's come as archives and images, and Karapace could not be installed
from the package index. So this says what the documentation says, and the client is held against that.
Compatibility is judged for flat Avro records: BACKWARD, by fields.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class RegistryServer:
    """What the service keeps, and what it was asked."""

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.subjects: dict[str, list[int]] = {}
        self.requests: list[tuple[str, str, str]] = []
        #: Codes to answer the next requests with, before any is looked at.
        self.failures: list[int] = []
        self.authorization = ""
        self.url = ""

    def answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        self.requests.append((method, path, authorization))
        if self.failures:
            return self.failures.pop(0), {"error_code": 50001, "message": "Error in the backend data store"}
        if self.authorization and authorization != self.authorization:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        match (method, *parts):
            case ("GET", "schemas", "ids", number):
                if not 0 < int(number) <= len(self.schemas):
                    return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
                return 200, self.schemas[int(number) - 1]
            case ("GET", "subjects", subject, "versions", version):
                return self._version(subject, version)
            case ("POST", "subjects", subject):
                return self._lookup(subject, body)
            case ("POST", "subjects", subject, "versions"):
                return self._register(subject, body)
            case ("POST", "compatibility", "subjects", subject, "versions", "latest"):
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                messages = self._against(subject, body)
                return 200, {"is_compatible": not messages, "messages": messages}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _version(self, subject: str, version: str) -> tuple[int, Any]:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        numbers = self.subjects[subject]
        place = len(numbers) if version == "latest" else int(version)
        if place > len(numbers):
            return 404, {"error_code": 40402, "message": f"Version {version} not found."}
        number = numbers[place - 1]
        return 200, {"subject": subject, "id": number, "version": place, **self.schemas[number - 1]}

    def _lookup(self, subject: str, body: Any) -> tuple[int, Any]:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        for place, number in enumerate(self.subjects[subject], 1):
            if self.schemas[number - 1] == body:
                return 200, {"subject": subject, "id": number, "version": place, **body}
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def _register(self, subject: str, body: Any) -> tuple[int, Any]:
        if body.get("schemaType", "AVRO") != "PROTOBUF":
            try:
                json.loads(body["schema"])
            except ValueError:
                return 422, {"error_code": 42201, "message": "Invalid schema"}
        found, answer = self._lookup(subject, body)
        if found == 200:
            return 200, {"id": answer["id"]}
        if subject in self.subjects and (messages := self._against(subject, body)):
            return 409, {"error_code": 409, "message": "; ".join(messages)}
        if body not in self.schemas:
            self.schemas.append(body)
        number = self.schemas.index(body) + 1
        self.subjects.setdefault(subject, []).append(number)
        return 200, {"id": number}

    def _against(self, subject: str, body: Any) -> list[str]:
        """Whether data of the newest version can be read with this schema."""
        old = self.schemas[self.subjects[subject][-1] - 1]
        if body.get("schemaType", "AVRO") != "AVRO":
            return []
        before = {field["name"]: field["type"] for field in json.loads(old["schema"])["fields"]}
        messages = []
        for field in json.loads(body["schema"])["fields"]:
            name = field["name"]
            if name not in before and "default" not in field:
                messages.append(f"READER_FIELD_MISSING_DEFAULT_VALUE: field '{name}' has no default")
            elif name in before and before[name] != field["type"] and (before[name], field["type"]) != ("int", "long"):
                messages.append(f"TYPE_MISMATCH: field '{name}' was {before[name]}")
        return messages


@contextmanager
def registry_server() -> Iterator[RegistryServer]:
    """The service, until the end."""
    state = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = state.answer(self.command, self.path, body, self.headers.get("Authorization") or "")
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _handle

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
