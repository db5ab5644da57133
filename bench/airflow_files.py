"""How long it takes to read a folder of Airflow's DAG files, 1,000 files of ten tasks each, and to run such files.

    ./run bench airflow_files [--files 1000] [--airflow PYTHON]
    ./run bench airflow_files --runs --airflow PYTHON [--times 7]

The files import Airflow's names, which Tidemill serves. They are read, and what they make is recorded in a database
of SQLite. Shown are seconds of CPU of all processes together, and the memory of the largest; the limits are 20 s and
250 MB. With `--airflow`, a Python that has `apache-airflow` does the same beside it: a `DagBag` is filled, and recorded
in Airflow's database, which is there before. The exit code is 1 where a limit is missed, or not every file was read.

With `--runs`, Airflow's own example files, of its environment, are run by both: each DAG by `dag.test()`, in one
process for each side, which has loaded all of them, and run the first one, before. Shown is, of each file, the median
of the seconds of CPU of seven runs (`--times`), those of what its tasks start included, and how many times as much
Airflow takes: for each, at the median, and for all together. The exit code is 1 where a DAG ends otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import measure
from figures import keep, verdict

#: Seconds of CPU and megabytes that reading 1,000 files may take.
MOST_SECONDS, MOST_MB = 20.0, 250.0
_FILE = """\
from datetime import datetime

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator


def day(ds, **context):
    return ds


with DAG("dag_{number}", schedule="@daily", start_date=datetime(2026, 1, 1), default_args={{"retries": 1}}) as dag:
    for at in range(5):
        told = BashOperator(task_id=f"tell_{{at}}", bash_command="echo {{{{ ds }}}}")
        told >> PythonOperator(task_id=f"call_{{at}}", python_callable=day)
"""
#: Example files that need no network, wait for nothing, and go by neither chance nor the hour.
_EXAMPLES = (
    "example_dynamic_task_mapping", "example_nested_branch_dag", "example_setup_teardown_taskflow",
    "example_task_group", "example_task_group_decorator", "example_xcom", "example_xcomargs", "tutorial_dag",
    "tutorial_taskflow_api",
)  # fmt: skip
#: Both programs print a line of JSON for each file: its name, seconds of CPU, and how its DAGs have ended.
_TELLS = """
import contextlib, io, json, os, statistics, sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
def spent():
    return sum(one.ru_utime + one.ru_stime for one in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))
def ran(dags, run):
    with contextlib.redirect_stdout(io.StringIO()):
        return {dag: run(made) for dag, made in sorted(dags.items())}
def told(files, run):
    ran(files[0][1], run)
    for name, dags in files:
        took = []
        for _ in range(int(os.environ["BENCH_TIMES"])):
            before = spent()
            ended = ran(dags, run)
            took.append(spent() - before)
        print(json.dumps([name, statistics.median(took), ended]), flush=True)
"""
_RUN_OURS = (
    _TELLS
    + """
from tidemill.wiring.project import declared_in
from tidemill.wiring.settings import load_settings
from tidemill.wiring.trials import try_dag
from tidemill.plan.schedule import parse_moment
from tidemill.model.batch import Interval
from datetime import timedelta
day = parse_moment("2026-01-15", "UTC")
def run(dag):
    trial = try_dag(dag, Interval(day, day + timedelta(days=1)))
    return {task: str(state) for task, state in trial.states.items()}
settings = load_settings(Path("."))
told([(file.stem, declared_in(settings, file)) for file in sorted(Path("dags").resolve().glob("*.py"))], run)
"""
)
_RUN_THEIRS = (
    _TELLS
    + """
import airflow.settings, pendulum
from airflow.dag_processing.dagbag import DagBag
folder = Path("dags").resolve()
airflow.settings.DAGS_FOLDER = str(folder)
def run(dag):
    ended = dag.test(logical_date=pendulum.datetime(2026, 1, 15)).get_task_instances()
    return {f"{one.task_id}[{one.map_index}]" if one.map_index >= 0 else one.task_id: str(one.state) for one in ended}
def read(file):
    return DagBag(str(file), bundle_path=folder, bundle_name="dags-folder").dags
