"""Promises of the test harness: what a session says of real services, and that a server it started is gone after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import postgres, services

CONFTEST = """
from harness import services
def pytest_terminal_summary(terminalreporter):
    services.summary(terminalreporter)
"""
TESTS = """
import pytest
from harness import services
@pytest.mark.parametrize("n", range(3))
def test_needs_a_broker(n):
    services.missing("Kafka", "no broker on PATH")
def test_other():
    pytest.skip("needs a GPU")
def test_uses(request):
    services.note_used(request, "PostgreSQL", "15.18")
    services.tell(request, "200 kills")
"""


def session(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull]
    path = str(Path(services.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**{k: v for k, v in os.environ.items() if k != "CI"}, "PYTHONPATH": path, **environment},
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["in one process", "in two"])
def test_a_session_ends_with_the_services_it_used_and_what_it_skipped_by_reason(
    tmp_path: Path, processes: list[str]
) -> None:
    code, said = session(tmp_path, *processes)
    assert code == 0
    block = said[said.index(" services ") :].splitlines()[1:5]
    assert block == [
        "used     PostgreSQL 15.18",
        "skipped  3 x Kafka cannot start: no broker on PATH",
        "skipped  1 x needs a GPU",
        "told     200 kills",
    ]


def test_a_missing_service_is_an_error_under_ci(tmp_path: Path) -> None:
    code, said = session(tmp_path, CI="true")
    assert code == 1
    assert "3 failed" in said
    assert "Kafka cannot start: no broker on PATH (an error because CI=true)" in said


@pytest.mark.postgres
def test_a_server_is_stopped_and_its_files_are_gone_when_the_session_ends() -> None:
    try:
        with postgres.running() as server:
            folder = server.folder
            assert folder.exists()
            assert server.process.poll() is None
    except postgres.CannotStart as error:
        services.missing("PostgreSQL", str(error))
    assert server.process.poll() == 0
    assert not folder.exists()


def test_a_computer_without_postgresql_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres, "PACKAGES", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(postgres.CannotStart, match="apt-get install postgresql"):
        postgres.find_binaries()
