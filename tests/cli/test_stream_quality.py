"""Checks of streams as commands show them: what is promised, what was found, what was put aside and goes again."""

from __future__ import annotations

import pytest

from harness.commands import CommandLine
from harness.streams import lines, row, work

CARS = """
    import tidemill as tm

    p = tm.Pipeline("cars")
    telemetry = tm.topic(
        "telemetry", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car", partitions=2,
        checks=[tm.not_null("car")],
    )

    @p.stream(
        telemetry,
        to=tm.topic("fast", key="car"),
        checks=[
            tm.expect(tm.col("speed") < 100, name="sane"),
            tm.between("speed", 0, 30, severity="warn", mostly=0.9),
        ],
    )
    def fast(telemetry):
        return telemetry.filter(telemetry["speed"] > 20)
"""


@pytest.fixture
def cars(cli: CommandLine) -> CommandLine:
    """A stream with checks that has worked on four rows."""
    cli.write("pipelines/cars.py", CARS)
    rows = [row(1), row(2, speed=25.0), row(3, speed=250.0), {**row(4), "car": None}]
    assert cli("stream", "feed", "telemetry", "-", given=lines(rows)).exit_code == 0
    work(cli)
    return cli


def test_show_tells_what_every_check_has_found_in_all_and_by_hour(cars: CommandLine) -> None:
    found = cars("stream", "show", "fast", "--json").object["checks"]
    assert [(one["judged"], one["name"], one["rows"], one["failed"], one["passed"]) for one in found] == [
        ("telemetry", "not_null(car)", 4, 1, False),
        ("cars.fast", "sane", 2, 1, False),
        ("cars.fast", "between(speed, 0, 30)", 2, 1, False),
    ]
    assert sum(hour["rows"] for hour in found[0]["hours"]) == 4
    assert found[2]["expected"] == "between(speed, 0, 30) mostly 0.9"
    shown = cars("stream", "show", "fast").out
    assert "check of" in shown
    assert "50.00%" in shown


def test_counts_go_on_over_another_process_and_other_checks(cars: CommandLine) -> None:
    cars.write("pipelines/cars.py", CARS.replace('name="sane"', 'name="possible"'))
    assert cars("stream", "feed", "telemetry", "-", given=lines([row(5, speed=29.0)])).exit_code == 0
    work(cars)
    found = {one["name"]: one for one in cars("stream", "show", "fast", "--json").object["checks"]}
    assert {name: (one["rows"], one["failed"]) for name, one in found.items()} == {
        "not_null(car)": (5, 1), "possible": (1, 0), "between(speed, 0, 30)": (3, 1), "sane": (2, 1),
    }  # fmt: skip
    assert found["sane"]["passed"] is None, "nobody says any more what it allows"
    query = "select name, sum(rows) as n from tidemill.stream_checks group by name order by name"
    assert [one["n"] for one in cars("query", query, "--json").object["rows"]] == [3, 5, 1, 2]


def test_rows_that_failed_are_letters_and_go_again_mended(cars: CommandLine) -> None:
    told = cars("stream", "dlq", "fast", "--json").object["letters"]
    assert {(one["kind"], one["step"], one["error"]) for one in told} == {
        ("quarantined", "expect", "sane"), ("quarantined", "expect", "not_null(car)"),
    }  # fmt: skip
    letter = next(one for one in told if one["error"] == "sane")
    assert letter["row"]["speed"] == 250.0
    mended = letter["value"].replace("250.0", "25.0")
    result = cars("stream", "redrive", "fast", str(letter["offset"]), "--edit", mended, "--yes")
    assert result.exit_code == 0
    work(cars)
    assert len(cars("stream", "peek", "fast", "--json").object["messages"]) == 2


def test_check_lists_what_streams_promise(cars: CommandLine) -> None:
    result = cars("check")
    assert result.exit_code == 0
    assert "quarantines the row" in result.out
    assert "is counted (mostly 0.9)" in result.out
    assert "3 checks" in result.out
    found = cars("check", "--json").object["pipelines"][0]["stream_checks"]
    assert [(one["stream"], one["judged"]) for one in found] == [
        ("fast", "telemetry"), ("fast", "cars.fast"), ("fast", "cars.fast"),
    ]  # fmt: skip


def test_a_check_that_a_stream_cannot_keep_is_told_with_its_place(cli: CommandLine) -> None:
    cli.write("pipelines/cars.py", CARS.replace('tm.not_null("car")', 'tm.unique("car")'))
    result = cli("check")
    assert result.exit_code == 2
    assert 'Check "unique(car)" is about many rows' in result.err
    assert "pipelines/cars.py:" in result.err
    assert "f.unique(" in result.err


def test_a_step_that_a_stream_cannot_have_is_told_by_check_too(cli: CommandLine) -> None:
    cli.write("pipelines/cars.py", CARS.replace("return telemetry", 'return telemetry.drop("sped")'))
    result = cli("check")
    assert (result.exit_code, 'There is no column "sped"' in result.err) == (2, True), result.err
    assert "pipelines/cars.py:" in result.err
