"""Reading users' files: each mistake is one clear record beside its file, and every other pipeline stays.

Real processes read real files. Where something follows changes, the test waits for its bell.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from harness.parsing import PATIENCE, Folder, following, wait_for
from tidemill.model.errors import SettingsError
from tidemill.wiring.parsing import code_settings, code_versions
from tidemill.wiring.settings import load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


#: Mistake -> (the file, what is told, the line, a part of the hint).
MISTAKES = {
    "a syntax error": ("import tidemill as tm\np = tm.Pipeline(\n", "SyntaxError: '(' was never closed", 2, "python"),
    "an import that is not there": ("import nosuchlib\n", "ModuleNotFoundError: No module", 1, "install nosuchlib"),
    "an error of any kind": ("x = 1\ny = {}['z']\n", "KeyError: 'z'", 2, "python"),
    "an end": ("import sys\nsys.exit(3)\n", "ends the program when it is imported (exit code 3)", 2, "__main__"),
    "a hard end": ("import os\nos._exit(7)\n", "Reading the file ended with exit code 7", None, "python"),
    "a crash": ("import os, signal\nos.kill(os.getpid(), 11)\n", "was killed by signal 11", None, "python"),
    "a circle": (
        """
        import tidemill as tm
        p = tm.Pipeline("p")
        p.sql(text='select * from {{ ref("b") }}', name="a")
        p.sql(text='select * from {{ ref("a") }}', name="b")
        """,
        "read each other in a circle: a -> b -> a", 4, "take one of these inputs out",
    ),
    "two tables of one name": (
        """
        import tidemill as tm
        p = tm.Pipeline("p")
        p.files("a", name="t")
        p.files("b", name="t")
        """,
        'has two tables named "t"', 5, "the other one is at pipelines/bad.py:4",
    ),
    "two pipelines of one name": (
        'import tidemill as tm\na = tm.Pipeline("p")\nb = tm.Pipeline("p")\n',
        'There are two pipelines named "p"', 3, "the other one is at pipelines/bad.py:2",
    ),
    "a circle of tasks": (
        """
        import tidemill as tm
        from tidemill.operators.empty import EmptyOperator
        with tm.DAG("d") as dag:
            a, b = EmptyOperator(task_id="a"), EmptyOperator(task_id="b")
            a >> b >> a
        """,
        "Tasks wait for each other in a circle", 4, "take one of these dependencies out",
    ),
    "two tasks of one id": (
        """
        import tidemill as tm
        from tidemill.operators.empty import EmptyOperator
        with tm.DAG("d") as dag:
            EmptyOperator(task_id="a")
            EmptyOperator(task_id="a")
        """,
        'exists already in DAG "d"', 6, "the first one is at pipelines/bad.py:5",
    ),
    "a pipeline of another file": (
        'import tidemill as tm\nb = tm.Pipeline("good")\n',
        'Pipeline "good" is made by another file too: pipelines/good.py', 2, "rename",
    ),
    "an exception that is none": ("class E(BaseException): pass\nraise E\n", "E", 2, "None"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_beside_its_file_and_other_pipelines_stay(folder: Folder, mistake: str) -> None:
    text, what, line, hint = MISTAKES[mistake]
    folder.parse()
    folder.write("pipelines/bad.py", text)
    folder.pipeline("pipelines/other.py", "other")
    done = folder.parse()
    assert (done.changed, done.errors) == (("other",), 1)
    (error,) = folder.errors()
    assert error.file == "pipelines/bad.py"
    assert what in error.what
    assert error.place == ("pipelines/bad.py" if line is None else f"pipelines/bad.py:{line}")
    assert hint in str(error.hint)
    assert str(folder.root) not in f"{error.what}{error.place}{error.hint}"
    assert folder.pipelines().keys() == {"good", "other"}
    folder.pipeline("pipelines/bad.py", "mended")
    assert folder.parse().changed == ("mended",)
    assert folder.errors() == []


LOOPS = {
    "one that can be stopped": ("while True:\n    pass\n", "being read after 3 s.", "pipelines/bad.py:"),
    "one in a helper": ("from helper import spin\nx = 1\nspin()\n", "being read after 3 s.", "pipelines/bad.py:3"),
    "one that cannot": (
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass\n",
        "did not let itself be stopped", "pipelines/bad.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_an_endless_loop_is_ended_and_told_while_others_are_read(tmp_path: Path, loop: str) -> None:
    text, what, place = LOOPS[loop]
    folder = Folder(tmp_path, '[pipelines]\ntimeout = "3s"\n')
    folder.write("helper.py", "def spin():\n    while True:\n        pass\n")
    folder.write("pipelines/bad.py", text)
    with following(folder) as parser:
        assert parser.bell() == ["good"], "it is recorded while the other file is still being read"
        folder.pipeline("pipelines/other.py", "other")
        assert parser.bell() == ["other"]
    done = folder.parse()
    assert (done.errors, done.changed) == (1, ())
    (error,) = folder.errors()
    assert what in error.what
    assert str(error.place).startswith(place)
    assert "belongs into a task" in str(error.hint)


def test_a_file_that_is_data_is_not_read(folder: Folder) -> None:
    with (folder.root / "pipelines/bad.py").open("wb") as file:
        file.truncate(50_000_000)
    assert folder.parse().changed == ("good",)
    (error,) = folder.errors()
    assert (error.kind, error.what) == ("LimitError", "The file has 50 MB; a pipeline file may have 10.")


def test_what_is_no_plain_file_is_none_of_the_projects_code(folder: Folder) -> None:
    (folder.root / "pipelines/folder.py").mkdir()
    os.mkfifo(folder.root / "pipelines/pipe.py")
    (folder.root / "pipelines/link.py").symlink_to("/etc/hostname")
    (folder.root / "pipelines/bytes.py").write_bytes(b"\xff\xfe = 1\n")
    assert folder.parse().changed == ("good",)
    assert [error.file for error in folder.errors()] == ["pipelines/bytes.py"]


def test_what_a_file_prints_or_leaves_behind_reaches_nobody(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.write(
        "pipelines/a.py",
        """
        import os, sys
        print("printed")
        os.write(1, b"written")
        os.environ["TIDEMILL_LEFT"] = "x"
        os.chdir("/")
        sys.path.insert(0, "/nowhere")
        """,
    )
    folder.write(
        "pipelines/b.py",
        """
        import os, sys
        import tidemill as tm
        assert "TIDEMILL_LEFT" not in os.environ and os.getcwd() != "/" and "/nowhere" not in sys.path
        p = tm.Pipeline("clean")
        """,
    )
    folder.write("pipelines/json.py", "import tidemill as tm\np = tm.Pipeline('json_')\n")
    assert folder.parse().changed == ("clean", "good", "json_")
    assert folder.errors() == []
    assert capfd.readouterr() == ("", "")


def test_a_file_may_import_data_libraries_and_the_parser_never_does(folder: Folder) -> None:
    folder.write("pipelines/a.py", "import polars, duckdb\nimport tidemill as tm\np = tm.Pipeline('heavy')\n")
    with following(folder, new=True) as parser:
        heard = parser.bell()
        while "heavy" not in heard:
            heard += parser.bell()
        assert sorted(heard) == ["good", "heavy"]
        assert parser.loaded() == set()


def test_changes_are_heard_of(folder: Folder) -> None:
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        folder.pipeline("pipelines/b.py", "b")
        assert parser.bell() == ["b"]
        folder.pipeline("pipelines/b.py", "b", doc="new")
        assert parser.bell() == ["b"]
        (folder.root / "pipelines/b.py").rename(folder.root / "pipelines/c.py")
        assert parser.bell() == ["b"]
        (folder.root / "pipelines/c.py").unlink()
        assert parser.bell() == ["b"]
        folder.pipeline("pipelines/b.py", "c")
        assert parser.bell() == ["c"]
    assert folder.pipelines().keys() == {"good", "c"}


def test_a_folder_that_was_made_a_moment_ago_is_heard_of_too(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("tidemill.toml", '[project]\nname = "test"\npipelines = ["pipelines/**/*.py"]\n')
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        folder.pipeline("pipelines/deep/deeper/x.py", "x")
        assert parser.bell() == ["x"]
        (folder.root / "pipelines/deep").rename(folder.root / "pipelines/moved")
        assert parser.bell() == ["x"]
        folder.pipeline("pipelines/moved/deeper/x.py", "x", doc="new")
        assert parser.bell() == ["x"]
        assert folder.pipelines()["x"].file == "pipelines/moved/deeper/x.py"


def test_a_changed_helper_changes_the_pipelines_that_use_it(folder: Folder) -> None:
    folder.write("helpers/names.py", "from helpers.deep import DOC\n")
    folder.write("helpers/deep.py", "DOC = 'one'\n")
    text = "import tidemill as tm\nfrom helpers.names import DOC\np = tm.Pipeline('uses', doc=DOC)\n"
    folder.write("pipelines/uses.py", text)
    with following(folder) as parser:
        assert parser.bell() == ["good", "uses"]
        before = folder.pipelines()
        folder.write("helpers/deep.py", "DOC = 'two'\n")
        assert parser.bell() == ["uses"]
        after = folder.pipelines()
    assert before["good"].seen_at == after["good"].seen_at, "it was not read again"
    assert before["good"].code != after["good"].code == after["uses"].code, "but its runs get the new code"


def test_another_file_in_a_folder_that_a_pipeline_file_looks_through_makes_it_be_read_again(folder: Folder) -> None:
    folder.write("models/a/one.sql", "select 1")
    folder.write(
        "pipelines/many.py",
        """\
        import os
        import pathlib
        import tidemill as tm
        for _, _, names in os.walk(pathlib.Path(__file__).parents[1] / "models"):
            for name in names:
                tm.Pipeline(name.removesuffix(".sql")).files("x", name="t")
        """,
    )
    with following(folder) as parser:
        assert parser.bell() == ["good", "one"]
        folder.write("models/b/two.sql", "select 2")
        assert "two" in parser.bell()
        before = folder.pipelines()["good"].seen_at
        (folder.root / "models" / "a" / "one.sql").unlink()
        wait_for(lambda: folder.pipelines().keys() == {"good", "two"})
        assert folder.pipelines()["good"].seen_at == before


def test_a_file_with_an_error_is_read_again_when_what_it_lacked_has_come(folder: Folder) -> None:
    folder.write("pipelines/needs.py", "import tidemill as tm\nimport later\np = tm.Pipeline('needs')\n")
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        old = folder.pipelines()["good"].code
        folder.write("later.py", "")
        assert parser.bell() == ["needs"]
    assert {record.code for record in folder.pipelines().values()} != {old}


def test_a_model_in_sql_counts_as_code(folder: Folder) -> None:
    folder.write("pipelines/models/m.sql", "select * from {{ ref('a') }}")
    folder.write(
        "pipelines/s.py",
        """
        import tidemill as tm
        p = tm.Pipeline("s")
        p.files("a", name="a")
        p.files("b", name="b")
        p.sql("models/m.sql")
        """,
    )
    with following(folder) as parser:
        assert parser.bell() == ["good", "s"]
        folder.write("pipelines/models/m.sql", "select * from {{ ref('b') }}")
        assert parser.bell() == ["s"]


def test_a_name_goes_to_the_other_file_when_the_first_lets_go_of_it(folder: Folder) -> None:
    folder.pipeline("pipelines/other.py", "good")
    with following(folder) as parser:
        assert parser.bell() == ["good"]
        assert folder.pipelines()["good"].file == "pipelines/good.py"
        folder.pipeline("pipelines/good.py", "better")
        assert parser.bell() == ["better", "good"]
    assert folder.pipelines()["good"].file == "pipelines/other.py"
    assert folder.errors() == []


def test_what_is_made_in_an_imported_pipeline_file_belongs_to_that_file(folder: Folder) -> None:
    folder.write("pipelines/imports.py", "import good\nimport tidemill as tm\np = tm.Pipeline('mine')\n")
    assert folder.parse().changed == ("good", "mine")
    assert folder.pipelines()["good"].file == "pipelines/good.py"
    assert folder.errors() == []


def test_what_changed_while_nobody_looked_is_found(folder: Folder) -> None:
    folder.pipeline("pipelines/b.py", "b")
    folder.write("pipelines/bad.py", "x x\n")
    folder.parse()
    (folder.root / "pipelines/b.py").unlink()
    (folder.root / "pipelines/bad.py").unlink()
    assert folder.parse().changed == ("b",)
    assert folder.pipelines().keys() == {"good"}
    assert folder.errors() == []


def test_a_broken_file_keeps_the_code_that_its_pipelines_were_read_from(folder: Folder) -> None:
    folder.pipeline("pipelines/b.py", "b")
    first = folder.parse().version
    folder.write("pipelines/b.py", "x x\n")
    second = folder.parse().version
    assert first != second
    assert {name: record.code for name, record in folder.pipelines().items()} == {"good": second, "b": first}
    was = code_settings(load_settings(folder.root), first).root
    assert "Pipeline" in (was / "pipelines/b.py").read_text()
    assert code_versions(load_settings(folder.root)).materialize(second).is_dir()


@pytest.mark.parametrize("how", ["is stopped", "is killed"])
def test_readers_end_with_the_parser_whatever_they_do(tmp_path: Path, how: str) -> None:
    folder = Folder(tmp_path)
    mark = tmp_path / "pid"
    os.mkfifo(mark)
    loop = f"import os\nwith open({str(mark)!r}, 'w') as f: f.write(str(os.getpid()))\nwhile True: pass\n"
    folder.write("pipelines/bad.py", loop)
    with following(folder) as parser:
        reader = os.pidfd_open(int(mark.read_text()))
        if how == "is killed":
            parser.process.kill()
            ready, _, _ = select.select([reader], [], [], PATIENCE)
            assert ready, "the reader goes on"
            return
    assert select.select([reader], [], [], 0)[0], "the reader goes on"


def test_a_project_without_its_folder_of_code_is_told_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path, '[pipelines]\npath = "nowhere"\n')
    with pytest.raises(SettingsError, match="no folder"):
        folder.parse()
