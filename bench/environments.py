"""Virtual environments of the peers, under bench/.peers: one for each set of requirements, made once.

Tidemill itself is measured in the checkout's own `.venv`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / ".peers"

#: Environment -> what is installed. Versions are fixed, so that figures of two days can be compared. dlt gets the
#: DuckDB that is best for it: its default way loaded 100,000 flat rows at 2,400/s into DuckDB 2.0 with 4.5 GB of
#: memory, and at 5,000/s into 1.5.6 with 1.1 GB.
REQUIREMENTS = {
    "duckdb": ["duckdb==2.0.0"],
    "airflow": ["apache-airflow==3.3.2"],
    "dagster": ["dagster==1.13.27"],
    # FastAPI is pinned: newer ones, which Prefect allows, break it.
    "prefect": ["prefect==3.8.8", "fastapi==0.150.0"],
    "dbos": ["dbos==3.4.0", "psycopg[binary]"],
    "quix": ["quixstreams==3.28.1", "rocksdict"],
    "faust": ["faust-streaming==0.15.3", "cramjam", "orjson"],
    "dlt-sql": [
        "dlt[duckdb,parquet,sql_database]==1.31.0",
        "duckdb==1.5.6",
        "pyarrow==26.0.1",
        "psycopg2-binary>=2.9,<3",
        "connectorx>=0.4,<0.5",
    ],
    "target-postgres": ["meltanolabs-target-postgres==0.8.1"],
    "dlt-destinations": ["dlt[duckdb,parquet,postgres]==1.31.0", "duckdb==1.5.6", "pyarrow==26.0.1"],
    "dlt": ["dlt[duckdb,parquet]==1.31.0", "duckdb==1.5.6", "pyarrow==26.0.1"],
}


class Missing(Exception):
    """An environment could not be made."""


def python(name: str) -> str:
    """The interpreter of an environment, which is made where it does not exist. Raises Missing."""
    if name == "tidemill":
        return sys.executable
    folder = PEERS / name
    interpreter = folder / "bin" / "python"
    stamp = folder / "installed.json"
    wanted = REQUIREMENTS[name]
    if stamp.exists() and json.loads(stamp.read_text("utf-8")) == wanted:
        return str(interpreter)
    uv = shutil.which("uv") or shutil.which(str(ROOT / ".uv" / "bin" / "uv"))
    if uv is None:
        raise Missing("uv is needed to install the peers and is neither on PATH nor in .uv")
    print(f"installing {' '.join(wanted)} into bench/.peers/{name} ...", file=sys.stderr, flush=True)
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(interpreter), *wanted],
    ):
        if subprocess.run(command).returncode:
            raise Missing(f"bench/.peers/{name} could not be made: {' '.join(command)}")
    stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return str(interpreter)
