"""Brokers that ask who one is, and show a certificate: by the settings of a project, and without showing a secret."""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import tidemill as tm
from harness import kafka, services
from harness.poison import Driven, pipeline, topic_name
from harness.programs import CannotStart, free_port
from harness.topics import Place
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.errors import SettingsError, TidemillError
from tidemill.ports.topic import Topics
from tidemill.wiring.settings import load_settings
from tidemill.wiring.streaming import open_topics

USER, PASSWORD, WRONG = "alice", "open-sesame-4711", "abracadabra-0815"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True)
class Doors:
    """A broker's listeners, and the certificate of who signed its own."""

    plain: str
    safe: str
    ca: Path


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A broker with a login (PLAIN and SCRAM), in the clear and through TLS."""
    folder = tmp_path_factory.mktemp("certificates")
    certificates(folder)
    ports = {"SASL_PLAINTEXT": free_port(), "SASL_SSL": free_port()}
    jaas = f'{PLAIN} user_{USER}="{PASSWORD}";'
    settings = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": jaas,
        "listener.name.sasl_ssl.plain.sasl.jaas.config": jaas,
        **{
            f"listener.name.{door}.scram-sha-512.sasl.jaas.config":
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            for door in ("sasl_plaintext", "sasl_ssl")
        },
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
    }  # fmt: skip
    try:
        with kafka.running(settings=settings, doors=ports) as cluster:
            admin = AdminClient({"bootstrap.servers": cluster.servers})
            known = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
            asked = UserScramCredentialUpsertion(USER, known, PASSWORD.encode())
            for future in admin.alter_user_scram_credentials([asked]).values():
                future.result(20)
            yield Doors(f"127.0.0.1:{ports['SASL_PLAINTEXT']}", f"127.0.0.1:{ports['SASL_SSL']}", folder / "ca.pem")
    except CannotStart as error:
        services.missing("Kafka", str(error))


def certificates(folder: Path) -> None:
    """An authority of the test's own, and the broker's certificate, signed by it."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests")
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker"
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signed)
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())


def project(folder: Path, address: str, **options: str) -> Topics:
    """The topics of a project with these settings."""
    lines = "\n".join(f'"{name.replace("_", ".")}" = "{value}"' for name, value in options.items())
    (folder / "tidemill.toml").write_text(
        f'[project]\nname = "logins"\n[streams]\nbroker = "kafka://{address}"\n[kafka]\n{lines}\n'
    )
    return open_topics(load_settings(folder), None, SystemClock())  # type: ignore[arg-type]  # Kafka needs no database


LOGIN = {"sasl_username": USER, "sasl_password": "env:KAFKA_PASSWORD"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_stream_works_behind_a_login_and_through_tls(
    doors: Doors, tmp_path: Path, mechanism: str, protocol: str, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    services.note_used(request, "Kafka", kafka.VERSION)
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    tls = {"ssl_ca_location": str(doors.ca)} if protocol == "SASL_SSL" else {}
    address = doors.safe if tls else doors.plain
    topics = project(tmp_path, address, security_protocol=protocol, sasl_mechanism=mechanism, **LOGIN, **tls)
    place = Place(topics, SystemClock(), lambda _partition, _before: None)
    with pipeline() as p:
        source = tm.topic(topic_name(), {"v": "long"})

        @p.stream(source, to=tm.topic(topic_name()), every="200ms")
        def doubled(t: tm.Frame) -> tm.Frame:
            return t.with_columns(v=t["v"] * 2)

        with Driven(place, doubled) as driven:
            driven.begin()
            driven.feed(source.name, [{"v": 1}, {"v": 2}])
            place.until(lambda: driven.work(lambda: True) or len(driven.rows(driven.written())) == 2)
            assert [row["v"] for row in driven.rows(driven.written())] == [2, 4]
            driven.stop()
    place.close()


STEPS = {
    "describe": lambda topics: topics.describe("t"),
    "begin": lambda topics: topics.writer("w", "exactly-once"),
    "member": lambda topics: topics.member("g", 1),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_soon_and_never_shown(
    doors: Doors, tmp_path: Path, mechanism: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", WRONG)
    topics = project(tmp_path, doors.plain, security_protocol="SASL_PLAINTEXT", sasl_mechanism=mechanism, **LOGIN)
    see_told(topics, step, "uthentication")


@pytest.mark.parametrize("step", STEPS)
def test_a_certificate_that_nobody_known_has_signed_is_told_soon(
    doors: Doors, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", WRONG)
    topics = project(tmp_path, doors.safe, security_protocol="SASL_SSL", sasl_mechanism="PLAIN", **LOGIN)
    see_told(topics, step, "certificate")


def see_told(topics: Topics, step: str, told: str) -> None:
    began = time.monotonic()
    with pytest.raises(TidemillError) as raised:
        STEPS[step](topics)  # type: ignore[no-untyped-call]
    took = time.monotonic() - began
    shown = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + repr(topics)
    assert WRONG not in shown
    assert isinstance(raised.value, SettingsError), raised.value
    assert told in str(raised.value)
    assert took < 60, took
