"""The bench tells the truth: it measures the child, compares what was loaded, and fails for what is missing."""

import importlib
import json
import re
import statistics
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Imports a module of bench/."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


def test_a_child_is_measured_and_not_the_parent(bench):
    """A child's peak would begin with this process's pages, were it started from here."""
    measure = bench("measure")
    ballast = b"1" * (120 << 20)
    small = measure.run([sys.executable, "-c", "pass"])
    large = measure.run([sys.executable, "-c", "x = b'1' * (100 << 20)"])
    assert large.peak_mb > 100 > small.peak_mb + 50
    del ballast  # it had to be there until here
    assert large.cpu_seconds > 0


def test_a_child_that_takes_too_long_is_stopped_with_its_children(bench):
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    stopped = bench("measure").run([sys.executable, "-c", program], limit=0.5)
    assert stopped.timed_out
    assert stopped.seconds < 50


def test_exit_code_and_output_are_those_of_the_child(bench):
    ran = bench("measure").run([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(5)"])
    assert (ran.code, ran.output, ran.errors) == (5, "1\n", "2\n")


@pytest.mark.parametrize(
    "name",
    ["flat.jsonl", "flat.csv", "nested.jsonl", "wide.jsonl", "long.jsonl", "nulls.jsonl", "late.jsonl", "many.jsonl"],
)
def test_each_input_is_loaded_rightly_by_raw_duckdb_and_a_lost_row_is_found(bench, tmp_path, name):
    """The spec's expectations come from the generator, the loaded rows from the files."""
    import duckdb

    inputs, peer, raw = bench("inputs"), bench("peer"), bench("peers.duckdb_load")
    inputs.make(name, 1000, tmp_path)
    spec_file = str(inputs.spec_path(name, 1000, tmp_path))
    spec = json.loads(Path(spec_file).read_text())
    raw.load(spec, tmp_path, "")
    assert peer.differences("duckdb_load", spec_file, tmp_path, "") == []
    with duckdb.connect(str(tmp_path / "raw.duckdb")) as connection:
        connection.execute("delete from loaded where id = (select max(id) from loaded)")
    wrong = peer.differences("duckdb_load", spec_file, tmp_path, "")
    assert "rows: 999 instead of 1000" in wrong
    assert len(wrong) >= 2


@pytest.fixture
def load(bench, tmp_path, monkeypatch):
    """Runs the bench with one peer on flat.csv."""
    module = bench("load")

    def run(peer):
        monkeypatch.setattr(module, "PEERS", [peer])
        folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
        return module.main(["--rows", "1000", "--repeat", "2", "--inputs", "flat.csv", *folders])

    run.Peer = module.Peer
    return run


def test_a_missing_peer_is_a_failed_bench(load, capsys):
    assert load(load.Peer("nobody", "nobody_load", "tidemill")) == 1
    assert "nobody on flat.csv: MISSING: cannot be imported: there is no bench/peers/nobody" in capsys.readouterr().err


def test_a_right_result_is_in_the_table_and_in_the_results(load, tmp_path, capsys):
    assert load(load.Peer("duckdb", "duckdb_load", "tidemill")) == 0
    assert re.search(r"^flat.csv +duckdb +1,000 .* right$", capsys.readouterr().out, re.M)
    (path,) = (tmp_path / "results").iterdir()
    (result,) = json.loads(path.read_text())["results"]
    assert len(result["all_seconds"]) == 2
    assert result["rows_per_second"] == pytest.approx(1000 / statistics.median(result["all_seconds"]), rel=0.01)
    assert result["peak_mb"] > 20


def test_a_wrong_result_is_a_failed_bench(load, bench, tmp_path, capsys):
    """Raw DuckDB is shown a spec that asks for one row more than there is."""
    inputs = bench("inputs")
    inputs.make("flat.csv", 1000, tmp_path / "data")
    path = inputs.spec_path("flat.csv", 1000, tmp_path / "data")
    path.write_text(path.read_text().replace('"1000"', '"1001"'))
    assert load(load.Peer("duckdb", "duckdb_load", "tidemill")) == 1
    assert "WRONG RESULT: rows: 1000 instead of 1001" in capsys.readouterr().err
