"""An encrypted archive: runs, replays and rotations see what came; nobody without the key does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.project import Project
from harness.secretplaces import key
from tidemill.adapters.crypto.files import SUFFIX
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.errors import DataError, SettingsError

CANARY = "canary-in-the-archive"
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")


def opened(root: Path, archive: str = 'encrypt = "archive-key"') -> Project:
    (root / "tidemill.toml").write_text(f'[project]\nname = "test"\n[archive]\n{archive}\n')
    return Project(root)


def shop_of(project: Project) -> Pipeline:
    shop = project.pipeline()
    shop.files("in/{{ ds }}.csv", name="files")

    @shop.source
    def rows(interval):  # type: ignore[no-untyped-def]
        yield {"day": interval.ds, "note": CANARY}

    (project.root / "in").mkdir(exist_ok=True)
    for day in DAYS:
        (project.root / "in" / f"{day}.csv").write_text(f"day,note\n{day},{CANARY}\n")
    return shop


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_ARCHIVE_KEY", key(1))


def archived(root: Path) -> list[Path]:
    return sorted(path for path in (root / ".tidemill" / "archive").rglob("*") if path.is_file())


def manifest_of(project: Project, source: str):  # type: ignore[no-untyped-def]
    with project.services.metadata.read() as tx:
        return tx.archive.get(1, source)


def test_nothing_of_the_input_lies_in_the_archive_in_the_clear(tmp_path: Path) -> None:
    project = opened(tmp_path)
    assert project.run(shop_of(project), DAYS[0]).ok
    assert project.rows("select note from shop.files union all select note from shop.rows") == [{"note": CANARY}] * 2
    files = archived(tmp_path)
    assert len(files) == 6
    assert {path.name.endswith(SUFFIX) for path in files} == {True}
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    (part,) = manifest_of(project, "files").parts
    assert part.key.startswith("archive-key/")
    content = (tmp_path / "in" / f"{DAYS[0]}.csv").read_bytes()
    import hashlib

    assert (part.bytes, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    project.close()


def test_a_batch_is_replayed_from_before_the_encryption_and_after_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, (archive, keys) in enumerate(
        [("", key(1)), ('encrypt = "archive-key"', key(1)), ('encrypt = "archive-key"', f"{key(2)} {key(1)}")]
    ):
        monkeypatch.setenv("TIDEMILL_SECRET_ARCHIVE_KEY", keys)
        project = opened(tmp_path, archive)
        assert project.run(shop_of(project), DAYS[at]).ok
        project.close()
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    project = opened(tmp_path)
    shop = project.pipeline()
    shop.files("in/{{ ds }}.csv", name="files", columns={"note": "string"})
    for day in DAYS:
        report = project.run(shop, day)
        assert report.ok, report.error
    assert project.rows("select count(*) n, count(distinct day) d from shop.files") == [{"n": 3, "d": 3}]
    project.close()


def test_without_its_key_a_part_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = opened(tmp_path)
    shop = shop_of(project)
    assert project.run(shop, DAYS[0]).ok
    project.close()
    project = opened(tmp_path, "")
    report = project.run(shop, DAYS[0])
    assert isinstance(report.error, SettingsError)
    assert 'is encrypted by "archive-key", which the settings do not name' in report.error.what
    assert report.error.hint == '[archive] keys = ["archive-key"]'
    project.close()
    project = opened(tmp_path, 'keys = "archive-key"')
    assert project.run(shop, DAYS[0]).ok
    monkeypatch.setenv("TIDEMILL_SECRET_ARCHIVE_KEY", key(5))
    other = opened(tmp_path)
    report = other.run(shop, DAYS[0])
    assert "was encrypted by key" in str(report.error)
    monkeypatch.delenv("TIDEMILL_SECRET_ARCHIVE_KEY")
    third = opened(tmp_path)
    report = third.run(shop, DAYS[1])
    assert 'There is no secret "archive-key"' in str(report.error)
    for each in (project, other, third):
        each.close()


def test_a_part_that_was_encrypted_is_not_believed_in_the_clear(tmp_path: Path) -> None:
    project = opened(tmp_path)
    shop = shop_of(project)
    assert project.run(shop, DAYS[0]).ok
    (part,) = manifest_of(project, "files").parts
    path = tmp_path / ".tidemill" / "archive" / part.path
    path.with_name(path.name + SUFFIX).unlink()
    path.write_bytes((tmp_path / "in" / f"{DAYS[0]}.csv").read_bytes())
    report = project.run(shop, DAYS[0])
    assert isinstance(report.error, DataError)
    assert "was encrypted, and what lies there now is not" in str(report.error)
    project.close()


def test_a_part_that_was_changed_fails_the_run(tmp_path: Path) -> None:
    project = opened(tmp_path)
    shop = shop_of(project)
    assert project.run(shop, DAYS[0]).ok
    (part,) = manifest_of(project, "files").parts
    path = tmp_path / ".tidemill" / "archive" / (part.path + SUFFIX)
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    report = project.run(shop, DAYS[0])
    assert "is damaged, cut, or was changed by somebody else" in str(report.error)
    project.close()
