"""Promises of port `codesource`, for a folder and for a Git repository."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tidemill.adapters.git.codesource import GitSource
from tidemill.adapters.localfs.code import CodeFolder, FolderSource
from tidemill.adapters.s3.codesource import S3Source
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.ports.codesource import CodeSource
from tidemill.wiring.parsing import code_source, parse_once
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings


class Origin(Protocol):
    """Where a test puts the code that a source then gives."""

    source: CodeSource

    def put(self, files: dict[str, str | None]) -> None:
        """Write files, or delete those that are None."""
        ...


def write(root: Path, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (root / name).unlink()
        else:
            (root / name).write_text(text)


class InFolder:
    def __init__(self, path: Path) -> None:
        self.root = path / "there"
        self.root.mkdir()
        self.source: CodeSource = FolderSource(self.root)

    def put(self, files: dict[str, str | None]) -> None:
        write(self.root, files)


class InGit:
    def __init__(self, path: Path) -> None:
        self.root = path / "there"
        self.root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.folder = path / "here"
        self.source: CodeSource = self.at("main")

    def at(self, ref: str, path: str = ".") -> GitSource:
        return GitSource(str(self.root), ref, path, self.folder)

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def put(self, files: dict[str, str | None]) -> None:
        write(self.root, files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "more")


class InStore:
    """A prefix of a bucket of its own, on the server that moto simulates S3 by."""

    def __init__(self, path: Path, endpoint: str) -> None:
        self.root = path / "there"
        self.root.mkdir()
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.bucket = f"b-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=self.bucket)
        self.folder = path / "here"
        self.source: CodeSource = S3Source(f"s3://{self.bucket}/etl", ".", self.folder, endpoint=endpoint)

    def put(self, files: dict[str, str | None]) -> None:
        for name, text in files.items():
            if text is None:
                self.client.delete_object(Bucket=self.bucket, Key=f"etl/{name}")
            else:
                self.client.put_object(Bucket=self.bucket, Key=f"etl/{name}", Body=text.encode())


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def in_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InStore:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    return InStore(tmp_path, store)


@pytest.fixture(params=["folder", "git", "s3"])
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    if request.param == "s3":
        made: Origin = request.getfixturevalue("in_store")
        return made
    return InFolder(tmp_path) if request.param == "folder" else InGit(tmp_path)


def test_only_what_changed_is_fetched_and_names_that_lead_out_are_left(in_store: InStore) -> None:
    in_store.put({"a.py": "one", "deep/b.sql": "two", "../outside.py": "no", "deep/../../c.py": "no"})
    before = in_store.source.sync()
    assert content(before) == {"a.py": "one", "deep/b.sql": "two"}
    objects = in_store.folder / "objects"
    assert len(list(objects.iterdir())) == 2
    in_store.put({"a.py": "three"})
    after = in_store.source.sync()
    assert len(list(objects.iterdir())) == 3
    assert (content(before)["a.py"], content(after)["a.py"]) == ("one", "three")


def test_a_bucket_that_is_not_there_and_a_store_that_does_not_answer_are_told_apart(
    in_store: InStore, store: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="no bucket"):
        S3Source("s3://nobody-has-this/etl", ".", tmp_path / "x", endpoint=store).sync()
    with pytest.raises(Unreachable):
        S3Source("s3://b/etl", ".", tmp_path / "y", endpoint="http://127.0.0.1:9").sync()


@pytest.fixture
def repository(tmp_path: Path) -> InGit:
    made = InGit(tmp_path)
    made.put({"etl/a.py": "one"})
    return made


def content(root: Path) -> dict[str, str]:
    return {path: (root / path).read_text() for path in CodeFolder(root).scan()}


def test_what_is_there_is_given_and_what_changes_too(origin: Origin) -> None:
    origin.put({"a.py": "one", "deep/b.sql": "two"})
    assert content(origin.source.sync()) == {"a.py": "one", "deep/b.sql": "two"}
    origin.put({"a.py": "three", "deep/b.sql": None, "c.py": "four"})
    assert content(origin.source.sync()) == {"a.py": "three", "c.py": "four"}
    assert content(origin.source.sync()) == {"a.py": "three", "c.py": "four"}


def test_no_path_leads_out(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("secret")
    (tmp_path / "there" / "a.py").symlink_to(tmp_path / "secret.py")
    (tmp_path / "there" / "deep").symlink_to(tmp_path)
    origin.put({"b.py": "one"})
    root = origin.source.sync()
    assert "secret" not in content(root).values()
    assert not any("deep/" in path for path in content(root))


def test_a_commit_that_is_being_read_stays_when_the_next_one_comes(repository: InGit) -> None:
    before = repository.source.sync()
    repository.put({"etl/a.py": "two"})
    after = repository.source.sync()
    assert (content(before), content(after)) == ({"etl/a.py": "one"}, {"etl/a.py": "two"})
    for n in range(4):
        repository.put({"etl/a.py": f"{n}"})
        repository.source.sync()
    assert len(list((repository.folder / "commits").iterdir())) == 2


def test_a_branch_a_tag_and_a_commit_can_be_named(repository: InGit) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "v1")
    repository.git("branch", "old")
    repository.put({"etl/a.py": "two"})
    for ref in ("v1", "old", first, first[:10]):
        assert content(repository.at(ref).sync()) == {"etl/a.py": "one"}
    for ref in ("main", "HEAD"):
        assert content(repository.at(ref).sync()) == {"etl/a.py": "two"}


def test_a_folder_in_the_repository_can_be_named(repository: InGit) -> None:
    assert content(repository.at("main", "etl").sync()) == {"a.py": "one"}
    with pytest.raises(SettingsError, match='no folder "nowhere"'):
        repository.at("main", "nowhere").sync()


def test_history_that_was_written_anew_is_followed(repository: InGit) -> None:
    repository.source.sync()
    write(repository.root, {"etl/a.py": "anew"})
    repository.git("commit", "--all", "--amend", "--quiet", "--message", "anew")
    assert content(repository.source.sync()) == {"etl/a.py": "anew"}


@pytest.mark.parametrize("ref", ["nosuch", "-x", "main~1", "$(id)", "--upload-pack=id"])
def test_a_ref_that_is_not_there_is_told(repository: InGit, ref: str) -> None:
    with pytest.raises(SettingsError) as caught:
        repository.at(ref).sync()
    assert caught.value.hint


def test_a_repository_that_does_not_answer_leaves_what_was_there(repository: InGit, tmp_path: Path) -> None:
    root = repository.source.sync()
    repository.root.rename(tmp_path / "away")
    with pytest.raises(Unreachable, match="cannot be fetched"):
        repository.source.sync()
    assert content(root) == {"etl/a.py": "one"}


def test_a_password_in_an_address_is_not_told(tmp_path: Path) -> None:
    source = GitSource("http://me:secret@127.0.0.1:9/x.git", "main", ".", tmp_path)
    with pytest.raises(Unreachable) as caught:
        source.sync()
    assert "secret" not in str(caught.value)


def test_a_repositorys_hooks_and_a_callers_git_folder_do_nothing(
    repository: InGit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert content(repository.source.sync()) == {"etl/a.py": "one"}
    assert not (tmp_path / "elsewhere").exists()


def test_pipelines_of_a_repository_are_read_and_only_changed_files_again(repository: InGit, tmp_path: Path) -> None:
    text = "import tidemill as tm\np = tm.Pipeline('{0}', doc='{1}')\n"
    repository.put({"etl/pipelines/a.py": text.format("a", 1), "etl/pipelines/b.py": text.format("b", 1)})
    root = tmp_path / "project"
    section = f'[pipelines]\nsource = "git"\nurl = "{repository.root}"\nref = "main"\npath = "etl"\nevery = "5s"\n'
    write(root, {"tidemill.toml": section})
    settings = load_settings(root)
    assert code_source(settings).every == settings.code.every
    assert parse_once(settings).changed == ("a", "b")
    repository.put({"etl/pipelines/a.py": text.format("a", 2)})
    assert parse_once(settings).changed == ("a",)
    store = open_metadata(settings, system_clock())
    with store.read() as tx:
        assert [record.file for record in tx.definitions.pipelines()] == ["pipelines/a.py", "pipelines/b.py"]
    store.close()
