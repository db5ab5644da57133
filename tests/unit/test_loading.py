"""What a run loads: the drivers that it needs and no others, and the garbage collector as it was found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_RUN = """
import json, sys
import tidemill as tm

pipeline = tm.Pipeline("p")
pipeline.files("feeds/*", name="loaded")
pipeline.run("once")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

_COLLECTOR = """
import gc
from tidemill.wiring.loading import loading, own_process

own_process()
gc.disable()
with loading():
    pass
assert not gc.isenabled() and not gc.get_freeze_count()
gc.enable()
with loading():
    assert not gc.isenabled()
    loaded = [[]]
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen
with loading():
    later = [[]]
assert gc.isenabled() and gc.get_freeze_count() == frozen
"""

_AFTER_DUCKDB = """
import duckdb
from tidemill.wiring.loading import loading, own_process

own_process()
with loading():
    pass
"""


def _python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_run_of_feeds_alone_loads_no_engine(tmp_path):
    """Polars, DuckDB, sqlglot, pandas and fastavro take half a second to load; rows of JSON Lines and CSV need none."""
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "p"\n')
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    (feeds / "a.csv").write_text("id,day,ok\n1,2026-01-01 00:00:00,true\n2,,false\n")
    (feeds / "b.jsonl").write_text('{"id": 3, "day": "2026-01-02 00:00:00", "ok": null}\n')

    loaded = json.loads(_python(_RUN, tmp_path).splitlines()[-1])

    assert not {"polars", "duckdb", "sqlglot", "pandas", "fastavro"}.intersection(loaded)
    assert {"pyarrow", "pyiceberg", "sqlalchemy"} <= set(loaded)


def test_loading_leaves_the_garbage_collector_as_it_was(tmp_path):
    """It is off only while drivers load, what they are is frozen once, and who switched it off keeps it off."""
    _python(_COLLECTOR, tmp_path)


def test_a_users_process_is_not_frozen(tmp_path):
    """What a notebook's user made before may still become garbage."""
    _python("import gc\nfrom tidemill.wiring.loading import loading\nwith loading():\n    pass\n"
            "assert gc.isenabled() and not gc.get_freeze_count()", tmp_path)  # fmt: skip


def test_loading_behind_an_import_of_duckdb_prints_nothing_at_the_end(tmp_path):
    """DuckDB tells of everything that is not collected when the process ends, so nothing is frozen with it loaded."""
    _python(_AFTER_DUCKDB, tmp_path)
