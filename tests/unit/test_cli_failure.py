"""What people see of errors, word for word, and the exit code of each kind."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from tidemill.cli.command import Command
from tidemill.cli.failure import explain, short
from tidemill.cli.invocation import Invocation
from tidemill.cli.main import Root, root
from tidemill.model.errors import (
    CheckFailed,
    Conflict,
    ContractError,
    DefinitionError,
    Refused,
    SettingsError,
    UnknownName,
    Unreachable,
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No project, and no code of the user's, in the current folder."""
    monkeypatch.chdir(tmp_path)


def tidemill(*arguments, program=root):
    return CliRunner().invoke(program, list(arguments), prog_name="tidemill")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doctr"], 'error: There is no command "doctr".\n  try: did you mean "tidemill doctor"?\n'),
        (["xyzzy"], 'error: There is no command "xyzzy".\n  try: tidemill --help\n'),
        (["backfill", "jobs"], 'error: There is no command "jobs".\n  try: tidemill backfill run jobs\n'),
        (["data", "sohw"], 'error: There is no command "sohw".\n  try: did you mean "tidemill data show"?\n'),
        (["run", "--refech"], 'error: There is no option "--refech".\n  try: did you mean "--refetch"?\n'),
        (["run"], 'error: Missing argument "PIPELINE".\n  try: tidemill run --help\n'),
        (["run", "flights", "--branch", "x"], 'error: "tidemill run" takes no --branch.\n  try: tidemill run --help\n'),
        (["--branch", "x", "doctor"], 'error: "tidemill doctor" takes no --branch.\n  try: tidemill doctor --help\n'),
        (["replay", "zero"], "error: Invalid value for \"BATCH...\": \"zero\" is not a valid integer range.\n"
                             "  try: tidemill replay --help\n"),
        (["data", "vacuum", "--grace", "soon"], "error: Invalid value for \"--grace\": \"soon\" is no age such as 30m, "
                                                "24h or 7d\n  try: tidemill data vacuum --help\n"),
        (["query"], 'error: Missing argument "SQL".\n  try: tidemill query --help\n'),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line(arguments, message):
    result = tidemill(*arguments)
    assert result.stderr == message
    assert result.stdout == ""
    assert result.exit_code == 2


def test_an_option_that_would_be_ignored_is_refused():
    result = tidemill("demo", "--json")
    assert result.stderr == 'error: "tidemill demo" takes no --json.\n  try: tidemill demo --help\n'
    assert json.loads(result.stdout)["error"]["exit_code"] == 2


def raising(error):
    """A program with one command that fails."""

    def fail():
        raise error

    program = Root("tidemill", params=root.params)
    program.get_command = lambda _ctx, name: Command("fail", callback=fail, reads=True) if name == "fail" else None
    return program


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (UnknownName.of("pipeline", "fligths", ["flights", "weather"], where="pipelines/*.py"),
         'error: There is no pipeline "fligths".\n  at: pipelines/*.py\n  try: did you mean "flights"?\n', 2),
        (UnknownName.of("branch", "x", []), 'error: There is no branch "x".\n  try: there is no branch yet\n', 2),
        (DefinitionError("This feed has no name.", where="pipelines/a.py:3", hint='pass name="departures"'),
         'error: This feed has no name.\n  at: pipelines/a.py:3\n  try: pass name="departures"\n', 2),
        (SettingsError("The settings cannot be read."), "error: The settings cannot be read.\n", 2),
        (ContractError("3 of 10 rows do not fit.\n+ gate string", hint="tidemill data show t__quarantine"),
         "error: 3 of 10 rows do not fit.\n  + gate string\n  try: tidemill data show t__quarantine\n", 1),
        (CheckFailed('A check of "t" failed: unique(id): 2 rows.'),
         'error: A check of "t" failed: unique(id): 2 rows.\n', 1),
        (Conflict("Somebody was faster.", hint="run it again"),
         "error: Somebody was faster.\n  try: run it again\n", 1),
        (Refused('"main" cannot be dropped.'), 'error: "main" cannot be dropped.\n', 1),
        (Unreachable("The metadata database does not answer.", where="db:5432/lake", hint="try again later"),
         "error: The metadata database does not answer.\n  at: db:5432/lake\n  try: try again later\n", 3),
        (FileNotFoundError(2, "No such file or directory", "feeds/a.csv"),
         "error: No such file or directory: feeds/a.csv.\n  try: tidemill fail --debug\n", 1),
        (KeyboardInterrupt(), "\ninterrupted\n", 130),
        (click.Abort(), "interrupted\n", 130),
    ],
)  # fmt: skip
def test_an_error_says_what_where_and_what_to_try(error, message, code):
    result = tidemill("fail", program=raising(error))
    assert result.stderr == message
    assert result.stdout == ""
    assert result.exit_code == code


def test_a_defect_of_ours_is_called_that():
    result = tidemill("fail", program=raising(KeyError("x")))
    first, second, third = result.stderr.splitlines()[:3]
    assert (first, second) == ("error: KeyError: 'x'", "  This is a defect of Tidemill, not of the project.")
    assert third.startswith("  at: test_cli_failure.py:")
    assert result.exit_code == 1


def test_there_is_no_traceback_unless_asked_for():
    error = DefinitionError("wrong")
    assert "Traceback" not in tidemill("fail", program=raising(error)).stderr
    assert "Traceback" in tidemill("fail", "--debug", program=raising(error)).stderr
    assert "Traceback" in tidemill("--debug", "fail", program=raising(error)).stderr


def test_json_gives_one_object_with_the_error():
    result = tidemill("fail", "--json", program=raising(DefinitionError("wrong", where="a.py:1", hint="right")))
    assert json.loads(result.stdout) == {
        "error": {"kind": "DefinitionError", "what": "wrong", "where": "a.py:1", "hint": "right", "exit_code": 2}
    }


def test_an_error_in_the_users_code_begins_with_the_users_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shop.py"
    file.write_text("def clean(orders):\n    rate = 1 / 0\n    return rate\n")
    names = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["clean"](None)
    invocation = Invocation()
    invocation.arguments = ["run", "shop", "2026-01-01"]
    assert explain(caught.value, invocation).lines(lambda text, _style: text) == [
        "shop.py:2, in clean",
        "    rate = 1 / 0",
        "ZeroDivisionError: division by zero",
        "  try: tidemill run shop 2026-01-01 --debug",
    ]


def test_an_error_without_a_line_of_the_users_names_where_the_task_is_declared():
    failure = explain(ValueError("bad"), Invocation(), place="pipelines/shop.py:9")
    assert failure.lines(lambda text, _style: text)[:2] == ["error: ValueError: bad", "  at: pipelines/shop.py:9"]


def test_paths_are_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short(f"{tmp_path}/pipelines/shop.py:3") == "pipelines/shop.py:3"
    assert short("/elsewhere/shop.py:3") == "/elsewhere/shop.py:3"


def test_outside_a_project_nothing_is_made(tmp_path, monkeypatch):
    """A reading command in any folder must not leave a database there."""
    monkeypatch.chdir(tmp_path)
    result = tidemill("data", "batches")
    assert result.stderr == (
        f'error: There is no project at or above "{tmp_path}".\n  try: tidemill init my_project, or --project FOLDER\n'
    )
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    result = tidemill("data", "batches", "--project", str(tmp_path / "none"))
    assert result.stderr == (
        f'error: There is no folder "{tmp_path}/none".\n  try: --project names the folder of tidemill.toml\n'
    )
    assert result.exit_code == 2
