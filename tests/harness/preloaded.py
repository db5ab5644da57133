"""What the server that functions are forked from has imported: all libraries, and the functions' modules."""

from __future__ import annotations

import atexit
import gc
import importlib

from harness.libraries import import_all

import_all()
for _name in ("harness.crashing", "harness.racing"):
    importlib.import_module(_name)

# A child's collector would else walk over everything imported, and so copy its pages.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)
