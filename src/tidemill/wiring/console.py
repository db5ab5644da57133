"""A query of somebody's own SQL, in a process of its own, whose memory, time and disk are bounded.

web/asking.py ── question (standard input) ──> this process: the lake, a locked DuckDB ── frames (standard output) ──>

What the engine's own limits do not cover (one value of gigabytes, say) is covered by those of a process, and a process
can be ended at any moment. It ends by itself when its standard input does: whoever asked is gone.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from tidemill.model import errors
from tidemill.model.branch import MAIN
from tidemill.model.errors import LimitError, TidemillError, UserError
from tidemill.wiring.console_settings import said_size
from tidemill.wiring.settings import Settings

#: How many bytes the question has.
LENGTH = struct.Struct("!Q")
#: What a frame begins with: its kind, and how many bytes it has.
FRAME = struct.Struct("!cI")
BEGUN, DATA, ERROR, END = b"B", b"D", b"E", b"Z"
#: What a result can be asked for as. `rows` are the first ones, as one JSON object.
FORMS = ("rows", "csv", "jsonl", "parquet")
#: Bytes of rows that are shown, and characters of one value in them.
_SHOWN, _LONGEST = 8 << 20, 10_000
#: Bytes of a frame, about.
_CHUNK = 256 << 10
#: What a process needs beside what its query may have.
_OWN_MEMORY = 512 << 20
#: Blanks, comments and brackets, then a verb. Nothing of it is tried in two ways, whatever the text.
_STARTS = re.compile(
    r"(?:[\s;(]|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*+\*/)*+"
    r"(?:select|from|with|values|table|describe|summarize|pivot|unpivot)\b",
    re.IGNORECASE,
)

Write = Callable[[bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Args:
        settings: of the project.
        sql: one SELECT.
        form: of `FORMS`.
        folder: where the query keeps what does not fit into memory; whoever starts it removes it. None: the system's.
        branch: the branch or tag to read.
        at: a time, or a snapshot's id.
        rows: how many are shown in the form `rows`.
    """

    settings: Settings
    sql: str
    form: str
    folder: str | None = None
    branch: str = MAIN
    at: str | None = None
    rows: int = 1000


def see_that_it_reads(sql: str) -> None:
    """Refuse a text that begins like no statement that reads, before a process is started for it.

    Raises:
        UserError: it does not; what does is looked at by the engine's own parser.
    """
    if _STARTS.match(sql) is None:
        raise UserError(
            "A statement that only reads is wanted.", hint="SELECT ..., FROM ..., WITH ... SELECT ... or VALUES ..."
        )


