"""Destinations by their connections: a folder, a bucket, a package's own; and what is wrong is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness.landing import listed, rows
from harness.objectstore import ObjectStore
from harness.s3keys import KEY, SECRET
from tidemill.adapters.system.secrets import EnvironmentSecrets
from tidemill.model.errors import SettingsError, UnknownName
from tidemill.ports.destination import Destination, Load
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import ProjectConnections, ProjectSecrets

Opened = Callable[[str], Destination]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the destination of an address."""

    def one(address: str) -> Destination:
        monkeypatch.setenv("TIDEMILL_CONN_THERE", address)
        return OutsideSystems(ProjectConnections(ProjectSecrets([EnvironmentSecrets()])), tmp_path).destination("there")

    return one


def load(destination: Destination, before: str | None, after: str, value: int) -> None:
    destination.load(Load("test/shop", before, after, (rows({"a": "long"}, [(value,)], table="shop.t"),)))


def test_a_folder_of_the_project(opened: Opened, tmp_path: Path) -> None:
    load(opened("file:///exports/all"), None, "1", 7)
    assert opened("file:///exports/all").position("test/shop") == "1"
    (one,) = listed(tmp_path / "exports" / "all")["shop.t"]["files"]
    assert (tmp_path / "exports" / "all" / one["path"]).is_file()


def test_a_bucket_with_keys_of_its_own(opened: Opened, object_store: ObjectStore) -> None:
    bucket = object_store.bucket()
    keys = f"{quote(KEY, safe='')}:{quote(SECRET, safe='')}"
    address = f"s3://{keys}@{bucket}/some/where?endpoint_url={quote(object_store.endpoint)}&region=us-east-1"
    load(opened(address), None, "1", 7)
    host = object_store.endpoint.removeprefix("http://")
    address = f"s3://{keys}@{host}/{bucket}/some/where?http=true&region=us-east-1"  # as sources write it
    load(opened(address), "1", "2", 8)
    assert opened(address).position("test/shop") == "2"
    content = object_store.content(bucket)
    newest = max(name for name in content if "manifest-" in name)
    manifest = json.loads(content[newest])
    assert newest == "some/where/_tidemill/test/shop/manifest-000000000002.json"
    assert all(f"some/where/{one['path']}" in content for one in manifest["tables"]["shop.t"]["files"])
    assert len(manifest["tables"]["shop.t"]["files"]) == 2


def test_a_package_registers_its_own(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "carrier-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[tidemill.destinations]\ncarrier = carrier_of:pigeon\nlame = carrier_of:no\n"
    )
    (tmp_path / "carrier_of.py").write_text("def pigeon(connection, root):\n    return (connection['host'], root)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found: Any = opened("carrier://roof")
    assert found == ("roof", tmp_path)
    with pytest.raises(SettingsError, match=r'"lame" does not load: AttributeError'):
        opened("lame://x")
    with pytest.raises(SettingsError, match="no destination is") as told:
        opened("owl://x")
    assert "carrier, lame" in str(told.value)
    sys.modules.pop("carrier_of", None)


def test_a_connection_that_is_not_there_or_says_too_little(opened: Opened) -> None:
    for address in ("duckdb://", "file://"):
        with pytest.raises(SettingsError, match="names no file"):
            opened(address)
    with pytest.raises(SettingsError):
        opened("s3:///prefix")
    with pytest.raises(UnknownName, match="elsewhere"):
        OutsideSystems(ProjectConnections(ProjectSecrets([EnvironmentSecrets()])), Path()).destination("elsewhere")
