"""The checks of the architecture can fail: each is shown a small made-up package that breaks its rule."""

from pathlib import Path

import pytest

import layering


@pytest.fixture
def house(tmp_path):
    """Writes a package `house` from {path: source} and reads it."""

    def build(files):
        for name, source in files.items():
            path = tmp_path / "house" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return layering.read_package(tmp_path / "house")

    return build


LAYERS = {"model": (), "flow": ("model",), "": ("model",)}


@pytest.mark.parametrize(
    "source",
    [
        "import house.flow.load",
        "from house.flow import load",
        "from house.flow.load import extract",
        "from house import flow",
        "from ..flow import load",
        "from .. import flow",
        "def f():\n    from house.flow import load",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.flow import load",
        "import importlib\nimportlib.import_module('house.flow.load')",
    ],
)
def test_an_import_upwards_is_found_however_it_is_written(house, source):
    modules = house({"model/table.py": source, "flow/load.py": ""})
    (complaint,) = layering.against_layers(modules, LAYERS)
    assert complaint.startswith("house/model/table.py:")
    assert "model may not import house.flow" in complaint


def test_imports_downwards_and_within_a_layer_are_free(house):
    modules = house({
        "model/table.py": "import os, house.model.types\nfrom . import types\nfrom .types import Type",
        "model/types.py": "",
        "model/__init__.py": "from .table import Table",
        "flow/load.py": "from house.model.table import Table\nfrom house import model",
        "__init__.py": "from house.model import table",
    })  # fmt: skip
    assert layering.against_layers(modules, LAYERS) == []


def test_the_package_root_is_no_way_around(house):
    modules = house({"flow/load.py": "from house import Table"})
    assert layering.against_layers(modules, LAYERS) == [
        "house/flow/load.py:1: imports house.Table from the package's root"
    ]


def test_a_folder_that_is_no_layer_is_found(house):
    (complaint,) = layering.against_layers(house({"utils.py": ""}), LAYERS)
    assert '"utils" is not a layer of house' in complaint


def test_hidden_folders_are_not_read(house):
    assert [module.name for module in house({"a.py": "", ".peers/lib/b.py": "("})] == ["house.a"]


def test_adapters_that_know_each_other_are_found(house):
    modules = house({
        "adapters/sql/catalog.py": "from house.adapters.sql import store\nfrom house.adapters.iceberg import io",
        "adapters/iceberg/io.py": "def f():\n    from ..sql.store import Store",
        "flow/load.py": "from house.adapters import sql",
    })  # fmt: skip
    assert layering.between_siblings(modules, "adapters") == [
        "house/adapters/iceberg/io.py:2: adapters.iceberg knows adapters.sql",
        "house/adapters/sql/catalog.py:2: adapters.sql knows adapters.iceberg",
    ]


def test_modules_that_load_each_other_are_found_and_their_own_package_is_free(house):
    files = {
        "model/__init__.py": "from house.model.table import Table",
        "model/table.py": "from house.model import names",
        "model/names.py": "def f():\n    from house.model.table import Table",
        "flow/load.py": "from house.model.names import f",
    }
    assert layering.import_circles(house(files)) == []
    files["model/names.py"] = "import house.flow.load"
    (circle,) = layering.import_circles(house(files))
    assert {"house.model.names", "house.flow.load"} <= set(circle.split(" is loaded by "))


def test_a_driver_outside_its_place_is_found_also_when_lazy(house):
    modules = house({
        "model/frame.py": "import polars",
        "model/frames.py": "import polars",
        "model/frame/verbs.py": "import polars",
        "model/table.py": "import polars as pl",
        "flow/load.py": "def f():\n    from duckdb import connect",
        "adapters/duckdb/engine.py": "import duckdb, pyarrow",
        "cli/main.py": "import click\nimport json",
    })  # fmt: skip
    allowed = {"model.frame": ("polars",), "adapters": (layering.ANY,), "cli": ("click",)}
    assert layering.foreign_packages(modules, allowed) == [
        "house/flow/load.py:2: flow.load may not import duckdb",
        "house/model/frames.py:1: model.frames may not import polars",
        "house/model/table.py:1: model.table may not import polars",
    ]


def test_a_driver_named_for_types_only_is_free(house):
    modules = house({"flow/load.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import polars"})
    assert layering.foreign_packages(modules, {}) == []


def test_what_stands_in_the_else_of_type_checking_is_loaded(house):
    modules = house({"flow/load.py": "if TYPE_CHECKING:\n    import polars\nelse:\n    import duckdb"})
    assert layering.foreign_packages(modules, {}) == ["house/flow/load.py:4: flow.load may not import duckdb"]


