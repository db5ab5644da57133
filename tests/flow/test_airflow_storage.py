"""Paths of Airflow's object storage: the same words for a bucket and for this computer's files."""

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from harness.s3keys import KEY, SECRET
from tidemill.compat.airflow.storage import ObjectStoragePath
from tidemill.model.batch import Interval
from tidemill.wiring.project import declared_in
from tidemill.wiring.settings import Settings
from tidemill.wiring.trials import try_dag

FILE = """
import duckdb
import polars as pl
from airflow.sdk import DAG, ObjectStoragePath, task

base = ObjectStoragePath({base!r})

with DAG("d", schedule="@daily"):
    @task
    def write(ds=None) -> ObjectStoragePath:
        base.mkdir(parents=True, exist_ok=True)
        path = base / "in" / f"air_{{ds}}.parquet"
        with path.open("wb") as file:
            pl.DataFrame({{"a": [1, 2]}}).write_parquet(file)
        return path

    @task
    def look(path: ObjectStoragePath):
        connection = duckdb.connect()
        connection.register_filesystem(path.fs)
        rows = connection.execute(f"select sum(a) from read_parquet('{{path.protocol}}://{{path.path}}')").fetchone()
        return [rows[0], path.exists(), path.is_dir(), path.parent.is_dir(), path.stat().st_mtime > 0, path.size() > 0]

    @task
    def go_on():
        text = base / "out" / "a.txt"
        assert text.write_text("ø rows") == 6
        text.copy(base / "out" / "deep" / "b.txt")
        (base / "out").copy(base / "all", recursive=True)
        text.copy(ObjectStoragePath("file://{local}/"))
        kept = text.rename(base / "out" / "c.txt")
        with kept.open() as file:
            line = file.read()
        found = sorted(one.key.removeprefix(base.key).lstrip("/") for one in base.rglob("*.txt"))
        kept.unlink()
        kept.unlink(missing_ok=True)
        try:
            kept.unlink()
        except FileNotFoundError:
            gone = not kept.exists()
        return [line, found, gone, sorted(one.name for one in (base / "out").iterdir())]

    look(write()) >> go_on()
"""
DAY = Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC) + timedelta(days=1))


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The DAG of a file's text."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def read(text):
        file = tmp_path / "dags" / "a_dag.py"
        file.parent.mkdir()
        file.write_text(text)
        return declared_in(Settings(tmp_path, "p", ("dags/*.py",)), file)

    return read


@pytest.fixture(params=["s3", "file"])
def base(request, tmp_path, monkeypatch):
    if request.param == "file":
        return f"file://{tmp_path}/store"
    store = request.getfixturevalue("object_store")
    lake = {"conn_type": "aws", "login": KEY, "password": SECRET,
            "extra": {"region_name": "us-east-1", "endpoint_url": store.endpoint}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(lake))
    return f"s3://lake@{store.bucket()}/below"


def test_files_of_a_store(base, read, tmp_path):
    local = tmp_path / "local"
    trial = try_dag(read(FILE.format(base=base, local=local))["d"], DAY)
    assert trial.errors == {}
    assert trial.result("look") == [3, True, False, True, True, True]
    line, found, gone, left = trial.result("go_on")
    assert (line, gone, left) == ("ø rows", True, ["deep"])
    assert found == ["all/a.txt", "all/deep/b.txt", "out/c.txt", "out/deep/b.txt"]
    assert [one.read_text("utf-8") for one in local.rglob("a.txt")] == ["ø rows"]


def test_paths_are_values():
    path = ObjectStoragePath("s3://lake@bucket/a/", "b.csv.gz")
    assert (path.protocol, path.conn_id, path.bucket, path.key) == ("s3", "lake", "bucket", "a/b.csv.gz")
    assert (path.name, path.stem, path.suffix, path.namespace) == ("b.csv.gz", "b.csv", ".gz", "s3://bucket")
    assert str(path.with_suffix(".br")) == "s3://bucket/a/b.csv.br"
    assert path.parent == ObjectStoragePath("s3://bucket/a", conn_id="lake") != ObjectStoragePath("s3://bucket/a")
    assert path.parent.parent.parent == path.parent.parent
    assert path.samestore(path.parent)
    assert not path.samestore(ObjectStoragePath("/a"))
    assert ObjectStoragePath("/data") / "x" == ObjectStoragePath("file:///data/x")
    assert ObjectStoragePath(path, conn_id="other").conn_id == "other"


WRONG = """
from airflow.sdk import DAG, ObjectStoragePath, task
with DAG("d", schedule=None):
    @task
    def far(address):
        ObjectStoragePath(address).read_bytes()
    far.expand(address=["gs://bucket/a", "s3://nobody@bucket/a", "no/such/file"])
"""


def test_what_cannot_be_reached_is_told(read):
    errors = try_dag(read(WRONG)["d"]).errors
    assert 'Files of "gs://" cannot be reached' in errors["far[0]"]
    assert 'no connection "nobody"' in errors["far[1]"]
    assert "FileNotFoundError" in errors["far[2]"]
