"""What tests of several parts share."""

import sys

import pytest

from tidemill.wiring.project import declared_in
from tidemill.wiring.settings import Settings


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads the text of a DAG file as the parser does."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def read(text, name="a_dag.py"):
        file = tmp_path / "dags" / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)
        return declared_in(Settings(tmp_path, "p", ("dags/**/*.py",)), file)

    return read
