"""The repository keeps its promises: the front door works, the build is capped and locked, nothing odd is tracked."""

import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import layering
import tidemill

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COMMANDS = ("demo", "test", "lint", "bench", "docs", "screenshots")


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def run(*arguments, at=ROOT, **options):
    return subprocess.run([str(at / "run"), *arguments], capture_output=True, text=True, **options)


# The front door


def test_run_needs_only_the_standard_library():
    front_door = layering.Module("run", Path("run"), (ROOT / "run").read_text("utf-8"))
    assert {imported.top for imported in front_door.imports} <= sys.stdlib_module_names | {"__future__"}


def test_run_and_ci_can_be_executed():
    assert os.access(ROOT / "run", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT).returncode == 0


def test_help_names_every_command():
    result = run("--help")
    assert result.returncode == 0
    assert all(f"./run {command}" in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["tests"], ["bench"], ["bench", "nothing"]])
def test_a_command_that_does_not_exist_exits_with_2_and_shows_those_that_do(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    shown = result.stdout + result.stderr
    benches = (
        "one of: airflow_files, cdc, destinations, fire, kills, load, objects, orchestrate, runs, simulate, sources, "
        "startup, stream, stream_limits, web\n"
    )
    assert (benches if "bench" in arguments else "demo") in shown


@pytest.fixture
def checkout(tmp_path):
    """A small project with Tidemill's `run`, a lock file without packages, and a bench that tells about itself."""
    if shutil.which("uv") is None and not (ROOT / ".uv" / "bin" / "uv").exists():
        pytest.skip("uv is neither on PATH nor in .uv")
    shutil.copy2(ROOT / "run", tmp_path / "run")
    if (ROOT / ".uv").exists():
        (tmp_path / ".uv").symlink_to(ROOT / ".uv")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\nrequires-python = ">=3.11"\n[dependency-groups]\ndev = []\n'
    )
    (tmp_path / "uv.lock").write_text(
        'version = 1\nrequires-python = ">=3.11"\n\n[[package]]\nname = "small"\nversion = "1"\n'
        'source = { virtual = "." }\n\n[package.metadata]\n\n[package.metadata.requires-dev]\ndev = []\n'
    )
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "tell.py").write_text(
        "# ./run bench tell\nimport os, sys\nprint(sys.prefix, os.getcwd(), sys.argv[1:])\nsys.exit(7)\n"
    )
    return tmp_path


def offline(path_of_programs=None):
    variables = {**os.environ, "UV_OFFLINE": "1"}
    if path_of_programs is not None:
        variables["PATH"] = path_of_programs
    return variables


def test_the_first_start_installs_and_the_exit_code_is_passed_on(checkout):
    result = run("bench", "tell", "a", "--b", at=checkout, env=offline())
    assert result.returncode == 7, result.stderr
    assert result.stdout.split() == [str(checkout / ".venv"), str(checkout), "['a',", "'--b']"]
    assert "installing the locked dependencies" in result.stderr


def test_the_second_start_needs_neither_network_nor_uv(checkout):
    run("bench", "tell", at=checkout, env=offline())
    folder = checkout / "programs"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    (folder / "env").symlink_to(shutil.which("env"))
    result = run("bench", "tell", at=checkout, env=offline(str(folder)))
    assert (result.returncode, result.stderr) == (7, "")


@pytest.mark.parametrize("changed", ["uv.lock", "pyproject.toml"])
def test_a_changed_lock_is_installed(checkout, changed):
    run("bench", "tell", at=checkout, env=offline())
    with (checkout / changed).open("a") as file:
        file.write("\n# changed\n")
    assert "installing" in run("bench", "tell", at=checkout, env=offline()).stderr
    assert "installing" not in run("bench", "tell", at=checkout, env=offline()).stderr


def test_an_interrupted_installation_is_repeated(checkout):
    run("bench", "tell", at=checkout, env=offline())
    lock = (checkout / "uv.lock").read_text()
    (checkout / "uv.lock").write_text("not a lock file")
    broken = run("bench", "tell", at=checkout, env=offline())
    assert broken.returncode not in (0, 7)
    assert "the locked dependencies could not be installed" in broken.stderr
    (checkout / "uv.lock").write_text(lock)
    result = run("bench", "tell", at=checkout, env=offline())
    assert result.returncode == 7
    assert "installing" in result.stderr


