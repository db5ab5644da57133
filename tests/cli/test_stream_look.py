"""`tidemill stream ls, show, lag, topics, feed, peek`: what they say before, while and after streams run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands import CommandLine
from harness.streams import CARS, care_of, lines, row, running, work
from tidemill.model.errors import UserError
from tidemill.wiring.settings import load_settings
from tidemill.wiring.streaming import run_streams

ROWS = [row(1), row(3, "b", 30.0), row(21), row(22, "b", 32.0), row(45), row(46, "b", 5.0)]

LS = """\
stream  state  reads  writes  guarantee  members  messages/s  lag  dead letters
cars.means  stopped  telemetry  means  exactly-once  0  0  6  0
cars.fast  stopped  telemetry  fast  exactly-once  0  0  6  0
next: tidemill stream show cars.means"""

NODES = """\
stage  node  does  after  reads  writes  by  errors  count  a second  watermark
1 x2  0  source  -  telemetry  -  -  dead_letter  0  0  -
1 x2  1  with_columns  0  -  -  -  dead_letter  -  -  -
1 x2  2  tumbling_window  1  -  -  -  stop  -  -  -
1 x2  3  to_topic  2  -  means  -  dead_letter  0  0  -
next: tidemill stream lag cars.means"""


@pytest.fixture
def cars(cli: CommandLine) -> CommandLine:
    cli.write("pipelines/cars.py", CARS)
    return cli


@pytest.fixture
def fed(cars: CommandLine) -> CommandLine:
    assert cars("stream", "feed", "telemetry", "-", given=lines(ROWS)).exit_code == 0
    return cars


def test_a_project_without_streams_is_told_how_to_get_one(cli: CommandLine) -> None:
    result = cli("stream", "ls")
    assert (result.exit_code, result.out, result.err) == (0, "", "no pipeline declares a stream; see @pipeline.stream")
    assert cli("stream", "ls", "--json").object == {"streams": []}


def test_the_list_shows_what_waits_though_nothing_runs(fed: CommandLine) -> None:
    result = fed("stream", "ls")
    assert (result.exit_code, result.out, result.err) == (0, LS, "")


def test_looking_makes_no_topic(cars: CommandLine) -> None:
    for command in ("ls", "topics", "lag"):
        assert cars("stream", command).exit_code == 0
    told = cars("stream", "topics", "--json").object
    assert {(one["name"], one["partitions"]) for one in told["topics"]} == {("telemetry", 0), ("means", 0), ("fast", 0)}


def test_a_pipeline_of_streams_is_checked_and_its_lag_is_that_of_them_all(fed: CommandLine) -> None:
    told = fed("check").out
    assert "cars  run by hand, 2 streams" in told
    assert "means  telemetry  exactly-once" in told
    assert list(fed("stream", "lag", "cars", "--json").object) == ["cars.means", "cars.fast"]


def test_what_is_wrong_keeps_no_other_stream_from_running(cars: CommandLine) -> None:
    cars.write(
        "pipelines/other.py",
        """\
        import tidemill as tm

        other = tm.Pipeline("other")

        @other.stream(tm.topic("telemetry", {"v": "double"}), to="o")
        def misspelt(rows):
            return rows.select("w")
        """,
    )
    cars.write("pipelines/broken.py", "import tidemill as tm\n\ntm.topic('t', {'v': 'number'})\n")
    told: list[str] = []
    settings = load_settings(cars.folder)
    assert run_streams(settings, (), lambda: "running" in " ".join(told), told.append) == 1
    broken, misspelt, begun = told
    assert broken.startswith('broken.py cannot be loaded: topic: column v: "number" is not a column type')
    assert misspelt.startswith('other.misspelt cannot run: There is no column "w"')
    assert "pipelines/other.py:" in misspelt
    assert begun.startswith("cars.means, cars.fast running, process ")
    with pytest.raises(UserError, match='There is no column "w"'):
        run_streams(settings, ["misspelt"], lambda: True, told.append)
    with pytest.raises(UserError, match='"number" is not a column type'):  # a file that does not load may have made it
        run_streams(settings, ["lost"], lambda: True, told.append)


def test_a_stream_is_shown_with_its_nodes(fed: CommandLine) -> None:
    result = fed("stream", "show", "means")
    assert result.exit_code == 0
    assert result.out.endswith(NODES)
    made = fed("stream", "show", "cars.means", "--json").object
    assert [(edge["from"], edge["to"]) for edge in made["edges"]] == [(0, 1), (1, 2), (2, 3)]
    assert [(one["stage"], one["tasks"], one["state"]) for one in made["stages"]] == [(1, 2, True)]
    assert [node["verb"] for node in made["nodes"]] == [None, "with_columns", "tumbling_window", "to_topic"]
    assert (made["reads"], made["writes"], made["counts"]["messages"]) == (["telemetry"], ["means"], 0)


def test_what_a_process_does_is_seen_while_it_runs(fed: CommandLine) -> None:
    with running(fed) as until:
        facts = until(lambda care: [one for one in care.told("cars.means") if one.is_live(care.clock.now())])
        assert facts[0].pid > 0
        assert until(lambda care: [one.state for one in care.overview()] == ["running", "running"])
        assert until(lambda care: care.show("means"))["processes"][0]["host"] == facts[0].host
    assert {one["state"] for one in fed("stream", "ls", "--json").object["streams"]} == {"stopped"}, "it went in peace"


def test_work_done_leaves_no_lag_and_its_results_in_the_topic(fed: CommandLine) -> None:
    work(fed)
    told = fed("stream", "lag", "--json").object
    assert {lag["lag"] for lags in told.values() for lag in lags} == {0}
    means = fed("stream", "peek", "means", "--json").object["messages"]
    assert len(means) == 4, "the windows of 45 and 46 are open"
    fast = fed("stream", "peek", "fast", "--json").object["messages"]
    assert sorted((one["key"], one["partition"]) for one in fast) == [("b", 0), ("b", 0)]
    roles = {one["name"]: one["role"] for one in fed("stream", "topics", "--json").object["topics"]}
    assert roles["telemetry"] == "read"
    assert roles["means"] == "written"
    assert roles["cars.means.stage1.changelog"] == "own"


def test_lag_tells_how_long_messages_wait(fed: CommandLine) -> None:
    told = fed("stream", "lag", "means")
    assert told.out.splitlines()[0] == "stream  topic  partition  committed  end  lag  waits for"
    assert [line.split("  ")[2:] for line in told.out.splitlines()[1:]] == [
        ["0", "-", "6", "6", "SECONDS"], ["1", "-", "0", "0", "-"],
    ]  # fmt: skip


def test_a_line_that_does_not_fit_is_refused_with_its_number_and_nothing_is_sent(cars: CommandLine) -> None:
    bad = lines([row(1)]) + '{"ts": "noon"}\n'
    result = cars("stream", "feed", "telemetry", "-", given=bad)
    assert (result.exit_code, result.out) == (1, "")
    assert "line 2" in result.err
    assert "--raw" in result.err
    assert cars("stream", "peek", "telemetry", "--json").object["messages"] == []
    assert cars("stream", "feed", "telemetry", "-", "--raw", given=bad).exit_code == 0
    assert len(cars("stream", "peek", "telemetry", "--json").object["messages"]) == 2


def test_a_file_is_fed_with_a_key_of_choice(fed: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(lines([{"n": 1, "who": "x"}, {"n": 2, "who": None}]))
    work(fed)
    result = fed("stream", "feed", "fast", "rows.jsonl", "--key", "who")
    assert result.out == "sent  2 messages  to fast\nnext: tidemill stream peek fast"
    assert [one["key"] for one in fed("stream", "peek", "fast", "-n", "2", "--json").object["messages"]] == ["x", None]


@pytest.mark.parametrize("command", [["feed", "telemetri", "-"], ["peek", "telemetri"]])
def test_a_misspelt_topic_gets_the_nearest(fed: CommandLine, command: list[str]) -> None:
    result = fed("stream", *command, given=lines([row(1)]))
    assert result.exit_code == 2
    assert 'did you mean "telemetry"?' in result.err


def test_a_declared_topic_that_is_not_made_yet_has_no_messages(fed: CommandLine) -> None:
    made = {one["name"]: one["partitions"] for one in fed("stream", "topics", "--json").object["topics"]}
    assert made["means"] == 0
    assert fed("stream", "peek", "means", "--json").object["messages"] == []
    assert "means has no messages" in fed("stream", "peek", "means").err


def test_a_misspelt_stream_gets_the_nearest(fed: CommandLine) -> None:
    result = fed("stream", "show", "cars.meens")
    assert result.exit_code == 2
    assert '"cars.means"' in result.err


def test_a_stream_that_cannot_be_planned_is_told_beside_the_others(cars: CommandLine) -> None:
    cars.write("pipelines/other.py", """
        import tidemill as tm

        o = tm.Pipeline("other")

        @o.stream(tm.topic("telemetry", {"car": "string"}), to=tm.topic("out"))
        def wrong(rows):
            return rows.select("nothing")
    """)  # fmt: skip
    result = cars("stream", "ls")
    assert result.exit_code == 0
    assert "other.wrong  wrong" in result.out
    assert "nothing" in result.out.partition("error: other.wrong")[2]
    assert "cars.means  stopped" in result.out


def test_following_has_no_end_that_json_could_wait_for(fed: CommandLine) -> None:
    assert fed("stream", "peek", "telemetry", "-f", "--json").exit_code == 2


def test_following_waits_for_a_topic_that_is_not_made_yet(cars: CommandLine) -> None:
    with care_of(cars.folder) as care:
        seen = care.follow("telemetry")
        assert next(seen) is None
        care.feed("telemetry", [lines([row(1)]).encode(), lines([row(2)]).encode()])
        found = [one for _, one in zip(range(5), seen, strict=False) if one is not None]
    assert [one.offset for one in found] == [0, 1]


AVRO = """
    import tidemill as tm
    from tidemill.model.codec import Avro

    LAP = '{"type": "record", "name": "Lap", "fields": [{"name": "car", "type": "long"}]}'
    laps = tm.topic("laps", {"car": "long"}, codec=Avro(LAP, framing="bare"))

    @tm.Pipeline("avro").stream(laps, to=tm.topic("same"))
    def same(laps):
        return laps
"""


def test_messages_that_are_no_text_are_shown_as_their_columns(cli: CommandLine) -> None:
    """Bytes and what only happens to be text; what cannot be read is shown as it is."""
    cli.write("pipelines/avro.py", AVRO)
    cli("stream", "feed", "laps", "-", given='{"car": 1}\n{"car": 4000}\n')
    cli("stream", "feed", "laps", "-", "--raw", given="no Avro\n")
    assert [line.split("  ")[-1] for line in cli("stream", "peek", "laps").out.splitlines()[1:]] == [
        '{"car": 1}', '{"car": 4000}', "no Avro",
    ]  # fmt: skip
    told = cli("stream", "peek", "laps", "--json").object["messages"]
    assert [one["row"] for one in told] == [{"car": 1}, {"car": 4000}, None]
