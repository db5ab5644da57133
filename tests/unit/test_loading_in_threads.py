"""Files register what they declare in one place of the process: threads that load a project take turns."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tidemill.model.errors import DefinitionError
from tidemill.wiring.project import find_declared, find_pipeline, load_pipelines
from tidemill.wiring.settings import Settings

#: Long enough for the interpreter to change threads while it is executed.
FILE = """
import tidemill as tm
from tidemill.compat.airflow import names

p = tm.Pipeline("NAME")
sum(range(20_000))
q = tm.Pipeline("NAME_too")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("one", "two", "three"):
        (tmp_path / f"loaded_{name}.py").write_text(FILE.replace("NAME", name))
    return Settings(tmp_path, "p", ("*.py",))


def test_threads_that_load_a_project_each_find_all_of_it(project, monkeypatch):
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: sorted(load_pipelines(project)), range(40)))
            named = list(threads.map(lambda _: find_pipeline(project, "two_too").name, range(40)))
    finally:
        sys.setswitchinterval(switch)
    assert found == [["one", "one_too", "three", "three_too", "two", "two_too"]] * 40
    assert named == ["two_too"] * 40


def test_a_process_that_is_forked_while_a_thread_loads_can_load_too(project, tmp_path):
    """The child has no thread that would ever give the turn back."""
    slow = tmp_path / "slow"
    slow.mkdir()
    os.mkfifo(slow / "gate")
    (slow / "waits.py").write_text(f"open({str(slow / 'gate')!r}).read()\n")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(load_pipelines, Settings(slow, "p", ("*.py",)))
        with open(slow / "gate", "w"):  # opens when the file that is loaded opens it
            child = os.fork()
            if not child:
                signal.alarm(60)
                os._exit(len(load_pipelines(project)))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        assert waiting.result() == {}


def test_a_file_that_does_not_load_keeps_no_pipeline_of_another_one_from_being_found(tmp_path):
    (tmp_path / "a.py").write_text("import tidemill as tm\ntm.Pipeline('half')\n1 / 0\n")
    (tmp_path / "b.py").write_text("import tidemill as tm\ntm.Pipeline('whole')\n")
    settings = Settings(tmp_path, "p", ("*.py",))
    assert find_declared(settings, "whole").name == "whole"
    with pytest.raises(DefinitionError, match="ZeroDivisionError"):
        find_declared(settings, "half")
