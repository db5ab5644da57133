r"""A project of one feed, run from the command line: put files in, run a day, query what readers see.

shop = Shop(tmp_path)
shop.feed("orders.csv", b"id\n1\n", "2026-01-01")
shop.run("2026-01-01").exit_code
shop.query("select * from shop.orders")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.commands import CommandLine, Told

PIPELINE = """
import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")
orders = shop.files("feeds/{{{{ ds }}}}/*"{options})
"""


class Shop:
    """A project with a pipeline that reads all files of a day's folder."""

    def __init__(self, folder: Path) -> None:
        self.cli = CommandLine(folder)
        self.cli.write("tidemill.toml", '[project]\nname = "test"\n')
        self.declare()

    def declare(self, **options: Any) -> None:
        """Write the pipeline's file."""
        self.cli.write(
            "pipelines/shop.py", PIPELINE.format(options="".join(f", {k}={v!r}" for k, v in options.items()))
        )

    def feed(self, name: str, raw: bytes, day: str = "2026-01-02") -> None:
        """Put a file where the day's run finds it."""
        file = self.cli.folder / "feeds" / day / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)

    def run(self, day: str = "2026-01-02") -> Told:
        """Run a day."""
        return self.cli("-q", "run", "shop", day)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """What readers of main see."""
        told = self.cli("query", "--json", sql)
        assert told.exit_code == 0, told.stderr
        return list(told.object["rows"])
