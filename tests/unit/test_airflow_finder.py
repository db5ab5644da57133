"""When and where Airflow's names are found: in files that name it, beside packages of providers, and nowhere else."""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from tidemill.compat.airflow.finder import NotServed, serving
from tidemill.wiring.trials import try_dag


def test_nothing_of_it_is_there_outside(read):
    read("from airflow.sdk import DAG\n\nwith DAG('d', schedule=None): ...\n")
    assert not [name for name in sys.modules if name == "airflow" or name.startswith("airflow.")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("airflow.sdk")


def test_a_library_that_looks_for_airflow_finds_none_in_a_file_that_does_not_name_it(read, tmp_path):
    """One is dlt: it would ask for variables later, where nothing is served."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "a_library.py").write_text(
        "try:\n    from airflow.models import Variable\nexcept ImportError:\n    Variable = None\n"
    )
    text = (
        "import a_library\nimport tidemill as tm\np = tm.Pipeline('none' if a_library.Variable is None else 'found')\n"
    )
    assert set(read(text, "own.py")) == {"none"}
    del sys.modules["a_library"]
    assert set(read(f"{text}# of airflow\n", "theirs.py")) == {"found"}
    del sys.modules["a_library"]


def test_nor_does_one_that_a_task_imports(read, tmp_path):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "looks.py").write_text(
        "def find():\n    try:\n        import airflow\n        return 'found'\n"
        "    except ImportError:\n        return 'none'\n"
    )
    text = """
import tidemill as tm

with tm.DAG("d", schedule="@daily", start="2026-01-01"):
    @tm.task
    def look():
        from looks import find
        return find()
    look()
"""
    for file, more, found in (("own.py", "", "none"), ("theirs.py", "# of airflow\n", "found")):
        assert try_dag(read(text + more, file)["d"], "2026-01-15").result("look") == found


def test_blocks_of_several_threads_may_overlap():
    """The names are there until the last one is over, and gone then."""
    both, first_is_over = Barrier(2), Event()

    def first():
        with serving():
            both.wait(60)
        first_is_over.set()

    def second():
        with serving():
            both.wait(60)
            assert first_is_over.wait(60)
            return importlib.import_module("airflow.sdk").DAG

    with ThreadPoolExecutor(2) as threads:
        done = threads.submit(first), threads.submit(second)
        assert done[1].result().__name__ == "DAG"
    assert "airflow" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("airflow.sdk")


def test_the_real_package_is_left_alone(tmp_path, read):
    real = tmp_path / "site" / "airflow"
    real.mkdir(parents=True)
    (real / "__init__.py").write_text("WHO = 'the real one'\n")
    sys.path.insert(0, str(real.parent))
    try:
        with serving():
            assert importlib.import_module("airflow").WHO == "the real one"
            with pytest.raises(ModuleNotFoundError) as caught:
                importlib.import_module("airflow.sdk")
            assert not isinstance(caught.value, NotServed)
    finally:
        del sys.modules["airflow"]


def test_packages_of_providers_are_found_where_they_are_installed(tmp_path, read):
    folder = tmp_path / "site" / "airflow" / "providers" / "acme"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "operators.py").write_text(
        "from airflow.models import BaseOperator\n\nclass Acme(BaseOperator):\n"
        "    template_fields = ('what',)\n"
        "    def __init__(self, *, what, **kwargs):\n        super().__init__(**kwargs)\n        self.what = what\n"
        "    def execute(self, context):\n        return self.render_template('{{ ds }}/', context) + self.what\n"
    )
    sys.path.insert(0, str(folder.parents[2]))
    text = "from airflow import DAG\nfrom airflow.providers.acme.operators import Acme\n"
    dag = read(text + "with DAG('d', schedule='@daily'):\n    Acme(task_id='a', what='{{ run_id }}')\n")["d"]
    assert try_dag(dag, "2026-01-15").result("a") == "2026-01-15/manual__2026-01-15T00:00:00+00:00"


def test_packages_without_a_file_of_their_own_are_looked_for_anew_where_the_search_path_changes(tmp_path, read):
    for site, name in (("one", "first"), ("two", "second")):
        folder = tmp_path / site / "airflow" / "providers" / "acme" / "parts"
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text("HERE = __name__\n")
    for site, name, other in (("one", "first", "second"), ("two", "second", "first"), ("one", "first", "second")):
        sys.path.insert(0, str(tmp_path / site))
        with serving():
            found = importlib.import_module(f"airflow.providers.acme.parts.{name}")
            assert f"airflow.providers.acme.parts.{name}" == found.HERE
            with pytest.raises(NotServed):
                importlib.import_module(f"airflow.providers.acme.parts.{other}")
            assert importlib.import_module("airflow.sdk").DAG
        sys.path.remove(str(tmp_path / site))


def test_a_package_is_found_anew_when_another_folder_has_it(tmp_path, read, monkeypatch):
    """The first one is a folder without `__init__.py`, below a folder that is searched as well."""
    site = tmp_path / "site"
    (tmp_path / "bare" / "airflow" / "providers" / "acme" / "things").mkdir(parents=True)
    (site / "airflow" / "providers" / "acme").mkdir(parents=True)
    (site / "airflow" / "providers" / "acme" / "__init__.py").write_text("WHO = 'acme'\n")
    text = "from airflow import DAG\nfrom airflow.providers.acme import {}\nwith DAG('d', schedule=None): pass\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(tmp_path), str(tmp_path / "bare")])
        read(text.format("things"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(site)])
    assert list(read(text.format("WHO"))) == ["d"]
