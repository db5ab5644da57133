"""A project's code: which files belong to it, and the version that they have together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.adapters.localfs.code import CodeFolder
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.localfs.versions import CodeVersions
from tidemill.model.errors import DataError, UnknownName
from tidemill.plan.code import Patterns, folders_of, version_of
from tidemill.wiring.project import code_version
from tidemill.wiring.settings import Settings

LATER = datetime.now(UTC) + timedelta(days=2)

_NAMES = st.sampled_from(["a", "b.py", "c.sql", "d.txt", "tests", "__pycache__"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(st.sampled_from(["write", "remove", "move"]), _PATHS, _PATHS, st.binary(max_size=3))))
def test_what_was_listed_before_is_never_wrong_later(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("code")
    folder = CodeFolder(root)
    for what, one, other, content in steps:
        path = root / one
        try:
            if what == "write":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            elif what == "move":
                path.rename(root / other)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            continue
        assert folder.scan() == CodeFolder(root).scan()


def test_a_folder_that_has_not_changed_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.py").write_text("1")
    for changed in (tmp_path / "deep", tmp_path):
        os.utime(changed, (1, 1))
    folder = CodeFolder(tmp_path)
    folder.scan()
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or real(path))
    (tmp_path / "deep/a.py").write_text("22")
    assert folder.scan()["deep/a.py"][0] == 2
    assert listed == []
    (tmp_path / "deep/b.py").write_text("")
    assert sorted(folder.scan()) == ["deep/a.py", "deep/b.py"]
    assert [Path(path).name for path in listed] == ["deep"]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [("pipelines/*.py", "pipelines/a.py", True), ("pipelines/*.py", "pipelines/b/a.py", False),
     ("pipelines/**/*.py", "pipelines/a.py", True), ("pipelines/**/*.py", "pipelines/b/c/a.py", True),
     ("**/*.py", "a.py", True), ("./dags/*", "dags/a.py", True), ("dags/*", "dags/a.sql", False),
     ("dags/**", "dags/x/y.py", True), ("d?gs/[ab].py", "dags/b.py", True), ("d?gs/[!ab].py", "dags/b.py", False),
     ("a.py", "axpy.py", False), ("*.py", "x/a.py", False)],
)  # fmt: skip
def test_patterns_mean_what_they_mean_on_a_command_line(pattern: str, path: str, matches: bool) -> None:
    assert Patterns([pattern])(path) is matches


def test_the_version_is_that_of_the_contents_and_their_names() -> None:
    one = {"a.py": b"1", "b.py": b"2"}
    assert version_of(one) == version_of(dict(reversed(one.items())))
    others = [{"a.py": b"1"}, {"a.py": b"1", "b.py": b"3"}, {"a.py": b"1", "c.py": b"2"}, {}]
    assert len({version_of(digests) for digests in [one, *others]}) == 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / "deep").mkdir(parents=True)
    (made / "a.py").write_text("one")
    (made / "deep/m.sql").write_text("select 1")
    (made / "b.py").write_text("one")
    (made / "data.csv").write_text("no code")
    return made


def versions_in(root: Path) -> CodeVersions:
    return CodeVersions(LocalFiles(root.parent / "code"), root.parent / "checkouts")


def keep(root: Path, versions: CodeVersions) -> str:
    return versions.keep(root, CodeFolder(root).scan()).name


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_each_version_comes_back_as_it_was(root: Path) -> None:
    versions = versions_in(root)
    first = keep(root, versions)
    assert first == code_version(Settings(root, "p"))
    (root / "a.py").write_text("two")
    (root / "b.py").unlink()
    second = keep(root, versions)
    assert content(versions.materialize(first)) == {"a.py": "one", "b.py": "one", "deep/m.sql": "select 1"}
    assert content(versions_in(root).materialize(second)) == {"a.py": "two", "deep/m.sql": "select 1"}
    assert versions.materialize(first) == versions.materialize(first)


def test_only_what_is_new_is_kept_again_also_by_another_process(root: Path) -> None:
    versions = versions_in(root)
    keep(root, versions)
    files = LocalFiles(root.parent / "code")
    (first,) = files.list("packs/")
    (root / "a.py").write_text("two")
    keep(root, versions_in(root))
    second = next(info for info in files.list("packs/") if info.path != first.path)
    assert second.bytes < first.bytes
    assert keep(root, versions) == keep(root, versions_in(root))
    assert len(list(files.list("packs/"))) == 2


def test_a_long_history_does_not_make_a_version_of_many_pieces(root: Path) -> None:
    versions = versions_in(root)
    for n in range(80):
        (root / f"f{n}.py").write_text(f"{n}")
        last = keep(root, versions)
    packs = {place[1] for place in versions._read(last).values()}
    assert len(packs) <= 31
    assert len(content(versions.materialize(last))) == 83


def test_a_file_that_cannot_be_read_is_in_no_version(root: Path) -> None:
    code = {**CodeFolder(root).scan(), "gone.py": (1, 1, 1)}
    kept = versions_in(root).keep(root, code)
    assert "gone.py" not in kept.digests
    assert kept.name == code_version(Settings(root, "p"))


def test_a_version_that_was_never_kept_is_told(root: Path) -> None:
    with pytest.raises(UnknownName, match='no version of the code "0123456789ab"'):
        versions_in(root).materialize("0123456789ab")
    with pytest.raises(UnknownName, match="is no version of code"):
        versions_in(root).materialize("../../etc")


def test_damage_is_told_and_nothing_is_laid_out(root: Path) -> None:
    versions = versions_in(root)
    name = keep(root, versions)
    (pack,) = (root.parent / "code/packs").iterdir()
    intact = pack.read_bytes()
    pack.unlink()
    pack.write_bytes(intact[:-4])
    with pytest.raises(DataError, match=f"version {name} is damaged"):
        versions.materialize(name)
    assert list((root.parent / "checkouts").iterdir()) == []


def test_many_processes_may_lay_out_one_version_at_once(root: Path) -> None:
    for n in range(300):
        (root / f"f{n}.py").write_text(f"{n}")
    name = keep(root, versions_in(root))
    code = f"""
