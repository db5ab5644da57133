"""`tidemill stream run --metrics`: what Prometheus is told is what `stream show` and `stream lag` say."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from harness.commands import CommandLine
from harness.scraping import Scraped, address_in, parsed, scrape, value
from harness.streams import CARS, care_of, done, lines, row, running
from tidemill.model.errors import SettingsError
from tidemill.wiring.metrics_settings import MetricsSettings
from tidemill.wiring.settings import load_settings
from tidemill.wiring.streaming import Running

HERE = MetricsSettings("127.0.0.1", 0)
#: Two rows of a window, one that closes it, one that came too late, and two messages that are none.
ROWS = [row(1), row(3), row(21, "a"), row(31, "a", 30.0), row(2)]
BAD = '{"ts": "noon"}\nnothing\n'

STOPS = """
    import tidemill as tm

    p = tm.Pipeline("cars")
    telemetry = tm.topic("telemetry", {"car": "string", "speed": "double"}, key="car")

    @p.stream(telemetry, to=tm.topic("fast"), errors="stop")
    def fast(telemetry):
        return telemetry.filter(telemetry["speed"] > 20)
"""


@pytest.fixture
def cars(cli: CommandLine) -> CommandLine:
    cli.write("pipelines/cars.py", CARS)
    return cli


def page(told: list[str]) -> Scraped:
    address = address_in("\n".join(told))
    assert address is not None, told
    return parsed(scrape(address))


def test_metrics_say_what_the_commands_say(cars: CommandLine) -> None:
    assert cars("stream", "feed", "telemetry", "-", given=lines(ROWS)).exit_code == 0
    assert cars("stream", "feed", "telemetry", "-", "--raw", given=BAD).exit_code == 0
    told: list[str] = []
    with running(cars, told=told, metrics=HERE) as until:
        until(done)
        until(
            lambda care: [one for one in care.told("cars.means") if one.messages == len(ROWS) + 2 and one.checkpoints]
        )
        until(lambda _: value(page(told), "tidemill_stream_messages_read_total", stream="cars.means") == len(ROWS) + 2)
        found = page(told)
        mine = {"stream": "cars.means"}
        show = cars("stream", "show", "means", "--json").object
        counts = show["counts"]
        assert (
            value(found, "tidemill_stream_rows_written_total", sink="means", **mine) == show["nodes"][-1]["count"] == 2
        )
        assert value(found, "tidemill_stream_late_rows_total", **mine) == counts["late"] == 1
        assert value(found, "tidemill_stream_failed_rows_total", **mine) == counts["failed"] == 2
        assert value(found, "tidemill_stream_dead_letters_total", **mine) == 2
        assert value(found, "tidemill_stream_checkpoint_seconds_count", **mine) == counts["checkpoints"] > 0
        assert value(found, "tidemill_stream_restarts_total", **mine) == 0
        assert value(found, "tidemill_stream_state_bytes", **mine) == counts["state_bytes"] > 0
        assert value(found, "tidemill_stream_recovery_ratio", **mine) == 1
        assert value(found, "tidemill_stream_tasks", **mine) == 2
        assert value(found, "tidemill_metrics_source_up", source="topics") == 1
        lags = {(lag["topic"], str(lag["partition"])): lag["lag"] for lag in show["lag"]}
        shown = {
            (dict(key)["topic"], dict(key)["partition"]): lag
            for key, lag in found["tidemill_stream_lag_messages"].items() if ("stream", "cars.means") in key
        }  # fmt: skip
        assert shown == lags
        assert "tidemill_runs" not in found, "these are of the installation, not of a process"


def test_what_waits_is_lag(cars: CommandLine) -> None:
    """A stream that nobody runs has no process that could tell; one that runs beside it tells its own only."""
    told: list[str] = []
    with running(cars, "cars.fast", told=told, metrics=HERE) as until:
        assert cars("stream", "feed", "telemetry", "-", given=lines(ROWS)).exit_code == 0

        def worked_off(care: object) -> bool:
            # The address is told when the server is there, which may be after the first look.
            return bool(told and value(page(told), "tidemill_stream_lag_messages", partition="0") == 0)

        until(worked_off)
        assert {dict(key)["stream"] for key in page(told)["tidemill_stream_lag_messages"]} == {"cars.fast"}


def test_counters_never_go_back_though_the_stream_fails_again_and_again(cli: CommandLine) -> None:
    cli.write("pipelines/cars.py", STOPS)
    good = lines([{"car": "a", "speed": 30.0}])
    assert cli("stream", "feed", "telemetry", "-", "--raw", given=good + "nothing\n").exit_code == 0
    stop = threading.Event()
    seen: list[tuple[float, float]] = []
    with care_of(cli.folder) as care:
        [(pipeline, spec)] = care.streams
    with Running(load_settings(cli.folder), stop.is_set, lambda _: None, again=True) as streams:
        streams.start(pipeline, spec)
        end = time.monotonic() + 120
        while not seen or seen[-1][1] < 2:
            assert time.monotonic() < end, seen
            found = parsed(streams.text())
            read = value(found, "tidemill_stream_messages_read_total")
            if read is not None:
                seen.append((read, value(found, "tidemill_stream_restarts_total") or 0))
            time.sleep(0.02)  # between two looks, not to pass
        stop.set()
        streams.wait()
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("9464", "no address to serve metrics at"),
        ("127.0.0.1:99999", "no address to serve metrics at"),
        ("0.0.0.0:9464", "there is no token"),
        ("[::]:9464", "there is no token"),
    ],
)
def test_an_address_that_will_not_do_is_refused_before_anything_runs(
    cars: CommandLine, address: str, told: str
) -> None:
    result = cars("stream", "run", "--metrics", address)
    assert result.exit_code == 2
    assert told in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ('[metrics]\nlisten = "here"\n', '"here" is no address'),
        ('[metrics]\nlisten = "0.0.0.0:1"\n', "there is no token"),
        ('[otel]\nenabled = "yes"\n', "neither true nor false"),
    ],
)
def test_settings_that_will_not_do_are_told(cli: CommandLine, section: str, told: str) -> None:
    cli.write("tidemill.toml", f'[project]\nname = "test"\n{section}')
    with pytest.raises(SettingsError, match=told):
        load_settings(cli.folder)


def test_beyond_this_computer_a_token_is_needed(cli: CommandLine) -> None:
    cli.write("tidemill.toml", '[project]\nname = "test"\n[metrics]\nlisten = "0.0.0.0:9464"\ntoken = "env:T"\n')
    assert load_settings(cli.folder, {"T": "open sesame"}).metrics == MetricsSettings("0.0.0.0", 9464, "open sesame")


def test_the_environment_comes_first(cli: CommandLine) -> None:
    cli.write("tidemill.toml", '[project]\nname = "test"\n[metrics]\nlisten = "127.0.0.1:1"\n')
    assert load_settings(cli.folder, {"TIDEMILL_METRICS_LISTEN": "[::1]:2"}).metrics == MetricsSettings("::1", 2)


def test_serving_metrics_without_an_address_is_refused(cli: CommandLine) -> None:
    result = cli("serve", "metrics")
    assert result.exit_code == 2
    assert "No address is set to serve metrics at." in result.err


def test_how_long_rows_wait_for_their_table_is_a_setting(cli: CommandLine) -> None:
    cli.write("tidemill.toml", '[project]\nname = "test"\n[streams]\ntables_every = "1s"\n')
    assert load_settings(cli.folder).streams.tables_every == timedelta(seconds=1)
    cli.write("tidemill.toml", '[project]\nname = "test"\n[streams]\ntables_every = "soon"\n')
    with pytest.raises(SettingsError, match="soon"):
        load_settings(cli.folder)