told([(file.stem, read(file)) for file in sorted(folder.glob("*.py"))], run)
"""
)
_OURS = """
from pathlib import Path
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.settings import load_settings
print(len(parse_once(load_settings(Path("."))).changed))
"""
_THEIRS = """
from pathlib import Path
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
folder = Path("dags").resolve()
DagBundlesManager().sync_bundles_to_db()
bag = DagBag(str(folder), bundle_path=folder, bundle_name="dags-folder")
sync_bag_to_db(bag, "dags-folder", bundle_version=None)
print(len(bag.dags))
"""


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench airflow_files", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--airflow", metavar="PYTHON", help="a Python that has apache-airflow")
    parser.add_argument("--runs", action="store_true", help="run Airflow's example files, instead of reading")
    parser.add_argument("--times", type=int, default=7, help="how often each example file is run")
    options = parser.parse_args()
    if options.runs and not options.airflow:
        parser.error("--runs needs --airflow PYTHON: the files are those of its environment")
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    if options.runs:
        return _compare_runs(options.airflow, options.times, about)
    figures: dict[str, dict[str, float]] = {}
    code = 0
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as name:
        folder = Path(name)
        _write(folder, options.files)
        sides = {"tidemill": (sys.executable, _OURS)}
        if options.airflow:
            sides["airflow"] = (options.airflow, _THEIRS)
        for side, (python, program) in sides.items():
            told = _environment(folder)
            if side == "airflow":
                measure.run([python, "-m", "airflow", "db", "migrate"], at=folder, env=told)
            ran = measure.run([python, "-c", program], at=folder, env=told)
            read = (ran.output.strip().splitlines() or ["0"])[-1]
            if ran.code or read != str(options.files):
                print(f"{side:<9} FAILED: {read} files read; {(ran.errors.strip().splitlines() or [''])[-1]}")
                code = 1
                continue
            ours = side == "tidemill" and options.files == 1000
            says = [
                verdict(ran.cpu_seconds, MOST_SECONDS if ours else None),
                verdict(ran.peak_mb, MOST_MB if ours else None),
            ]
            code = 1 if any(one.startswith("OVER") for one in says) else code
            print(f"{side:<9} {ran.cpu_seconds:>7.1f} s of CPU {says[0]}   {ran.peak_mb:>6.1f} MB {says[1]}")
            figures[side] = {"cpu_seconds": ran.cpu_seconds, "seconds": ran.seconds, "peak_mb": ran.peak_mb}
    keep("airflow_files", about, figures)
    return code


def _compare_runs(airflow: str, times: int, about: dict[str, str | int | float]) -> int:
    """Run the example files by both; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as name:
        folder = Path(name)
        told = _environment(folder) | {"BENCH_TIMES": str(times)}
        asked = measure.run([airflow, "-c", "import airflow; print(airflow.__path__[0])"], at=folder, env=told)
        made = measure.run([airflow, "-m", "airflow", "db", "migrate"], at=folder, env=told)
        if asked.code or made.code:
            print(f"airflow FAILED: {((asked.errors or made.errors).strip().splitlines() or [''])[-1]}")
            return 1
        _make_project(folder)
        for file in _EXAMPLES:
            shutil.copy2(Path(asked.output.strip().splitlines()[-1], "example_dags", f"{file}.py"), folder / "dags")
        sides = {}
        for side, (python, program) in {"us": (sys.executable, _RUN_OURS), "them": (airflow, _RUN_THEIRS)}.items():
            ran = measure.run([python, "-c", program], at=folder, env=told)
            lines = [line for line in ran.output.splitlines() if line.startswith("[")]
            sides[side] = {name: (seconds, ended) for name, seconds, ended in map(json.loads, lines)}
            if ran.code or len(lines) != len(_EXAMPLES):
                print(f"{side} FAILED: {(ran.errors.strip().splitlines() or [''])[-1]}")
                return 1
    figures, same = {}, True
    print(f"{'file':<34} {'tidemill':>9} {'airflow':>9}  times")
    for name in _EXAMPLES:
        (ours, ended), (theirs, expected) = sides["us"][name], sides["them"][name]
        same = same and ended == expected
        said = "" if ended == expected else "  ENDS OTHERWISE"
        print(f"{name:<34} {ours:>7.3f} s {theirs:>7.3f} s {theirs / ours:>6.0f}{said}")
        figures[name] = {"tidemill": ours, "airflow": theirs}
    ours, theirs = (sum(found for found, _ in sides[side].values()) for side in ("us", "them"))
    middle = statistics.median(one["airflow"] / one["tidemill"] for one in figures.values())
    print(f"{'all':<34} {ours:>7.3f} s {theirs:>7.3f} s {theirs / ours:>6.0f}")
    print(f"{'the median file':<56}{middle:>6.0f}")
    keep("airflow_runs", about, figures)
    return 0 if same else 1


def _environment(folder: Path) -> dict[str, str]:
    """An environment in which Airflow has a home of its own, and the DAG files of a folder."""
    return {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
    }


def _make_project(folder: Path) -> None:
    (folder / "tidemill.toml").write_text('[project]\nname = "bench"\npipelines = ["dags/*.py"]\n', "utf-8")
    (folder / "dags").mkdir()


def _write(folder: Path, files: int) -> None:
    _make_project(folder)
    for number in range(files):
        (folder / "dags" / f"dag_{number}.py").write_text(_FILE.format(number=number), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