def test_a_folder_that_loads_its_driver_when_listed_is_found(house):
    modules = house({
        "adapters/sql/__init__.py": "import sqlalchemy",
        "adapters/duckdb/__init__.py": "import json\ndef engine():\n    import duckdb",
        "adapters/duckdb/engine.py": "import duckdb",
    })  # fmt: skip
    assert layering.eager_packages(modules, "adapters") == [
        "house/adapters/sql/__init__.py:1: house.adapters.sql loads sqlalchemy"
    ]


def test_an_impure_import_is_found(house):
    modules = house({
        "plan/a.py": "import math, os.path\nfrom pathlib import Path, PurePosixPath",
        "plan/aa.py": "from uuid import UUID\nimport uuid",
        "plan/b.py": "def f():\n    import random",
        "flow/c.py": "import os",
    })  # fmt: skip
    complaints = layering.impure_imports(modules, ("plan",), ("math", "pathlib.PurePosixPath", "uuid.UUID"))
    assert [complaint.partition(": ")[2].split()[0] for complaint in complaints] == [
        "os.path", "pathlib.Path", "uuid", "random",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [
        "datetime.now(UTC)",
        "dt.datetime.now()",
        "date.today()",
        "clock.now()",
        "open('f')",
        "print(1)",
        "pl.scan_csv(f)",
    ],
)
def test_an_impure_call_is_found(house, call):
    modules = house({"plan/a.py": f"def f():\n    return {call}", "flow/b.py": f"x = {call}"})
    (complaint,) = layering.impure_calls(modules, ("plan",))
    assert complaint.startswith("house/plan/a.py:2: calls ")


def test_pure_calls_are_free(house):
    source = "import polars as pl\nx = pl.col('a').sum()\ny = reopen(1)\nz = datetime.fromisoformat('2013-01-01')"
    assert layering.impure_calls(house({"plan/a.py": source}), ("plan",)) == []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\nx = datetime.now()",
        "from datetime import datetime as D\nx = D.now()",
        "import datetime as dt\nx = dt.datetime.now()",
        "import datetime\nx = datetime.datetime.now()",
    ],
)
def test_a_forbidden_call_is_found_under_any_name(house, source):
    assert layering.calls_of(house({"a.py": source}), {"datetime.datetime.now"}) == [
        "house/a.py:2: calls datetime.datetime.now()"
    ]


def test_another_function_of_the_same_name_is_free(house):
    source = "from house.clock import datetime\nx = datetime.now()\ny = self.clock.now()"
    assert layering.calls_of(house({"a.py": source}), {"datetime.datetime.now"}) == []


def test_a_module_without_docstring_is_found(house):
    modules = house({"a.py": '"""It is a."""', "b.py": "x = 1", "c.py": '"""  """', "d.py": ""})
    assert [complaint.partition(":")[0] for complaint in layering.without_docstring(modules)] == [
        "house/b.py", "house/c.py", "house/d.py",
    ]  # fmt: skip


def test_long_files_and_stale_reasons_are_found(house):
    modules = house({"a.py": "\n" * 11, "b.py": "\n" * 11, "c.py": "\n" * 10})
    assert layering.too_long(modules, 10, {"house/b.py": "one parser", "house/c.py": "was long"}) == [
        "house/a.py: 11 lines, over 10",
        "house/c.py: listed as long without being so",
    ]
    assert "house/b.py: listed without a reason" in layering.too_long(modules, 10, {"house/b.py": " "})


def test_states_that_cannot_be_reached_left_or_ended_are_found():
    table = {"new": {"busy"}, "busy": {"done", "stuck", "turn"}, "stuck": set(), "turn": {"back"}, "back": {"turn"},
             "done": set(), "island": {"done"}}  # fmt: skip
    assert layering.bad_states([*table, "unknown"], table, "new", {"done"}) == [
        "stuck is no end and cannot be left",
        "turn can never end",
        "back can never end",
        "island cannot be reached from new",
        "unknown has no entry in the table",
        "unknown cannot be reached from new",
        "unknown is no end and cannot be left",
    ]
    assert layering.bad_states(["new", "done"], {"new": {"done"}, "done": {"new"}}, "new", {"done"}) == []


def test_a_package_that_loads_a_driver_is_found(tmp_path):
    """Also when it does so through another module."""
    (tmp_path / "house.py").write_text("import walls\n")
    (tmp_path / "walls.py").write_text("import decimal\n")
    assert layering.loaded_by("import house", {"decimal", "fractions"}, Path(tmp_path)) == {"decimal"}
