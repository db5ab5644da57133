"""The parser when what it needs is away for a while: its folder, its disk, its database."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from harness.parsing import Folder, following, wait_for
from tidemill.flow import parse
from tidemill.testing.clock import ManualClock
from tidemill.wiring.parsing import code_versions, parser_parts
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_both_databases_are_kept_up_to_date(tmp_path: Path, database: str) -> None:
    folder = Folder(tmp_path / "project", f'[metadata]\nurl = "{database}"\n')
    folder.write("pipelines/bad.py", "x x\n")
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        folder.pipeline("pipelines/b.py", "b")
        assert parser.bell() == ["b"]
        assert [error.file for error in folder.errors()] == ["pipelines/bad.py"]
        folder.pipeline("pipelines/bad.py", "mended")
        assert parser.bell() == ["mended"]
    assert folder.errors() == []
    assert folder.pipelines().keys() == {"good", "b", "mended"}


def test_a_folder_that_is_away_is_no_folder_without_pipelines(folder: Folder) -> None:
    (folder.root / "code").mkdir()
    folder.write("tidemill.toml", '[project]\nname = "test"\n[pipelines]\npath = "code"\n')
    folder.pipeline("code/pipelines/a.py", "a")
    with following(folder) as parser:
        assert parser.bell() == ["a"]
        (folder.root / "code").rename(folder.root / "away")
        wait_for(lambda: [error.file for error in folder.errors()] == ["tidemill.toml"])
        assert folder.pipelines().keys() == {"a"}
        (folder.root / "away").rename(folder.root / "code")
        folder.pipeline("code/pipelines/b.py", "b")
        assert parser.bell() == ["b"]
        wait_for(lambda: folder.errors() == [])


def test_code_that_cannot_be_kept_is_told_and_kept_when_it_can(folder: Folder) -> None:
    kept, away = folder.root / ".tidemill/code/versions", folder.root / ".tidemill/away"
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        before = folder.pipelines()["good"].code
        kept.rename(away)
        kept.write_text("in the way")
        folder.pipeline("pipelines/b.py", "b")
        wait_for(lambda: [error.file for error in folder.errors()] == ["tidemill.toml"])
        assert "cannot be kept" in folder.errors()[0].what
        assert folder.pipelines()["good"].code == before, "no version is told that no run could have"
        kept.unlink()
        away.rename(kept)
        assert parser.bell() == ["b"]
        wait_for(lambda: folder.errors() == [])


def test_a_database_that_is_busy_is_written_to_later(folder: Folder) -> None:
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        other = sqlite3.connect(folder.root / ".tidemill/tidemill.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        folder.pipeline("pipelines/b.py", "b")
        wait_for(lambda: len(list((folder.root / ".tidemill/code/versions").iterdir())) == 2)
        other.execute("ROLLBACK")
        other.close()
        assert parser.bell() == ["b"]


def test_a_file_that_was_late_is_read_again_ever_more_rarely(tmp_path: Path) -> None:
    folder, slow, reads = Folder(tmp_path / "project"), tmp_path / "slow", tmp_path / "reads"
    slow.touch()
    reads.touch()
    file = folder.pipeline("pipelines/b.py", "b")
    begin = f"import os, signal\nos.truncate({str(reads)!r}, os.stat({str(reads)!r}).st_size + 1)\n"
    # The alarm that ends a file after its time, without the time.
    ended = f"if os.path.exists({str(slow)!r}): signal.raise_signal(signal.SIGALRM)\n"
    file.write_text(begin + ended + file.read_text())
    settings, clock = load_settings(folder.root), ManualClock()
    store = open_metadata(settings, clock)
    parser = parse.Parser(replace(parser_parts(settings, store, lambda _: None, None), clock=clock))

    def read_after(minutes: int) -> int:
        clock.advance(timedelta(minutes=minutes))
        parser.settle()
        return reads.stat().st_size

    # After one minute, then two, then four.
    assert [read_after(minutes) for minutes in (0, 0, 1, 1, 1, 3)] == [1, 1, 2, 2, 3, 3]
    assert [error.file for error in folder.errors()] == ["pipelines/b.py"]
    slow.unlink()
    assert [read_after(minutes) for minutes in (0, 1, 60, 60)] == [3, 4, 4, 4]
    assert folder.errors() == []
    assert folder.pipelines().keys() == {"good", "b"}
    store.close()


def test_versions_that_nothing_needs_are_deleted_by_the_parser(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.pipeline("pipelines/broken.py", "broken")
    first = folder.parse().version
    folder.write("pipelines/broken.py", "x x\n")
    second = folder.parse().version
    folder.pipeline("pipelines/b.py", "b")
    settings = load_settings(folder.root)
    monkeypatch.setattr(parse, "YOUNG", timedelta(seconds=-1))
    store = open_metadata(settings, system_clock())
    parser = parse.Parser(parser_parts(settings, store, lambda _: None, None))
    third = parser.settle().version
    parser._clean()
    store.close()
    assert {path.name[:12] for path in (folder.root / ".tidemill/code/versions").iterdir()} == {first, third}
    assert second not in {first, third}
    assert code_versions(settings).materialize(first).is_dir()
