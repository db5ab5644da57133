"""Singer taps as sources: which program, what it is told, and which of its streams is read. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceKind

#: Parts of a stream's feed: lines of records, files of BATCH messages, lines that were not understood.
ROWS, BATCHES, REFUSED = "rows-", "rows-batch-", "rows-refused-"
#: SCHEMA messages of the stream, as they came; the other messages of the run.
SCHEMAS, OTHERS = "schema-", "messages-"
#: ACTIVATE_VERSION messages; like parts of records, each has its version in its name.
ACTIVATIONS = "activate-"
#: Column with the version that a record names, as targets of Singer call it.
VERSION = "_sdc_table_version"
#: Column with the time at which a row was ended, where rows that are ended stay; likewise.
MARK = "_sdc_deleted_at"


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """A setting that a variable of the environment may have; where there is none, the setting is left out.

    Args:
        variable: its name.
        kind: `integer`, `boolean`, `array` and `object` are read as JSON; anything else is text.
    """

    variable: str
    kind: str = "string"


@dataclass(frozen=True, slots=True)
class Tap:
    """A program that writes Singer's messages.

    Args:
        program: what is run: a name in its environment, or a file of the project.
        packages: what its environment has, as pip takes it; none: the program is there already.
        python: of its environment, `3.12`; None: that which runs this.
        config: what it is told; a text `env:NAME` stands for a variable of the environment.
        select: streams and fields, as `commits.*`, `!commits.body`.
        streams: ids of the streams that are read.
        metadata: stream or pattern -> what its catalog entry says in place of the tap.
        catalog: what the tap has, where a file keeps it; None: it is asked each time.
        discovers: whether it has a catalog.
        quiet_after: a tap that has said nothing for so long, seconds, is ended.
        most_refused: lines that are no messages, beyond which the run fails.
        largest: bytes of a line, beyond which the run fails.
        env: variables of its environment; `env:NAME` as in `config`.
        place: where in the user's file.
    """

    program: str
    packages: tuple[str, ...] = ()
    python: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    select: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    catalog: Mapping[str, Any] | None = field(default=None, repr=False)
    discovers: bool = True
    quiet_after: float = 600.0
    most_refused: int = 100
    largest: int = 64 << 20
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: str = ""

    def __str__(self) -> str:
        return self.program.rpartition("/")[2].removesuffix(".py")


@dataclass(frozen=True, slots=True)
class SingerStream(Connector):
    """One stream of a tap.

    Args:
        tap: which; its streams are extracted at once.
        stream: the id.
        name: of the table.
        write: how rows enter the table.
        key: by which they are told apart.
        marks: rows that an ACTIVATE_VERSION message ends stay, and are marked.
    """

    tap: Tap
    stream: str
    name: str
    write: str = "append"
    key: tuple[str, ...] = ()
    marks: bool = False

    @property
    def called(self) -> str | None:
        """The stream's name, as far as it can name a table."""
        return self.name

    @property
    def kind(self) -> SourceKind:
        """The tap's state is the bookmark."""
        return SourceKind.BOOKMARK

    @property
    def keeps_files(self) -> bool:
        """The tap's lines are kept as they came."""
        return True

    @property
    def decode(self) -> Mapping[str, Any]:
        """Where the records are in what is kept."""
        return {
            "format": "jsonl",
            "records": "$.record",
            "parts": f"{ROWS}*",
            "plain": f"{BATCHES}*",
            "refused": f"{REFUSED}*",
        }

    @property
    def options(self) -> Mapping[str, Any]:
        """Rows of a stream with a key are merged by it."""
        return {"write": self.write, "key": self.key} if self.key else {"write": self.write}

    @property
    def merges(self) -> bool:
        """See `Connector.merges`."""
        return True

    @property
    def together(self) -> object | None:
        """One run of the tap serves all its streams."""
        return self.tap

    @property
    def columns_in(self) -> str | None:
        """SCHEMA messages."""
        return f"{SCHEMAS}*"

    @property
    def has_versions(self) -> bool:
        """Taps that send tables as a whole number each time that they do."""
        return True

    @property
    def marks_ended(self) -> bool:
        """As its user has said."""
        return self.marks

    def __str__(self) -> str:
        return f"{self.tap} {self.stream}"