def main() -> int:
    """The process."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame
    (size,) = LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size))
    question: Question = pickle.loads(sys.stdin.buffer.read(size))  # noqa: S301 - of the process that started this one
    threading.Thread(target=_end_with_input, daemon=True).start()

    def write(kind: bytes, content: bytes) -> None:
        out.write(FRAME.pack(kind, len(content)) + content)
        out.flush()

    try:
        answer(question, write, bound=True)
    except TidemillError as error:
        write(ERROR, json.dumps(_told(error)).encode())
    except MemoryError:
        write(ERROR, json.dumps(_told(too_much(question.settings))).encode())
    except BrokenPipeError:
        return 1
    except Exception:
        traceback.print_exc()
        write(ERROR, b"{}")
        return 1
    finally:
        with suppress(OSError):
            out.flush()
    return 0


def answer(question: Question, write: Write, *, bound: bool = False) -> None:
    """Ask, and write the answer's frames: `BEGUN` when the query's time begins, `END` last.

    Args:
        question: what is asked.
        write: takes a kind of frame and its content.
        bound: also limit what this process may take, for good.

    Raises:
        TidemillError: the query cannot be carried out.
    """
    from tidemill.adapters.duckdb.engine import DuckDBEngine
    from tidemill.flow.query import query, reading
    from tidemill.wiring.loading import own_process
    from tidemill.wiring.services import connect
    from tidemill.wiring.storage import Reach

    limits = question.settings.console
    if bound:
        own_process()
    services = connect(question.settings)
    try:
        engine = DuckDBEngine(
            memory_limit=said_size(limits.memory), temp_limit=said_size(limits.disk), temp_directory=question.folder,
            open_file=Reach.of(services.lake).open_file,
        )  # fmt: skip
        services = replace(services, sql=engine)
        if bound:
            _bound(limits.memory)
        write(BEGUN, b"")
        with (
            reading(services, question.branch, question.at) as seen,
            query(services, question.sql, seen) as reader,
        ):
            made = _rows(reader, question.rows) if question.form == "rows" else _file(reader, question.form)
            for part in made:
                write(DATA, part)
    finally:
        services.metadata.close()
    write(END, b"")


def raised(told: bytes) -> TidemillError | None:
    """The error of a frame; None: it is a defect, of which the process has said more."""
    found = json.loads(told)
    kind = getattr(errors, str(found.get("class")), None)
    if not isinstance(kind, type) or not issubclass(kind, TidemillError):
        return None
    return kind(str(found["what"]), where=found["where"], hint=found["hint"])


def too_much(settings: Settings) -> TidemillError:
    """The error of a query that needs more memory than it may have."""
    return LimitError(
        f"The query needs more memory than it may have ({said_size(settings.console.memory)}).",
        hint="[console] memory, or ask for less at once",
    )


def _told(error: TidemillError) -> dict[str, Any]:
    return {"class": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}


def _end_with_input() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(1)


def _bound(memory: int) -> None:
    """Limit this process to what it has and what its query may have; where memory is short, it goes first."""
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/status", encoding="ascii") as status:
            had = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
        most = had + memory + memory // 2 + _OWN_MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")


def _rows(reader: Any, most: int) -> Iterator[bytes]:
    """The first rows with their columns as JSON, and whether there are more."""
    from tidemill.flow.facts.rows import columns_of

    rows: list[bytes] = []
    size, more = 0, False
    for batch in reader:
        kept = batch.slice(0, most - len(rows))
        for row in zip(*(kept.column(i).to_pylist() for i in range(kept.num_columns)), strict=True):
            made = json.dumps([_shown(value) for value in row], ensure_ascii=False).encode("utf-8", "replace")
            size += len(made)
            if size > _SHOWN and rows:
                more = True
                break
            rows.append(made)
        more = more or kept.num_rows < batch.num_rows
        if more:
            break
    columns = [{"name": name, "type": kind} for name, kind in columns_of(reader).items()]
    yield b'{"columns": ' + json.dumps(columns).encode() + b', "rows": [' + b", ".join(rows)
    yield b'], "more": ' + (b"true" if more else b"false") + b"}"


def _shown(value: Any) -> Any:
    """A value as JSON, cut where it is long."""
    from tidemill.model.json_values import jsonable

    if isinstance(value, int) and abs(value) >= 1 << 53:
        return str(value)  # JavaScript would round it
    if isinstance(value, bytes | bytearray | str) and len(value) > _LONGEST:
        return jsonable(value[:_LONGEST]) + "…"
    made = jsonable(value)
    if isinstance(made, list | dict):
        text = json.dumps(made, ensure_ascii=False)
        return text[:_LONGEST] + "…" if len(text) > _LONGEST else made
    return made


def _file(reader: Any, form: str) -> Iterator[bytes]:
    if form == "parquet":
        from tidemill.adapters.arrow.export import parquet_parts

        return parquet_parts(reader, _CHUNK)
    return _chunks(_csv(reader) if form == "csv" else _lines(reader))


def _csv(reader: Any) -> Iterator[str]:
    from tidemill.flow.facts.rows import csv_rows

    line = io.StringIO(newline="")
    writer = csv.writer(line, lineterminator="\n")
    for row in csv_rows(reader):
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _lines(reader: Any) -> Iterator[str]:
    from tidemill.flow.facts.rows import json_rows

    return (f"{row}\n" for row in json_rows(reader))


def _chunks(texts: Iterable[str]) -> Iterator[bytes]:
    made = bytearray()
    for text in texts:
        made += text.encode("utf-8", "replace")
        if len(made) >= _CHUNK:
            yield bytes(made)
            made.clear()
    yield bytes(made)


if __name__ == "__main__":
    sys.exit(main())
