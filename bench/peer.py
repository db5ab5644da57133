"""Runs one step of one peer, inside that peer's environment and in a process of its own.

    python bench/peer.py load  MODULE SPEC WORK [VARIANT]    the step that is measured
    python bench/peer.py check MODULE SPEC WORK [VARIANT]    compares what was loaded with the spec; not measured

A peer is a module in bench/peers with two functions:

    load(spec, work, variant)     load the input into a store under the folder `work`
    opened(spec, work, variant)   give (query, tables): `query` runs a SELECT of DuckDB's dialect and returns rows,
                                  `tables` maps "" and the child tables' names to what stands after FROM

A table may be a subquery that renames columns; the names that checks use are those in the spec.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def differences(module: str, spec_file: str, work: Path, variant: str) -> list[str]:
    """What the loaded tables hold that the spec does not say."""
    spec = json.loads(Path(spec_file).read_text("utf-8"))
    query, tables = importlib.import_module(f"peers.{module}").opened(spec, work, variant)
    wrong = []
    for child, checks in spec["tables"].items():
        for label, (expression, expected) in checks.items():
            name = f"{child}.{label}" if child else label
            try:
                found = str(query(f"select {expression} from {tables[child]}")[0][0])
            except Exception as error:
                found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            if found != expected:
                wrong.append(f"{name}: {found} instead of {expected}")
    return wrong


def main(step: str, module: str, spec_file: str, work: str, variant: str = "") -> int:
    """Run the step; returns the exit code."""
    if step == "check":
        wrong = differences(module, spec_file, Path(work), variant)
        print("\n".join(wrong))
        return 1 if wrong else 0
    spec = json.loads(Path(spec_file).read_text("utf-8"))
    importlib.import_module(f"peers.{module}").load(spec, Path(work), variant)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
