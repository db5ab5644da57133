"""`.airflowignore`: files of a DAG folder that are left out, by either syntax."""

import pytest

from tidemill.model.errors import SettingsError, UnknownName
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.project import pipeline_files
from tidemill.wiring.settings import load_settings

FILES = ("a.py", "old.py", "lib/old.py", "lib/used.py", "lib/deep/b.py", "parts/x1.py", "parts/keep.py", "own/c.py")
DAG = "from airflow import DAG\nDAG({name!r}, schedule='@daily')\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with files of DAGs; makes its settings."""
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    for file in FILES:
        path = tmp_path / "dags" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(DAG.format(name=file.replace("/", ".")))

    def made(syntax=None, **ignored):
        ignore = f'\n[airflow]\nignore = "{syntax}"\n' if syntax else ""
        text = f'[project]\nname = "p"\npipelines = ["dags/**/*.py"]\n{ignore}'
        (tmp_path / "tidemill.toml").write_text(text)
        for folder, lines in ignored.items():
            (tmp_path / "dags" / folder.replace("_", "") / ".airflowignore").write_text(lines)
        return load_settings(tmp_path)

    return made


def _read(settings):
    return {file.relative_to(settings.root / "dags").as_posix() for file in pipeline_files(settings)}


def test_globs_are_those_of_gitignore(project):
    lines = "# not these\n/old.py\nlib/**\n!lib/used.py\nparts/*.py  # all\n!keep.py\nown/\n[!a-z].py\n"
    assert _read(project(_=lines)) == {"a.py", "lib/used.py", "parts/keep.py"}
    # A file in a folder is about what lies below it, after those above it.
    assert _read(project(_="old.py\n", lib="deep/\n!old.py\n")) == {
        "a.py", "lib/old.py", "lib/used.py", "parts/x1.py", "parts/keep.py", "own/c.py"
    }  # fmt: skip


def test_expressions_are_searched_for_in_the_path(project):
    assert _read(project("regexp", _="^lib/.*old\\.py$\nparts/x[0-9]\n(\nown\n")) == {
        "a.py", "old.py", "lib/used.py", "lib/deep/b.py", "parts/keep.py"
    }  # fmt: skip


def test_a_change_of_the_file_is_heard_of(project):
    first = parse_once(project(_="lib/\nparts/\nown/\nold.py\n"))
    assert (first.files, first.changed) == (1, ("a.py",))
    settings = project(_="lib/\nparts/\nown/\na.py\n")
    assert parse_once(settings).changed == ("a.py", "old.py")


@pytest.mark.parametrize(
    ("line", "error"),
    [('ignore = "no"', UnknownName), ('timezone = "Mars"', SettingsError), ("max_active_runs = 0", SettingsError),
     ("catchup = 1", SettingsError)],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(tmp_path, line, error):
    (tmp_path / "tidemill.toml").write_text(f"[airflow]\n{line}\n")
    with pytest.raises(error, match="airflow"):
        load_settings(tmp_path)


def test_dags_take_what_they_do_not_say_from_the_settings(project, tmp_path):
    settings = project()
    with (tmp_path / "tidemill.toml").open("a") as file:
        file.write('[airflow]\ntimezone = "Europe/Oslo"\ncatchup = true\nmax_active_runs = 3\nmax_active_tasks = 5\n')
    text = """
from datetime import datetime, timezone
from airflow import DAG
DAG("a", schedule="0 6 * * *", start_date=datetime(2026, 1, 1))
DAG("b", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, max_active_runs=1)
DAG("c", schedule="@daily", default_args={"start_date": datetime(2026, 1, 1)})
DAG("d", schedule="@daily")
"""
    (tmp_path / "dags" / "a.py").write_text(text)
    from tidemill.wiring.project import declared_in

    made = {
        name: dag.definition()
        for name, dag in declared_in(load_settings(settings.root), tmp_path / "dags" / "a.py").items()
    }
    assert [(one.zone, one.catchup, one.max_active_runs) for one in made.values()] == [
        ("Europe/Oslo", True, 3), ("UTC", False, 1), ("Europe/Oslo", True, 3), ("Europe/Oslo", True, 3)
    ]  # fmt: skip
    assert made["a"].start.utcoffset().total_seconds() == 3600
