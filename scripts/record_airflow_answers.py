"""Records how tasks of Airflow's own example files end under Airflow itself, as the reference of our own runs.

    python scripts/record_airflow_answers.py           all files: half an hour of a slow core
    python scripts/record_airflow_answers.py NAME ...  only files whose names contain one of these
    python scripts/record_airflow_answers.py --go-on   what has no answer yet

Needs `uv`. Airflow gets an environment of its own, below the temporary folder, in the versions below; each DAG of each
file is run by `dag.test()` one after the other, for one day. What comes out is written to
tests/data/airflow/answers.json: the state of each run and of each of its tasks.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ROOT / "tests" / "data" / "airflow" / "answers.json"
#: What is asked. Tests fetch the same wheels.
VERSIONS = {
    "apache-airflow-core": "3.3.2",
    "apache-airflow-task-sdk": "1.3.2",
    "apache-airflow-providers-standard": "1.21.0",
    "apache-airflow-providers-common-compat": "1.23.0",
    "apache-airflow-providers-common-io": "1.11.0",
    "apache-airflow-providers-common-sql": "2.4.0",
    "pendulum": "3.3.0",
}
#: Folders of examples, by the names that answers have them by.
FOLDERS = {
    "core": "airflow/example_dags",
    "standard": "airflow/providers/standard/example_dags",
    "sql": "airflow/providers/common/sql/example_dags",
}
#: The day that every DAG is run for: in the past, a Thursday.
DAY = "2026-01-15"
#: A DAG that does nothing for so long, seconds of the wall, has no answer; less CPU time than that is nothing.
_SECONDS, _BUSY = 100, 0.3


def main(wanted: list[str]) -> int:
    """Record the answers of all files, or of some; returns the exit code."""
    uv = shutil.which("uv")
    if uv is None:
        print("There is no uv on PATH.", file=sys.stderr)
        return 3
    work = Path(tempfile.gettempdir()) / "tidemill-airflow-answers"
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", str(work / "venv")], check=True)
        pins = [f"{name}=={version}" for name, version in VERSIONS.items()]
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *pins], check=True)
    site = next((work / "venv" / "lib").glob("python3*")) / "site-packages"
    home = work / "home"
    environment = _environment(home, site)
    if not (home / "airflow.db").exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run([str(python), "-m", "airflow", "db", "migrate"], check=True, env=environment)
    if wanted != ["--go-on"]:
        _forget(wanted)
    wanted = [one for one in wanted if one != "--go-on"]
    code = 1
    while code:
        command = [str(python), __file__, "--inside", str(site), *wanted]
        process = subprocess.Popen(command, env=environment, cwd=home, stdin=subprocess.DEVNULL, start_new_session=True)
        code = _watched(process)
    return 0


def _forget(wanted: list[str]) -> None:
    """Of the files that are asked for, forget the answers."""
    answers = _read()
    kept = {name: found for name, found in answers.items() if wanted and not any(one in name for one in wanted)}
    _write(kept)


def _watched(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; where a DAG waits for something that never comes, end it, and let another one go on."""
    stat, ticks = Path(f"/proc/{process.pid}/stat"), os.sysconf("SC_CLK_TCK")
    used, since = 0.0, time.monotonic()
    looked = since
    while (code := process.poll()) is None:
        time.sleep(1)
        now = time.monotonic()
        since += max(now - looked - 5, 0)  # this process was stopped itself
        looked = now
        try:
            spent = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:15])) / ticks
        except OSError:
            continue
        if spent > used + _BUSY or ANSWERS.stat().st_mtime > time.time() - 1:
            used, since = spent, now
        if now - since > _SECONDS:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 1
    return code


def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ANSWERS.read_text("utf-8"))["files"] if ANSWERS.exists() else {}
    return found


