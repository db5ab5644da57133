"""The client of schema registries: what it asks, what it keeps, and what it says where it is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from harness.registry import RegistryServer, registry_server
from tidemill.adapters.registry.client import HttpRegistry, RegistrySettings
from tidemill.model.errors import ContractError, DefinitionError, SettingsError, UnknownName, Unreachable
from tidemill.ports.registry import Reference, RegistrySchema
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.stream_settings import read_stream_settings


@pytest.fixture(scope="module")
def running() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


@pytest.fixture
def server(running: RegistryServer) -> RegistryServer:
    url = running.url
    running.__init__()  # type: ignore[misc]  # an empty one at the same address
    running.url = url
    return running


def client(server: RegistryServer, **more: object) -> HttpRegistry:
    waits: list[float] = []
    return HttpRegistry(RegistrySettings([server.url], **more), waits.append)  # type: ignore[arg-type]  # settings


def record(**fields: str) -> RegistrySchema:
    parts = [{"name": name, "type": kind} for name, kind in fields.items()]
    return RegistrySchema(json.dumps({"type": "record", "name": "R", "fields": parts}))


def test_a_schema_is_registered_once_and_found_again(server: RegistryServer) -> None:
    made = client(server)
    assert made.version("s-value") is None
    assert made.id_of("s-value", record(a="int")) is None
    number = made.register("s-value", record(a="int"))
    assert made.register("s-value", record(a="int")) == number
    assert client(server).register("s-value", record(a="int")) == number
    assert client(server).id_of("s-value", record(a="int")) == number
    assert made.by_id(number) == made.version("s-value") == made.version("s-value", 1) == record(a="int")
    assert made.version("s-value", 7) is None


def test_what_a_number_stands_for_is_asked_once(server: RegistryServer) -> None:
    made = client(server)
    number = made.register("s-value", record(a="int"))
    made.register("s-value", record(a="int"))
    for _ in range(3):
        made.by_id(number)
    assert [path for _, path, _ in server.requests] == ["/subjects/s-value/versions", f"/schemas/ids/{number}"]


def test_formats_references_and_odd_subjects_travel(server: RegistryServer) -> None:
    made = client(server)
    schema = RegistrySchema('syntax = "proto3";', "PROTOBUF", (Reference("other.proto", "other", 3),))
    number = made.register("a/b c-value", schema)
    assert client(server).by_id(number) == schema
    assert server.requests[0][1] == "/subjects/a%2Fb%20c-value/versions"


def test_an_incompatible_schema_is_refused_with_the_reasons(server: RegistryServer) -> None:
    made = client(server)
    made.register("s-value", record(a="int"))
    assert made.incompatibilities("s-value", record(a="long")) == ()
    assert made.incompatibilities("new", record(a="string")) == ()
    reasons = made.incompatibilities("s-value", record(a="string"))
    assert reasons == ("TYPE_MISMATCH: field 'a' was int",)
    with pytest.raises(ContractError) as caught:
        made.register("s-value", record(a="string"))
    assert caught.value.what == (
        "The schema is incompatible with earlier ones of \"s-value\": TYPE_MISMATCH: field 'a' was int"
    )
    with pytest.raises(DefinitionError, match="refuses the schema: Invalid schema"):
        made.register("s-value", RegistrySchema("{"))


def test_an_unknown_number_is_told(server: RegistryServer) -> None:
    with pytest.raises(UnknownName, match="no schema with the id 77"):
        client(server).by_id(77)


def test_a_server_in_trouble_is_asked_again_and_given_up_at_last(server: RegistryServer) -> None:
    waits: list[float] = []
    made = HttpRegistry(RegistrySettings([server.url]), waits.append)
    server.failures = [503, 500]
    assert made.version("s-value") is None
    assert waits == [0.2, 0.4]
    server.failures = [503, 503, 503]
    with pytest.raises(Unreachable, match="does not answer: 503 Error in the backend data store"):
        made.version("s-value")


def test_the_next_address_is_asked_where_one_does_not_answer(server: RegistryServer) -> None:
    waits: list[float] = []
    made = HttpRegistry(RegistrySettings(["http://127.0.0.1:9", server.url]), waits.append)
    assert made.version("s-value") is None
    assert waits == []
    with pytest.raises(Unreachable, match=r"registry at 127\.0\.0\.1:9 does not answer"):
        HttpRegistry(RegistrySettings(["http://127.0.0.1:9"]), waits.append).version("s-value")


def test_who_asks_is_told_and_never_shown(server: RegistryServer) -> None:
    server.authorization = "Basic " + base64.b64encode(b"me:secret").decode()
    assert client(server, user="me", password="secret").version("s") is None
    with pytest.raises(SettingsError) as caught:
        client(server, user="me", password="wrong-one").version("s")
    assert "wrong-one" not in str(caught.value)
    assert "Unauthorized" in str(caught.value)
    server.authorization = "Bearer token"
    assert client(server, token="token").version("s") is None


@pytest.mark.parametrize("url", ["localhost:8081", "ftp://x", "http://", "http://me:pw@host"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        HttpRegistry(RegistrySettings([url]))
    assert "pw" not in str(caught.value)


def test_certificates_that_cannot_be_read_are_told() -> None:
    with pytest.raises(SettingsError, match="certificate for the schema registry cannot be read"):
        HttpRegistry(RegistrySettings(["https://host"], ca="/there/is/none.pem"))


def test_certificates_are_named_by_the_projects_settings() -> None:
    given = {"registry": "https://host", "registry_ca": "env:CA"}
    settings = read_stream_settings(
        {"streams": given}, {}, "tidemill.toml", lambda text: text.replace("env:CA", "/there/is/none.pem")
    )
    with pytest.raises(SettingsError, match="certificate for the schema registry cannot be read"):
        registry_of(settings)
