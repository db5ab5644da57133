"""The house rules of docs/architecture.md, each as one test whose docstring is the rule.

The tables below are the rules' content; changing one is changing the architecture. `layering.py` reads the code,
and `test_architecture_checker.py` shows on made-up packages that each of these checks can fail.
"""

import importlib
import importlib.util
from pathlib import Path

import pytest

import layering
import tidemill
from layering import ANY
from tidemill.model import run

ROOT = Path(__file__).parents[1]
#: All modules but those of the project that the demo copies: they are a user's, and use the public names.
PACKAGE = [m for m in layering.read_package(ROOT / "src" / "tidemill") if ".demo.project." not in m.name]
EVERYTHING = [
    *PACKAGE,
    *(module for folder in ("tests", "bench", "scripts") for module in layering.read_package(ROOT / folder)),
    layering.Module("run", Path("run"), (ROOT / "run").read_text("utf-8")),
]

_CORE = ("authoring", "ports", "plan", "model")
_ACTING = ("flow", "operators", "adapters", "compat")
#: Which layer may import which others; arrows point down, and layers of one floor do not know each other.
MAY_IMPORT = {
    "model": (),
    "plan": ("model",),
    "ports": ("plan", "model"),
    # A user's source yields the values of port `source`, and its options are those of port `decoder`.
    "authoring": ("ports", "plan", "model"),
    "adapters": ("ports", "plan", "model"),
    "flow": _CORE,
    "operators": _CORE,
    # Another tool's operators are ours with other arguments.
    "compat": ("operators", *_CORE),
    "wiring": (*_ACTING, *_CORE),
    "testing": ("wiring", *_ACTING, *_CORE),
    "demo": ("testing", "wiring", *_ACTING, *_CORE, "version"),
    # `tidemill up` and `tidemill serve web` start the server; nothing of `web` knows commands.
    "cli": ("demo", "web", "testing", "wiring", *_ACTING, *_CORE, "version"),
    "web": ("testing", "wiring", *_ACTING, *_CORE, "version"),
    "version": (),
    # `tidemill.live` and `tidemill.sources` give out names of authoring, and do nothing themselves.
    "live": ("authoring", "model"),
    "sources": ("authoring", "model"),
    # The root gives out the public names, lazily.
    "": ("wiring", *_CORE, "version"),
}

PURE = ("model", "plan")
#: Standard modules without files, clocks, processes, networks or chance.
PURE_STANDARD_MODULES = frozenset({
    "abc", "ast", "base64", "binascii", "bisect", "calendar", "collections", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "difflib", "enum", "fnmatch", "fractions", "functools", "graphlib",
    "hashlib", "heapq", "inspect", "itertools", "json", "keyword", "math", "numbers", "operator", "re",
    "reprlib", "statistics", "string", "struct", "sys", "textwrap", "types", "typing", "unicodedata", "urllib.parse",
    "warnings", "weakref", "zoneinfo", "importlib.import_module", "pathlib.PurePath", "pathlib.PurePosixPath",
    "uuid.UUID", "uuid.uuid5",
})  # fmt: skip

#: Packages from elsewhere, by layer or module. Drivers (whatever talks to files, servers or columns) are the
#: adapters' affair; Polars is also the language of expressions, so the modules that hold these may name it.
FOREIGN = {
    "model": ("jinja2", "sqlglot", "cronsim", "jsonschema"),
    "plan": ("jinja2", "sqlglot", "cronsim", "jsonschema"),
    "model.frame": ("polars",),
    "model.expectation": ("polars",),
    "plan.check": ("polars",),
    "plan.check_rows": ("polars",),
    "plan.elementwise": ("polars",),
    # What `tm.read` returns is handed to people as a Polars frame.
    "wiring.reading": ("polars",),
    "adapters": (ANY,),
    # Airflow hands times over with pendulum's methods.
    "compat": ("pendulum",),
    "testing": ("pytest", "hypothesis"),
    "demo": ("click", "rich"),
    "cli": ("click", "rich"),
    # Answers are msgspec's structs: what is encoded and what the OpenAPI document says are one thing. What Jinja takes
    # for safe HTML is markupsafe's.
    "web": ("starlette", "uvicorn", "jinja2", "markupsafe", "msgspec"),
}