def _write(files: dict[str, Any]) -> None:
    # Some tasks go by the day of the week, or the hour, at which they run: that of a file which was asked again is its
    # own.
    before = json.loads(ANSWERS.read_text("utf-8"))["asked"] if ANSWERS.exists() else _now()
    made = {
        "versions": VERSIONS,
        "day": DAY,
        "asked": before if files else _now(),
        "files": dict(sorted(files.items())),
    }
    ANSWERS.write_text(json.dumps(made, indent=1) + "\n", "utf-8")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def _environment(home: Path, site: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "VIRTUAL_ENV"))}
    return {
        **clean,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(site / "airflow" / "example_dags" / "plugins"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }


def _record(site: Path, wanted: list[str]) -> None:
    """In a process with Airflow: each file, and each DAG of it, that has no answer yet."""
    for label, folder in FOLDERS.items():
        for file in sorted((site / folder).glob("*.py")):
            name = f"{label}/{file.name}"
            if file.name != "__init__.py" and (not wanted or any(one in name for one in wanted)):
                _answer(site, name, file)


def _answer(site: Path, name: str, file: Path) -> None:
    """How the DAGs of a file end. Who is asked is on record as endless before: the process may be ended meanwhile."""
    with tempfile.TemporaryDirectory(prefix="tidemill-airflow-") as temporary:
        # Files that a DAG names beside itself, and DAGs of other files that it asks for, are there.
        folder = Path(temporary) / "dags"
        shutil.copytree(file.parent, folder, ignore=shutil.ignore_patterns("*.py", "plugins", "__*"))
        others = ("example_trigger_target_dag.py",) if "trigger_controller" in name else ()
        for one in (file.name, *others):
            source = file.parent / one
            shutil.copy2(source if source.exists() else site / FOLDERS["core"] / one, folder / one)
        files = _read()
        _forget_assets()
        if name not in files:
            files[name] = _asked(folder / file.name, "")
            files[name].update({"dags": dict.fromkeys(files[name]["dags"])} if "dags" in files[name] else {})
            files[name]["asked"] = _now()
            _write(files)
        for dag, found in files[name].get("dags", {}).items():
            if found is None:
                files[name]["dags"][dag] = {"error": "did not end"}
                _write(files)
                files[name]["dags"][dag] = _asked(folder / file.name, dag)
                _write(files)
                print(name, dag, json.dumps(files[name]["dags"][dag])[:150], flush=True)


def _forget_assets() -> None:
    """In a process with Airflow: the assets of files before. One that names an address otherwise would not run."""
    models = importlib.import_module("airflow.models.asset")
    delete = importlib.import_module("sqlalchemy").delete
    with importlib.import_module("airflow.utils.session").create_session() as session:
        for model in (models.AssetActive, models.AssetModel):
            session.execute(delete(model))


def _asked(file: Path, dag: str) -> dict[str, Any]:
    try:
        return _ask(file, dag)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".replace(str(file.parent), "").splitlines()[0][:300]}


def _ask(file: Path, wanted: str) -> dict[str, Any]:
    """Within Airflow's environment: what a file has, or how one of its DAGs ends."""
    settings: Any = importlib.import_module("airflow.settings")
    settings.DAGS_FOLDER = os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(file.parent)
    modules = importlib.import_module("airflow.dag_processing.dagbag")
    bag = modules.DagBag(str(file), bundle_path=file.parent, bundle_name="dags-folder")
    if bag.import_errors:
        return {"error": next(iter(bag.import_errors.values())).strip().splitlines()[-1]}
    if not wanted:
        return {"dags": sorted(bag.dags)}
    moment = importlib.import_module("pendulum").parse(f"{DAY}T00:00:00+00:00")
    run = bag.dags[wanted].test(logical_date=moment)
    tasks = {}
    for one in run.get_task_instances():
        index = "" if one.map_index < 0 else f"[{one.map_index}]"
        tasks[f"{one.task_id}{index}"] = str(one.state)
    return {"state": str(run.state), "tasks": dict(sorted(tasks.items()))}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _record(Path(sys.argv[2]), sys.argv[3:])
        raise SystemExit(0)
    raise SystemExit(main(sys.argv[1:]))
