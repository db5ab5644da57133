"""The demo does what it says: its tables are what pandas makes of the same files, run after run, without a network."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tidemill as tm
from demo import expected
from harness.webapi import Api
from tidemill.demo.live import DIFFERENT
from tidemill.ports.topic import Partition
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings
from tidemill.wiring.topics import open_topics

pytestmark = pytest.mark.slow

#: Put into `sitecustomize`: whoever connects or looks up a name is noted, and refused; what a plain installation does
#: not have cannot be found.
GUARD = """
import os, socket, sys
from importlib.machinery import PathFinder

HIDDEN = frozenset(os.environ["HIDDEN_MODULES"].split())

class Plain(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Plain

def refuse(*arguments, **named):
    with open(os.environ["NETWORK_USED"], "a") as file:
        file.write(repr(arguments) + "\\n")
    raise OSError("the network is not there")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
"""


@cache
def has_namespaces() -> bool:
    """Whether a process can be put where there is no network at all: natively written code is then held off, too."""
    return shutil.which("unshare") is not None and not subprocess.run(["unshare", "-n", "true"]).returncode


@cache
def hidden_modules() -> frozenset[str]:
    """Modules that are here, and not where Tidemill is installed with the extra that the demo asks for."""
    wanted, here = {("tidemill", ""), ("tidemill", "web")}, set[tuple[str, str]]()
    while wanted:
        name, extra = one = wanted.pop()
        here.add(one)
        for text in metadata.requires(name) or ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                needed = {(canonicalize_name(required.name), extra) for extra in ("", *required.extras)}
                wanted |= needed - here
    plain = {name for name, _ in here}
    modules = metadata.packages_distributions().items()
    return frozenset(name for name, owners in modules if not {canonicalize_name(owner) for owner in owners} & plain)


@dataclass
class Demo:
    """A demo that has run: what it printed, its folder, and what it tried to reach."""

    folder: Path
    shown: str
    network: str

    def table(self, name: str, *sort: str, branch: str = "main") -> pd.DataFrame:
        """A table's own columns, sorted, as pandas has them."""
        found: pd.DataFrame = tm.read(name, project=self.folder, branch=branch).to_pandas()
        found = found.drop(columns=["_batch_id", "_loaded_at"], errors="ignore")
        return found.sort_values(list(sort)).reset_index(drop=True) if sort else found


def run_demo(folder: Path, home: Path) -> Demo:
    """Run the demo as a program of its own."""
    home.mkdir(exist_ok=True)
    (home / "sitecustomize.py").write_text(GUARD)
    used = home / "network.txt"
    command = [sys.executable, "-m", "tidemill.demo", str(folder)]
    result = subprocess.run(
        ["unshare", "-n", *command] if has_namespaces() else command,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(home),
            "NETWORK_USED": str(used),
            "HIDDEN_MODULES": " ".join(sorted(hidden_modules())),
        },
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return Demo(folder, result.stdout, used.read_text() if used.exists() else "")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    home = tmp_path_factory.mktemp("demo")
    return run_demo(home / "flights", home / "guard")


def equal(found: pd.DataFrame, wanted: pd.DataFrame, *keys: str) -> None:
    """Both have the same rows; null is null, whatever type it is kept in; floats within 1e-9."""
    wanted = wanted.sort_values(list(keys)).reset_index(drop=True)
    assert sorted(found.columns) == sorted(wanted.columns)
    assert len(found) == len(wanted)
    for column in wanted:
        ours, theirs = found[column], wanted[column]
        assert ours.isna().tolist() == theirs.isna().tolist(), column
        ours, theirs = ours.dropna(), theirs.dropna()
        if theirs.dtype.kind == "f":
            assert ours.astype(float).tolist() == pytest.approx(theirs.tolist(), rel=1e-9, abs=1e-9), column
        else:
            assert ours.tolist() == theirs.tolist(), column


# The tables


def test_feeds_are_loaded_as_they_are(demo: Demo) -> None:
    key = ("time_hour", "carrier", "flight")
    equal(demo.table("flights.departures", *key), expected.departures(), *key)
    key = ("origin", "time_hour")
    equal(demo.table("flights.weather", *key), expected.weather(), *key)


def test_counts_and_sums_of_the_facts(demo: Demo) -> None:
    facts = demo.table("flights.fct_departures")
    feeds = expected.departures()
    assert len(facts) == len(feeds) == 6998
    for column in ("distance", "air_time", "dep_delay", "arr_delay"):
        assert int(facts[column].sum()) == int(feeds[column].sum())
    assert facts.groupby("flight_date").size().tolist() == [842, 943, 914, 915, 720, 832, 933, 899]
    assert int(facts.cancelled.sum()) == int(feeds.dep_time.isna().sum())


def test_cleaned_departures(demo: Demo) -> None:
    key = ("time_hour", "carrier", "flight")
    equal(demo.table("flights.clean_departures", *key), expected.clean_departures(), *key)


def test_every_version_of_every_aircraft(demo: Demo) -> None:
    planes = demo.table("flights.dim_plane", "tailnum", "valid_from")
    assert planes.plane_key.is_unique
    equal(planes.drop(columns="plane_key"), pd.DataFrame(expected.dim_plane()), "tailnum", "valid_from")
    assert (planes.groupby("tailnum").size() > 1).sum() == 443, "aircraft that changed"


def test_facts_refer_to_the_version_that_was_valid(demo: Demo) -> None:
    key = ["time_hour", "carrier", "flight"]
    facts = demo.table("flights.fct_departures", *key)
    wanted = expected.clean_departures().assign(version=expected.plane_versions())
    begun = demo.table("flights.dim_plane").set_index("plane_key").valid_from
    found = facts.assign(version=facts.plane_key.map(begun)).drop(columns="plane_key")
    equal(found, wanted.drop(columns="tailnum"), *key)


def test_the_reference_tables(demo: Demo) -> None:
    planes = expected.small("planes").rename(columns={"year": "built"}).drop(columns="speed")
    equal(demo.table("reference.aircraft", "tailnum"), planes, "tailnum")
    airports = expected.small("airports").rename(columns={"tzone": "zone"})
    wanted = airports[["faa", "name", "lat", "lon", "alt", "zone"]]
    equal(demo.table("reference.dim_airport", "faa"), wanted, "faa")
    equal(demo.table("reference.dim_airline", "carrier"), expected.small("airlines"), "carrier")
    for file, small in (("aircraft", "planes"), ("airports", "airports"), ("airlines", "airlines")):
        wanted = expected.small(small)
        key = wanted.columns[0]
        equal(demo.table(f"reference.{file}_file", key), wanted, key)


@pytest.mark.parametrize(
    ("table", "wanted", "key"),
    [
        ("flights.delay_by_carrier", expected.delay_by_carrier, ("flight_date", "carrier")),
        ("flights.delay_by_weather", expected.delay_by_weather, ("beaufort", "frost")),
        ("flights.airline_delays", expected.airline_delays, ("airline",)),
        ("flights.delay_per_airport_hour", expected.delay_per_airport_hour, ("origin", "window_start")),
        ("live.delay_per_airport_hour", expected.closed_hours, ("origin", "window_start")),
    ],
)
def test_delays(demo: Demo, table: str, wanted: Callable[[], pd.DataFrame], key: tuple[str, ...]) -> None:
    equal(demo.table(table, *key), wanted(), *key)


def test_nothing_else_is_published(demo: Demo) -> None:
    """Each table that is listed is one that a test above compares, and `main` has no quarantine."""
    listed = re.findall(r"^  (\w+\.\w+) +(\d*) +(\w+)$", demo.shown, re.M)
    assert [name for name, _, _ in listed] == [
        "flights.airline_delays", "flights.clean_departures", "flights.delay_by_carrier", "flights.delay_by_weather",
        "flights.delay_per_airport_hour", "flights.departures", "flights.dim_plane", "flights.fct_departures",
        "flights.weather", "live.delay_per_airport_hour", "reference.aircraft", "reference.aircraft_file",
        "reference.airlines_file", "reference.airports_file", "reference.dim_airline", "reference.dim_airport",
    ]  # fmt: skip
    for name, rows, _ in listed[1:]:
        assert len(demo.table(name)) == int(rows)


# The story


def test_the_spoilt_feed_fails_its_check_and_main_is_untouched(demo: Demo) -> None:
    spoilt = expected.clean_departures().query("carrier == 'B6' and flight_date.astype('str') == '2013-01-08'")
    wrong = (spoilt.dep_delay * 60 < -60) | (spoilt.dep_delay * 60 > 600)
    assert "The demo has spoilt it" in demo.shown
    assert f"failed     flights.clean_departures: {wrong.sum()} of 892 rows" in demo.shown
    assert "untouched  main: 7 days, 6,099 departures" in demo.shown
    assert "published  flights 2013-01-08  batch 9    899 departures" in demo.shown


def test_the_failure_can_be_read_on_its_branch(demo: Demo) -> None:
    """The branch holds the week and the spoilt day; broken lines are in its quarantine, with what they looked like."""
    cleaned = demo.table("flights.clean_departures", branch="batch-9")
    assert len(cleaned) == 6099 + 896
    rejected = demo.table("flights.departures__quarantine", "line", branch="batch-9")
    assert rejected.line.tolist() == [101, 401, 702]
    assert rejected.raw.iloc[0].startswith("2013,1,8,709,700,9,844")


def test_both_files_of_the_bad_day_are_in_the_archive(demo: Demo) -> None:
    files = tm.query("select version, path, sha256 from tidemill.files where batch_id = 9 and source = 'departures'"
                     " and version <= 2 order by version", project=demo.folder).to_pandas()  # fmt: skip
    good = (expected.DATA / "flights" / "2013-01-08.csv.gz").read_bytes()
    archived = [(demo.folder / ".tidemill" / "archive" / path).read_bytes() for path in files.path]
    assert archived[1] == good
    assert [hashlib.sha256(content).hexdigest() for content in archived] == files.sha256.tolist()
    assert all(sha in demo.shown for sha in files.sha256)
    assert gzip.decompress(archived[0]) != gzip.decompress(good)


# The stream

OFFSETS = re.compile(r"^offsets +([\d,]+) sent +([\d,]+) counted +([\d,]+) a second  lag +([\d,]+)  (.*)$", re.M)


def looks(shown: str) -> list[tuple[int, int, int, str]]:
    """What the demo said of offsets: sent, counted, lag, and how tables compared."""
    found = OFFSETS.findall(shown)
    return [(*(int(text.replace(",", "")) for text in (a, b, lag)), compared) for a, b, _, lag, compared in found]


def test_the_stream_gives_what_the_batch_gives_though_its_process_is_killed(demo: Demo) -> None:
    pids = re.findall(r"^started +process (\d+)$", demo.shown, re.M)
    killed = re.findall(r"^killed +process (\d+) with kill -9", demo.shown, re.M)
    assert len(set(pids)) == 2
    assert killed == pids[:1]
    before, after = demo.shown.split("killed ")
    assert looks(before)[-1][1] < 6998, "it was killed in the middle"
    for part in (before, after):
        assert all(re.fullmatch(r" *\d+ closed hours, 0 differ|no hour closed yet", one[3]) for one in looks(part))
    assert looks(after)[-1][3].strip() == f"{len(expected.closed_hours())} closed hours, 0 differ"


def test_what_is_said_of_the_stream_is_what_offsets_say(demo: Demo) -> None:
    said = looks(demo.shown)
    assert all(sent - counted == lag for sent, counted, lag, _ in said)
    assert [(sent, counted) for sent, counted, _, _ in said] == sorted((one[0], one[1]) for one in said)
    settings = load_settings(demo.folder)
    metadata = open_metadata(settings, system_clock())
    topics = open_topics(settings, metadata, system_clock())
    ends = topics.describe("departures")
    assert ends is not None
    partitions = [Partition("departures", number) for number in range(3)]
    counted = topics.committed("live.delay_per_airport_hour", partitions)
    metadata.close()
    assert said[-1][:3] == (sum(ends.end), sum(one.offset for one in counted.values()), 0) == (6998, 6998, 0)


def test_hours_that_differ_would_be_seen(demo: Demo) -> None:
    assert tm.query(DIFFERENT, project=demo.folder).to_pandas().empty
    batch = "flights.delay_per_airport_hour"
    wrong = f"(select * replace (departures + (origin = 'JFK')::int as departures) from {batch})"
    fewer = f"(select * from {batch} where not (origin = 'LGA' and hour(window_start) = 20))"
    hours = expected.closed_hours()
    jfk, lga = (hours.origin == "JFK").sum(), ((hours.origin == "LGA") & (hours.window_start.dt.hour == 20)).sum()
    for other, count in ((wrong, 2 * jfk), (fewer, lga)):
        assert len(tm.query(DIFFERENT.replace(batch, other), project=demo.folder).to_pandas()) == count > 0


def test_no_network_is_used(demo: Demo) -> None:
    assert demo.network == ""


def test_the_projects_own_tests_pass(demo: Demo) -> None:
    result = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=demo.folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "10 passed" in result.stdout


def _see_pages(process: subprocess.Popen[bytes], shown: Path) -> set[int]:
    """The pages show what the demo says that they do, with few processes in little memory; these are given."""

    def until(what: Callable[[], Any], seconds: float = 240) -> Any:
        end = time.monotonic() + seconds
        while not (found := what()):
            assert process.poll() is None, shown.read_text()
            assert time.monotonic() < end, shown.read_text()
            time.sleep(0.1)  # between two looks, not to pass
        return found

    until(lambda: "Ctrl-C ends all of it" in shown.read_text())
    api = Api(re.findall(r"^serving +(http://\S+?)/ ", shown.read_text(), re.M)[0])
    (failed, *_) = api.get("runs", pipeline="flights", state="failed")["runs"]
    assert failed["when"] == "2013-01-09"
    assert not api.get(f"branches/{failed['branch']}/gates")["open"]
    assert [one["name"] for one in api.get("checks", run=failed["run_id"], passed="false")["checks"]] != []
    assert "flights failed" in api.ask("GET", "/").data
    stream = "live.delay_per_airport_hour"
    until(lambda: api.get("streams")["streams"][0]["state"] == "running")
    until(lambda: sum(part["end"] for part in api.get("topics/departures")["parts"]) > 6998)
    until(lambda: len(api.get(f"streams/{stream}/lag/history")["times"]) > 1)
    tree = processes_below(process.pid)
    assert len(tree) < 10
    assert sum(memory_of(pid) for pid in tree) < 700_000_000
    return tree


def processes_below(root: int) -> set[int]:
    """A process with all that it has begun, and these have."""
    above = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            above[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in above.items() if parent in found} - found:
        found |= more
    return found


def memory_of(pid: int) -> int:
    """Bytes that a process has in memory; what it shares with others counts for each its part."""
    with suppress(OSError):
        return 1024 * int(re.findall(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[0])
    return 0


def test_a_second_demo_in_the_folder_changes_no_row_and_serves_its_pages(demo: Demo, tmp_path: Path) -> None:
    """It runs every day again, catches and repairs the bad one again, and says that the rows are the same."""
    before = {name: demo.table(name) for name in re.findall(r"^  (\w+\.\w+) ", demo.shown, re.M)}
    shown = tmp_path / "shown.txt"
    with shown.open("w") as out:
        command = [sys.executable, "-m", "tidemill.demo", str(demo.folder), "--serve"]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        mine = _see_pages(process, shown)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, shown.read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in mine), "all have ended"
    again = Demo(demo.folder, shown.read_text(), "")
    assert again.shown.startswith("found ")
    assert "same       15 of 15 tables hold exactly the rows that they held before" in again.shown
    assert "untouched  main: 8 days, 6,998 departures" in again.shown
    assert "tidemill run flights 2013-01-08 --refetch" in again.shown
    for name, was in before.items():
        if name.startswith("live."):
            continue  # flights went on leaving
        now, key = again.table(name), list(was.columns)
        equal(now.sort_values(key, ignore_index=True), was, *key)