#: Must not be loaded by `import tidemill`, nor by the table of commands (which needs click).
HEAVY = frozenset({
    "alembic", "boto3", "celery", "click", "confluent_kafka", "dask", "duckdb", "fastavro", "isal", "jinja2",
    "msgspec", "numpy", "pandas", "polars", "psycopg", "pyarrow", "pyiceberg", "rich", "sqlalchemy", "sqlglot",
    "zstandard",
})  # fmt: skip

WALL_CLOCK = frozenset(
    ("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
     "time.time", "time.time_ns")
)  # fmt: skip

LONGEST_FILE = 450
#: Files that may be longer, each with the reason why it is one room.
LONG_FILES: dict[str, str] = {}


def test_arrows_point_down():
    """A layer imports only layers below it, and never the package's root."""
    assert layering.against_layers(PACKAGE, MAY_IMPORT) == []


def test_adapters_do_not_know_each_other():
    """One technology never imports another: they meet in ports, and wiring chooses."""
    assert layering.between_siblings(PACKAGE, "adapters") == []


def test_every_module_can_be_loaded_first():
    """Modules do not load each other in a circle: a command works whatever was, or was not, imported before it."""
    assert layering.import_circles(PACKAGE) == []


def test_drivers_are_used_in_adapters_only():
    """A package from elsewhere is imported only by the layers and modules that are listed for it."""
    assert layering.foreign_packages(PACKAGE, FOREIGN) == []


def test_listing_the_adapters_loads_no_driver():
    """The `__init__` of an adapter's folder loads nothing from elsewhere."""
    assert layering.eager_packages(PACKAGE, "adapters") == []


def test_model_and_plan_import_pure_modules_only():
    """Model and plan do no I/O and read no clock: what they import cannot."""
    assert layering.impure_imports(PACKAGE, PURE, PURE_STANDARD_MODULES) == []


def test_model_and_plan_call_nothing_impure():
    """Model and plan take time and data as arguments: they call no clock, no chance, no file."""
    assert layering.impure_calls(PACKAGE, PURE) == []


def test_only_adapters_read_the_wall_clock_or_sleep():
    """Everybody else asks a Clock, which tests advance, so that no test waits and no rule hangs on the hour."""
    others = [module for module in PACKAGE if module.layer != "adapters"]
    assert layering.calls_of(others, {*WALL_CLOCK, "time.sleep"}) == []


def test_every_module_says_what_it_is():
    """Every module opens with a docstring: what it is and where it stands in the flow."""
    assert layering.without_docstring(EVERYTHING) == []


def test_no_file_is_longer_than_a_room():
    """A file over 450 lines becomes two, or is listed with its reason."""
    assert layering.too_long(EVERYTHING, LONGEST_FILE, LONG_FILES) == []


def test_every_run_state_can_be_reached_and_left():
    """Every state of a run is reachable from queued, and from every state an end is."""
    assert layering.bad_states(run.RunState, run.RUN_TRANSITIONS, run.RunState.QUEUED, run.RUN_ENDS) == []


def test_every_task_state_can_be_reached_and_left():
    """Every state of a task is reachable from none, and from every state an end is."""
    assert layering.bad_states(run.TaskState, run.TASK_TRANSITIONS, run.TaskState.NONE, run.TASK_ENDS) == []


def test_an_ended_run_stays_as_it_ended():
    """Success, failed and cancelled are final for an attempt (rule 11)."""
    ends = {run.RunState.SUCCESS, run.RunState.FAILED, run.RunState.CANCELLED}
    assert ends == run.RUN_ENDS
    assert all(not run.RUN_TRANSITIONS[end] for end in ends)


@pytest.mark.parametrize("module", ["tidemill", "tidemill.cli.main"])
def test_importing_loads_no_driver(module):
    """`import tidemill` loads nothing heavy, and neither does the table of commands."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"there is no {module} yet")
    allowed = {"click"} if module == "tidemill.cli.main" else set()
    assert layering.loaded_by(f"import {module}", HEAVY) - allowed == set()


def test_public_names_are_few_and_exist():
    """At most 30 public names, each importable, each listed once."""
    names = tidemill.__all__
    assert len(names) <= 30
    assert len(set(names)) == len(names)
    package = importlib.import_module("tidemill")
    assert [name for name in names if getattr(package, name, None) is None] == []
    assert [name for name in names if name not in dir(package)] == []
