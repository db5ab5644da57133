"""Tidemill feeds lakes, warehouses and streams from Python. A run is a transaction: run = batch = branch."""

from tidemill.version import __version__

__all__ = ["__version__"]
