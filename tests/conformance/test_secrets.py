"""Conformance of the port `secrets`: one test a promise, over every adapter; then what only one of them can show."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import sqlite3
from pathlib import Path

import pytest

from harness.objectstore import ObjectStore
from harness.s3keys import KEY, SECRET
from harness.secretplaces import KINDS, Place, key, store
from tidemill.adapters.aws.secrets import SecretsManager
from tidemill.adapters.crypto.keys import Keys, read_key_file, write_key_file
from tidemill.adapters.crypto.secrets import StoredSecrets
from tidemill.adapters.localfs.secrets import DotEnvSecrets, FolderSecrets, parse_env
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.model.secret import Secret, canonical, name_of, variable_of
from tidemill.testing.clock import ManualClock

ODD = "pä55 wörd'\"\\ $HOME `id` #no=1 {{ x }}"


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return KINDS[request.param](tmp_path, object_store)


def test_what_is_not_there_is_none(place: Place) -> None:
    assert place.secrets.get("pii-key") is None
    assert place.secrets.get("connections/shop_db") is None
    assert place.secrets.names() == []


@pytest.mark.parametrize("value", ["plain", ODD, "two\nlines", "=" * 3000])
def test_a_value_comes_back_as_it_was_kept(place: Place, value: str) -> None:
    place.plant("pii-key", value)
    found = place.secrets.get("pii-key")
    assert found is not None
    assert found.reveal() == value


def test_names_are_listed_without_values(place: Place) -> None:
    place.plant("connections/shop_db", "postgresql://me:hunter2hunter2@host/shop")
    place.plant("pii-key", "hunter2hunter2")
    assert place.secrets.names() == ["connections/shop_db", "pii-key"]


def test_a_secret_shows_neither_itself_nor_in_what_holds_it(place: Place) -> None:
    place.plant("pii-key", "hunter2hunter2")
    found = place.secrets.get("pii-key")
    shown = f"{found} {found!r} {[found]} {place.secrets!r} {getattr(found, '__dict__', '')}"
    assert "hunter2" not in shown
    assert found is not None
    assert "***" in shown
    with pytest.raises(TypeError):
        pickle.dumps(found)


def test_a_name_that_leads_elsewhere_is_refused(place: Place) -> None:
    for name in ("../passwd", "connections/../../x", "a/b", "", "key"):
        with pytest.raises(SettingsError):
            canonical(name)


# Names


def test_names_and_variables_belong_together() -> None:
    assert variable_of("pii-key") == "TIDEMILL_SECRET_PII_KEY"
    assert variable_of("connections/shop_db") == "TIDEMILL_CONN_SHOP_DB"
    assert name_of("TIDEMILL_SECRET_PII_KEY") == "pii-key"
    assert name_of("TIDEMILL_CONN_SHOP_DB") == "connections/shop_db"
    assert [name_of(v) for v in ("TIDEMILL_SECRET_KEY", "HOME", "TIDEMILL_CONN_")] == [None, None, None]


# .env


def test_an_env_file_is_read_and_nothing_in_it_is_run() -> None:
    text = "\ufeff# c\nA=1\n  export B = 'x $A `id` # y' # c\nC=\"l1\\nl2\nl3\"\nD=a#b # c\nE=\n\r\nF=$A\r\n".lstrip(
        "\ufeff"
    )
    assert parse_env(text, ".env") == {
        "A": "1", "B": "x $A `id` # y", "C": "l1\nl2\nl3", "D": "a#b", "E": "", "F": "$A",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["A=1\nhunter2\n", "A=1\nB='hunter2\n", "A=1\nB='x' hunter2", "A=1\n1B=hunter2"])
def test_a_line_that_is_none_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_env(text, ".env")
    assert caught.value.where == ".env:2"
    assert "hunter2" not in str(caught.value)


def test_an_env_file_that_others_can_read_is_warned_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".env"
    path.write_text("TIDEMILL_SECRET_A=hunter2hunter2\n")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING, "tidemill.secrets"):
        assert DotEnvSecrets(path).get("a") == Secret("hunter2hunter2", ".env")
        DotEnvSecrets(path).get("a")
    assert [record.getMessage() for record in caplog.records] == [f"{path} can be read by others: chmod 600 {path}"]


def test_an_env_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    places = DotEnvSecrets(path)
    assert places.get("a") is None
    path.write_text("TIDEMILL_SECRET_A=1\n")
    assert places.get("a") == Secret("1", ".env")
    path.write_text("TIDEMILL_SECRET_A=22\n")
    assert places.get("a") == Secret("22", ".env")


# Files


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "other").write_text("hunter2")
    (tmp_path / "mounted" / "pii-key").symlink_to(tmp_path / "other")
    with pytest.raises(SettingsError, match="link out"):
        FolderSecrets(tmp_path / "mounted").get("pii-key")


def test_files_may_be_called_as_variables_are(tmp_path: Path) -> None:
    (tmp_path / "TIDEMILL_CONN_SHOP_DB").write_text("sqlite:///x.db\n")
    places = FolderSecrets(tmp_path)
    assert places.names() == ["connections/shop_db"]
    assert places.get("connections/shop_db") == Secret("sqlite:///x.db", "")


# AWS


def test_a_value_of_aws_is_asked_for_again_after_a_minute(
    tmp_path: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    clock = ManualClock()
    asked = SecretsManager(f"{tmp_path.name}/", clock, region="us-east-1", endpoint=object_store.endpoint)
    assert asked.get("late") is None
    KINDS["aws-secrets-manager"](tmp_path, object_store).plant("late", "x")
    assert asked.get("late") is None
    clock.advance(61)
    assert asked.get("late") == Secret("x", "")


def test_an_aws_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    asked = SecretsManager("p/", ManualClock(), region="us-east-1", endpoint="http://127.0.0.1:9")
    with pytest.raises(Unreachable) as caught:
        asked.get("pii-key")
    assert SECRET not in str(caught.value)


# The store


def stored(tmp_path: Path, keys: str) -> StoredSecrets:
    made = store(tmp_path, None, keys).secrets  # type: ignore[arg-type]
    assert isinstance(made, StoredSecrets)
    return made


def test_the_store_holds_no_value_in_the_clear(tmp_path: Path) -> None:
    stored(tmp_path, key(1)).put("pii-key", "hunter2hunter2")
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for form in ("hunter2hunter2", base64.b64encode(b"hunter2hunter2").decode().rstrip("=")):
        assert form.encode() not in content


def test_keys_rotate_and_old_ones_can_go_once_all_is_renewed(tmp_path: Path) -> None:
    stored(tmp_path, key(1)).put("a", "one")
    both = stored(tmp_path, f"{key(2)} {key(1)}")
    both.put("b", "two")
    assert both.get("a") == Secret("one", "store")
    assert both.renew() == 1
    assert both.renew() == 0
    alone = stored(tmp_path, key(2))
    assert [alone.get(name) for name in alone.names()] == [Secret("one", ""), Secret("two", "")]


def test_a_wrong_key_is_one_clear_error(tmp_path: Path) -> None:
    stored(tmp_path, key(1)).put("a", "one")
    with pytest.raises(SettingsError, match=r"was encrypted by key [0-9a-f]{16}, which") as caught:
        stored(tmp_path, key(2)).get("a")
    assert key(2) not in str(caught.value)


def test_no_key_is_one_clear_error(tmp_path: Path) -> None:
    stored(tmp_path, key(1)).put("a", "one")
    without = stored(tmp_path, key(1))
    without._keys = lambda: None
    with pytest.raises(SettingsError, match="There is no key"):
        without.get("a")
    assert without.names() == ["a"]
    assert without.remove("a")
    assert not without.remove("a")


@pytest.mark.parametrize("change", ["flip", "cut", "swap", "project"])
def test_what_was_changed_in_the_database_is_not_believed(tmp_path: Path, change: str) -> None:
    places = stored(tmp_path, key(1))
    places.put("a", "one")
    places.put("b", "two")
    with sqlite3.connect(tmp_path / "metadata.db") as database:
        rows = dict(database.execute("select name, sealed from secrets").fetchall())
        sealed = base64.b64decode(rows["a"])
        made = {
            "flip": sealed[:-1] + bytes([sealed[-1] ^ 1]),
            "cut": sealed[:25],
            "swap": base64.b64decode(rows["b"]),
            "project": sealed,
        }[change]
        database.execute("update secrets set sealed = ? where name = 'a'", [base64.b64encode(made).decode()])
    if change == "project":
        places._project = "other"
    with pytest.raises(SettingsError, match="damaged, or was changed"):
        places.get("a")


@pytest.mark.parametrize("text", ["", "hunter2", "A" * 43 + "!", base64.b64encode(b"x" * 16).decode(), json.dumps({})])
def test_what_is_no_key_is_not_shown(text: str) -> None:
    with pytest.raises(SettingsError, match="This is no key") as caught:
        Keys(text, "TIDEMILL_SECRET_KEY")
    assert not text or text not in str(caught.value)


def test_a_file_of_keys_is_its_owners_alone_and_lies_outside_of_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    path = tmp_path / "keys" / "one.key"
    assert read_key_file(path, project) is None
    write_key_file(path, key(3))
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keys(read_key_file(path, project) or "", "").newest == Keys(key(3), "").newest
    with pytest.raises(SettingsError, match="in the project"):
        read_key_file(path, tmp_path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="Others can read"):
        read_key_file(path, project)
