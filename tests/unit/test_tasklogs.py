"""Port `tasklogs` in a local folder."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tidemill.adapters.localfs.tasklogs import LocalTaskLogs
from tidemill.ports.tasklogs import LogLine, TryPlace, Wanted
from tidemill.testing.clock import ManualClock

PLACE = TryPlace("flights", 7, "load")


@pytest.fixture
def logs(tmp_path: Path, clock: ManualClock) -> LocalTaskLogs:
    return LocalTaskLogs(tmp_path / "logs", clock)


def say(logs: LocalTaskLogs, place: TryPlace, *texts: str) -> None:
    writer = logs.open(place)
    for text in texts:
        writer.write("INFO", "stdout", text)
    writer.close()


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]  # type: ignore[attr-defined]


def test_a_line_is_read_as_it_was_written(logs: LocalTaskLogs, clock: ManualClock) -> None:
    writer = logs.open(PLACE)
    writer.write("WARNING", "my.module", "zwei\nZeilen \ud800 \x00 é")
    page = logs.read(PLACE)
    assert page.lines == [LogLine(clock.now(), "WARNING", "my.module", "zwei\nZeilen ? \x00 é")]


def test_a_try_that_says_nothing_leaves_nothing(logs: LocalTaskLogs, tmp_path: Path) -> None:
    logs.open(PLACE).close()
    assert list(tmp_path.iterdir()) == []
    assert logs.read(PLACE).lines == []
    assert logs.tail(PLACE).lines == []
    assert logs.find(PLACE, Wanted()).lines == []
    assert logs.tries("flights", 7) == []


def test_lines_are_read_from_where_the_last_page_ended(logs: LocalTaskLogs, clock: ManualClock) -> None:
    writer = logs.open(PLACE)
    writer.write("INFO", "stdout", "1")
    first = logs.read(PLACE)
    assert logs.read(PLACE, first.offset).lines == []
    clock.advance(timedelta(seconds=1))
    writer.write("INFO", "stdout", "2")
    assert texts(logs.read(PLACE, first.offset).lines) == ["2"]
    assert texts(logs.read(PLACE, limit=1).lines) == ["1"]


def test_a_line_that_is_being_written_is_not_read_yet(logs: LocalTaskLogs, tmp_path: Path) -> None:
    say(logs, PLACE, "1")
    path = tmp_path / "logs" / "flights" / "7" / "load" / "1.jsonl"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[:-5])
    page = logs.read(PLACE)
    assert texts(page.lines) == ["1"]
    assert texts(logs.tail(PLACE).lines) == ["1"]
    with path.open("ab") as file:
        file.write(whole[-5:])
    assert texts(logs.read(PLACE, page.offset).lines) == ["1"]


@pytest.mark.parametrize("count", [1, 3, 999, 5000])
def test_the_tail_is_the_last_lines(logs: LocalTaskLogs, count: int) -> None:
    say(logs, PLACE, *(f"{n} " + "x" * 100 for n in range(2000)))
    page = logs.tail(PLACE, count)
    assert [int(text.split()[0]) for text in texts(page.lines)] == list(range(2000))[-count:]
    say(logs, PLACE, "next")
    assert texts(logs.read(PLACE, page.offset).lines) == ["next"]


def test_pages_backwards_are_the_whole_log(logs: LocalTaskLogs) -> None:
    given = [f"{n} " + "x" * (n % 300) for n in range(3000)]
    given[1500] = "long " + "y" * 300_000
    say(logs, PLACE, *given)
    page = logs.tail(PLACE, 700)
    found = texts(page.lines)
    while page.begin:
        page = logs.tail(PLACE, 700, page.begin)
        found = [*texts(page.lines), *found]
    assert found == given
    assert logs.tail(PLACE, 5, 0).lines == []
    assert texts(logs.tail(PLACE, 2, 10**9).lines) == given[-2:]


@pytest.mark.parametrize("text", ["needle", "NEEDLE", "größe", 'a "b\\c', "\x1b[31m", "two\nlines", "Σίσυφος", ""])
@pytest.mark.parametrize("level", [None, "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_a_search_finds_what_a_look_at_every_line_finds(logs: LocalTaskLogs, text: str, level: str | None) -> None:
    wanted = Wanted(text, level)
    writer = logs.open(PLACE)
    said = (
        "no",
        "a Needle here",
        "GRÖSSE größe",
        'a "b\\c',
        "\x1b[31mred",
        "two\nlines",
        "ΣΊΣΥΦΟΣ",
        '"level": "ERROR"',
    )
    for number in range(400):
        level_of = ("INFO", "DEBUG", "WARNING", "ERROR", "CRITICAL", "NOTICE")[number % 6]
        writer.write(level_of, "stdout", f"{said[number % len(said)]} {number} ")
    writer.close()
    every = [line for line in logs.read(PLACE, limit=10_000).lines if wanted.fits(line)]
    found, offset, whole = [], 0, False
    while not whole:
        page = logs.find(PLACE, wanted, offset, 7)
        found += page.lines
        offset, whole = page.offset, page.whole
        assert len(page.lines) <= 7
    assert [one.line for one in found] == every
    for one in found[:20]:
        assert logs.read(PLACE, one.offset, 1).lines == [one.line]
    writer = logs.open(PLACE)
    writer.write("CRITICAL", "stdout", f"{text} again")
    assert [one.line.text for one in logs.find(PLACE, wanted, offset).lines] == [f"{text} again"]


def test_one_search_reads_a_part_of_a_large_log(tmp_path: Path, clock: ManualClock) -> None:
    logs = LocalTaskLogs(tmp_path / "logs", clock, limit=1 << 30)
    say(logs, PLACE, *("x" * (1 << 20) for _ in range(40)), "at the end")
    first = logs.find(PLACE, Wanted("at the end"))
    assert (list(first.lines), first.whole) == ([], False)
    assert first.offset < 36 << 20
    second = logs.find(PLACE, Wanted("at the end"), first.offset)
    assert ([one.line.text for one in second.lines], second.whole) == (["at the end"], True)
    assert logs.find(TryPlace("none", 1, "x"), Wanted("y")).whole


def test_a_log_that_is_too_large_says_where_it_ends(tmp_path: Path, clock: ManualClock) -> None:
    logs = LocalTaskLogs(tmp_path, clock, limit=1000)
    say(logs, PLACE, *["x" * 100] * 20)
    say(logs, PLACE, "of a second writer")
    found = texts(logs.read(PLACE).lines)
    assert 3 < len(found) < 10
    assert [text for text in found if "cut off" in text] == found[-2:] or "cut off" in found[-1]
    assert (tmp_path / "flights/7/load/1.jsonl").stat().st_size < 1500


def test_tries_are_listed_in_order(logs: LocalTaskLogs) -> None:
    places = [
        TryPlace("flights", 7, "a.b/c d"),
        TryPlace("flights", 7, "load", number=1),
        TryPlace("flights", 7, "load", number=10),
        TryPlace("flights", 7, "load", 0, 1),
        TryPlace("flights", 7, "load", 11, 2),
    ]
    for place in reversed(places):
        say(logs, place, "x")
    say(logs, TryPlace("flights", 8, "load"), "x")
    say(logs, TryPlace("other", 7, "load"), "x")
    assert logs.tries("flights", 7) == sorted(places)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/../../b", "../../x", "/etc", "a\0b", "", "x" * 500, "ü" * 200, "~", "%"]
)
def test_no_name_leads_out_of_the_folder(logs: LocalTaskLogs, tmp_path: Path, name: str) -> None:
    place = TryPlace(name, 7, name, 3)
    say(logs, place, "x")
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert len(path.relative_to(tmp_path / "logs").parts) == 5
    assert texts(logs.read(place).lines) == ["x"]


def test_names_are_told_apart(logs: LocalTaskLogs) -> None:
    names = ["a", "a/b", "a%2Fb", "A b", "x" * 300, "x" * 301, ".", "..", "%2E"]
    for name in names:
        say(logs, TryPlace("p", 1, name), name)
    assert [texts(logs.read(TryPlace("p", 1, name)).lines) for name in names] == [[name] for name in names]


def test_a_disk_that_is_full_does_not_fail_the_task(clock: ManualClock) -> None:
    writer = LocalTaskLogs("/dev/full", clock).open(PLACE)
    writer.write("INFO", "stdout", "x")
    assert writer.full
    writer.write("INFO", "stdout", "x")
    writer.close()


def test_half_a_line_of_a_crashed_machine_is_passed_over(logs: LocalTaskLogs, tmp_path: Path) -> None:
    say(logs, PLACE, "1")
    path = tmp_path / "logs" / "flights" / "7" / "load" / "1.jsonl"
    with path.open("ab") as file:
        file.write(b'{"at": "2020-\n' + b"\0" * 10 + b"\n[]\n")
    say(logs, PLACE, "2")
    assert texts(logs.read(PLACE).lines) == ["1", "2"]
    assert os.path.getsize(path) == logs.read(PLACE).offset