def test_the_demo_does_not_thin_out_a_developers_environment(checkout):
    """What `./run test` installed is more than the demo needs, and stays."""
    run("bench", "tell", at=checkout, env=offline())
    assert "installing" not in run("demo", at=checkout, env=offline()).stderr


@pytest.mark.parametrize(
    ("arguments", "parallel", "told"),
    [
        ([], True, []),
        (["--quick"], True, ["-m", "not slow"]),
        (["tests/unit", "--pdb"], False, ["tests/unit", "--pdb"]),
        (["--quick", "tests/cli"], False, ["-m", "not slow", "tests/cli"]),
    ],
)
def test_the_suite_uses_all_cores_and_what_is_asked_for_by_name_one_process(monkeypatch, arguments, parallel, told):
    front_door = load_run()
    monkeypatch.setattr(front_door, "set_up", lambda _profile: None)
    monkeypatch.setattr(front_door, "become", lambda command: command[3:])
    assert front_door.test(arguments) == told + (front_door.PARALLEL if parallel else [])


# The automatic build


@pytest.mark.parametrize(
    ("lint", "test", "summary", "code"),
    [
        (0, 0, "12 passed in 1.0s", 0),
        (0, 1, "1 failed, 12 passed in 1.0s", 1),
        (0, 5, "no tests ran in 0.1s", 5),
        (0, 0, "12 skipped in 1.0s", 1),
        (0, 0, "0 passed in 1.0s", 1),
        (0, 0, "", 1),
        (1, 0, "12 passed in 1.0s", 1),
    ],
)
def test_the_build_passes_only_when_lint_and_tests_do_and_something_passed(tmp_path, lint, test, summary, code):
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    programs = {
        "run": f"[ $1 = lint ] && exit {lint}\n[ \"$CI\" = true ] && echo '{summary}'\nexit {test}",
        # So that nothing is installed: the build looks whether these are there.
        "programs/initdb": "",
        "programs/mariadbd": "",
        "programs/rabbitmq-server": "",
        "programs/redis-server": "",
        "programs/uv": "",
    }
    for name, body in programs.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}"}
    build = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, env=variables)
    assert build.returncode == code, build.stdout + build.stderr


# Packaging and files


@pytest.mark.parametrize("package", ["duckdb", "polars", "pyarrow", "pyiceberg", "sqlglot", "sqlalchemy"])
def test_what_moves_fast_is_capped(package):
    (requirement,) = [r for r in PROJECT["project"]["dependencies"] if re.match(rf"{package}\b", r)]
    assert re.search(r"<\d", requirement)


def test_the_lock_file_is_that_of_the_project():
    """Every dependency that the project names is locked."""
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]}
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = PROJECT["dependency-groups"].values()
    asked = [*PROJECT["project"]["dependencies"], *(r for part in (*extras, *groups) for r in part)]
    named = {
        re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower() for requirement in asked if "win32" not in requirement
    }
    assert named - locked == set()


def test_the_changelog_begins_with_this_version():
    released = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert released[0] == tidemill.__version__


def test_the_build_runs_the_two_commands_of_the_readme():
    build = (ROOT / ".ci" / "run").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    for command in ("./run lint", "./run test"):
        assert re.search(rf"^{command}\b", build, re.M)
    assert "./run demo" in readme
    assert "./run test" in readme


def test_no_tracked_file_holds_a_path_of_somebodys_machine():
    pattern = re.compile(rb"(?<![\w.])/(work|root|tmp|home/\w+|Users/\w+)/")
    texts = [path for path in tracked() if path.suffix not in (".gz", ".png")]
    assert [str(path.relative_to(ROOT)) for path in texts if pattern.search(path.read_bytes())] == []


def test_no_code_is_left_for_later():
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix == ".py" and path != Path(__file__) and pattern.search(path.read_text("utf-8"))
    }
    assert found == set()


def test_test_files_have_unique_names():
    """Pytest's importlib mode would run two of one name as different modules, and reports would confuse them."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def load_run():
    loader = importlib.machinery.SourceFileLoader("front_door", str(ROOT / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("front_door", loader))
    loader.exec_module(module)
    return module


def test_every_extra_of_the_front_door_exists():
    flags = [flag for flags in load_run().PROFILES.values() for flag in flags if not flag.startswith("--")]
    assert set(flags) <= set(PROJECT["project"]["optional-dependencies"])
