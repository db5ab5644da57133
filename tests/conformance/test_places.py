"""Conformance of the port `places`: a folder, an object store, a web server, SFTP, FTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness import fileservers
from harness.fileservers import LOGIN, PASSWORD
from harness.objectstore import ObjectStore
from harness.places import BIG, FAR, KINDS, LISTING, There
from tidemill.adapters.fileservers.ftp import FtpPlace, FtpServer
from tidemill.adapters.fileservers.sftp import SftpPlace, SftpServer
from tidemill.adapters.http.place import HttpPlace
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.plan.globs import Glob
from tidemill.ports.places import Place


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path, object_store: ObjectStore) -> Iterator[There]:
    folder = tmp_path / "there"
    folder.mkdir()
    with KINDS[request.param](folder, object_store) as made:
        yield made


every = pytest.mark.parametrize("there", KINDS, indirect=True)
listing = pytest.mark.parametrize("there", LISTING, indirect=True)
far = pytest.mark.parametrize("there", FAR, indirect=True)


@listing
def test_what_matches_is_found_with_its_size_and_time(there: There) -> None:
    for path in ("in/a.csv", "in/b.csv", "in/c.txt", "in/deep/d.csv", "other/e.csv", "in/x y é.csv"):
        there.put(path, path.encode())
    place = there.open()

    def found(pattern: str) -> list[str]:
        return sorted(one.path for one in place.list(Glob(pattern)))

    assert found("in/*.csv") == ["in/a.csv", "in/b.csv", "in/x y é.csv"]
    assert found("in/**/*.csv") == ["in/a.csv", "in/b.csv", "in/deep/d.csv", "in/x y é.csv"]
    assert found("in/[ab].csv") == ["in/a.csv", "in/b.csv"]
    assert found("in/?.*") == ["in/a.csv", "in/b.csv", "in/c.txt"]
    assert found("nowhere/*.csv") == []
    assert found("in/a.csv") == ["in/a.csv"]
    assert found("in/nothing.csv") == []
    one = next(iter(place.list(Glob("in/a.csv"))))
    assert one.bytes == 8
    assert one.modified_at is not None
    assert abs(datetime.now(UTC) - one.modified_at) < timedelta(minutes=2)
    assert place.look("in/a.csv") == one
    assert place.look("in/nothing.csv") is None
    place.close()


@every
def test_bytes_come_from_any_one_on(there: There) -> None:
    there.put("in/a.bin", BIG)
    place = there.open()
    found = place.look("in/a.bin")
    assert found is not None
    assert found.bytes == len(BIG)
    for at in (0, 1, 100_000, len(BIG) - 1):
        stream = place.open(found, at)
        read = b"".join(iter(lambda s=stream: s.read(70_000), b""))  # type: ignore[misc]
        stream.close()
        assert read == BIG[at:]
    place.close()


@every
def test_a_changed_file_is_of_another_version(there: There) -> None:
    there.put("a", b"one")
    before = there.open().look("a")
    there.put("a", b"other")
    after = there.open().look("a")
    assert before is not None
    assert after is not None
    assert before.version != after.version


@every
def test_what_is_not_there_is_told_when_it_is_opened(there: There) -> None:
    there.put("a", b"one")
    place = there.open()
    found = place.look("a")
    assert found is not None
    there.remove("a")
    with pytest.raises(FileNotFoundError):
        place.open(found).read(1)
    place.close()


def test_a_server_that_is_not_there_is_unreachable() -> None:
    places: list[Place] = [
        HttpPlace("http://127.0.0.1:9"),
        SftpPlace(SftpServer("127.0.0.1", 9, LOGIN, PASSWORD)),
        FtpPlace(FtpServer("127.0.0.1", 9, LOGIN, PASSWORD)),
    ]
    for place in places:
        with pytest.raises(Unreachable) as caught:
            list(place.list(Glob("a")))
        assert PASSWORD not in str(caught.value)


def test_a_wrong_password_is_a_setting_and_told_to_nobody(tmp_path: Path) -> None:
    wrong = "wrong-and-secret"
    with fileservers.sftp(tmp_path) as one, fileservers.ftp(tmp_path) as two, fileservers.web(tmp_path) as three:
        places: list[Place] = [
            SftpPlace(SftpServer("127.0.0.1", one.port, LOGIN, wrong, host_key=one.key)),
            FtpPlace(FtpServer("127.0.0.1", two.port, LOGIN, wrong)),
            HttpPlace(f"http://127.0.0.1:{three.port}/private", LOGIN, wrong),
        ]
        for place in places:
            with pytest.raises(SettingsError) as caught:
                list(place.list(Glob("a.csv")))
            assert wrong not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=f'certificates in "{file}" cannot be read'):
        FtpPlace(FtpServer("127.0.0.1", 9, tls=True, ca_file=str(file))).look("a.csv")


def test_a_server_whose_key_is_not_known_is_not_talked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with fileservers.sftp(tmp_path) as server:
        with pytest.raises(SettingsError, match="key is not known") as caught:
            list(SftpPlace(SftpServer("127.0.0.1", server.port, LOGIN, PASSWORD)).list(Glob("*")))
        assert server.key in str(caught.value)
        other = SftpServer("127.0.0.1", server.port, LOGIN, PASSWORD, host_key="SHA256:of-another")
        with pytest.raises(SettingsError, match="another one"):
            list(SftpPlace(other).list(Glob("*")))


def test_a_login_goes_to_its_own_host_only(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.csv").write_bytes(b"a")
    with fileservers.web(tmp_path) as server:
        place = HttpPlace(f"http://127.0.0.1:{server.port}/private", LOGIN, PASSWORD)
        assert [one.path for one in place.list(Glob("a.csv"))] == ["a.csv"]