from pathlib import Path
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.localfs.versions import CodeVersions
root = Path({str(root.parent)!r})
folder = CodeVersions(LocalFiles(root / "code"), root / "checkouts").materialize({name!r})
print(len(list(folder.rglob("*.*"))))
"""
    made = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [one.communicate()[0].strip() for one in made] == ["303"] * 4
    assert [path.name for path in (root.parent / "checkouts").iterdir()] == [name]


def test_cleaning_leaves_what_is_needed_and_what_is_young(root: Path) -> None:
    versions = versions_in(root)
    names = []
    for text in ("one", "two", "three"):
        (root / "a.py").write_text(text)
        names.append(keep(root, versions))
        versions.materialize(names[-1])
    assert versions.clean(frozenset(), datetime.now(UTC) - timedelta(hours=1)) == 0
    assert versions.clean(frozenset({names[0], names[2]}), LATER) == 1
    assert {path.name for path in (root.parent / "checkouts").iterdir()} == {names[0], names[2]}
    shutil.rmtree(root.parent / "checkouts")
    assert content(versions.materialize(names[0]))["a.py"] == "one"
    assert content(versions.materialize(names[2]))["a.py"] == "three"
    with pytest.raises(UnknownName):
        versions.materialize(names[1])
    assert len(list(LocalFiles(root.parent / "code").list("packs/"))) == 2


def test_small_files_of_other_kinds_are_code_below_the_folders_of_pipelines(tmp_path: Path) -> None:
    """A file of Airflow's reads its settings from beside itself; elsewhere, such files are data."""
    (tmp_path / "dags/conf").mkdir(parents=True)
    for path, size in (
        ("dags/conf/a.json", 9),
        ("dags/b.sh", 9),
        ("dags/c.csv", 1_000_001),
        ("d.json", 9),
        ("e.py", 9),
    ):
        (tmp_path / path).write_bytes(b" " * size)
    found = CodeFolder(tmp_path, folders_of(["dags/**/*.py", "*.py"])).scan()
    assert sorted(found) == ["dags/b.sh", "dags/conf/a.json", "e.py"]
