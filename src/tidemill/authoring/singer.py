"""`tidemill.sources.singer`: Singer taps as sources. Values only; no tap runs here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tidemill.authoring.place import here, placed
from tidemill.model.duration import Duration, read_duration
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.singer import SingerStream, Tap
from tidemill.plan.singer import entries, is_full_table, key_of, read_rules, streams_of, table_name

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?=$|[\s\[=<>!~;@])")
_WRITES = ("append", "upsert", "replace", "history")
_ENDS = ("delete", "mark")


def singer(
    tap: str | Sequence[str],
    *,
    config: Mapping[str, Any] | None = None,
    select: Iterable[str] = (),
    catalog: str | None = None,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    key: Mapping[str, str | Sequence[str]] | None = None,
    write: str | Mapping[str, str] | None = None,
    ended: str | Mapping[str, str] = "delete",
    executable: str | None = None,
    python: str | None = None,
    env: Mapping[str, str] | None = None,
    prefix: str = "",
    discover: bool = True,
    quiet_after: Duration = "10m",
    most_refused: int = 100,
    largest: int = 64 << 20,
) -> list[SingerStream]:
    """A source for each stream of a Singer tap: `for each in sources.singer(...): shop.source(each)`.

    One run of the tap serves them all, and its state is their bookmark. Rows of streams whose key is known, from the
    catalog or by `key`, are written by upsert; those that the catalog says to come as a whole each time, by replace;
    others are appended.

    Args:
        tap: what pip installs, into an environment of the tap's own: `"tap-github==1.2"`, or several packages; or a
            program of the project, `"taps/tap_shop.py"`.
        config: its settings. A text `env:NAME` stands for a variable of the environment.
        select: streams and fields: `"commits.*"`, `"!commits.body"`. Patterns of streams need a catalog.
        catalog: a file beside this one that keeps what the tap has, by `tidemill connections singer discover`; left
            out, the tap is asked each time it runs.
        metadata: stream or pattern -> what its catalog entry says in place of the tap:
            `{"commits": {"replication-method": "INCREMENTAL", "replication-key": "updated_at"}}`.
        key: stream or pattern -> its key.
        write: a write mode for all streams, or stream or pattern -> write mode.
        ended: what happens to rows of earlier versions when the tap activates another: "delete"; or "mark": they stay,
            with the time in `_sdc_deleted_at`. For all streams, or by stream or pattern.
        executable: the program, where it is not called as its package.
        python: the version of its environment, "3.12"; another one than that which runs this needs uv.
        env: variables for the tap.
        prefix: before the names of tables.
        discover: False: the tap has no catalog, and is not asked for one.
        quiet_after: a tap that is silent for so long is ended.
        most_refused: so many lines that are no messages go to quarantine; more are an error.
        largest: bytes of a line; a longer one is an error.

    Raises:
        DefinitionError: an argument is wrong, or two tables would be called alike.
        UnknownName: the catalog has no such stream.
    """
    place = here()
    packages, program = read_program(tap, executable)
    if isinstance(select, str):
        raise DefinitionError(f"select={select!r} is no list.", where=place, hint=f"select=[{select!r}]")
    chosen = tuple(select)
    rules = placed(read_rules, chosen)
    kept = None if catalog is None else _kept(catalog, place)
    if kept is not None and not discover:
        raise DefinitionError("A tap without a catalog is given none.", where=place, hint="leave discover out")
    known = None if kept is None else placed(entries, kept, place)
    if known is None and not rules:
        raise DefinitionError(
            "Which streams does the tap have? A pipeline's tables must be known where no tap runs.",
            where=place,
            hint='select=["commits", "issues"], or keep its catalog: tidemill connections singer discover',
        )
    streams = placed(streams_of, rules, known)
    seconds = read_duration(quiet_after, "quiet_after", where=place).total_seconds()
    for option, number in (("most_refused", most_refused), ("largest", largest)):
        if isinstance(number, bool) or number < 0:
            raise DefinitionError(f"{option}={number!r} is no number.", where=place)
    made = Tap(
        program, packages, python, dict(config or {}), chosen, streams, dict(metadata or {}), kept, discover, seconds,
        most_refused, largest, dict(env or {}), place,
    )  # fmt: skip
    keys = {pattern: (one,) if isinstance(one, str) else tuple(one) for pattern, one in (key or {}).items()}
    writes = {"*": write} if isinstance(write, str) else dict(write or {})
    ends = {"*": ended} if isinstance(ended, str) else dict(ended)
    for option, patterns in (("key", keys), ("write", writes), ("ended", ends), ("metadata", made.metadata)):
        for pattern in patterns:
            if not any(fnmatchcase(stream, pattern) for stream in streams):
                known_ones = ", ".join(streams[:8])
                raise DefinitionError(f'{option}: no stream fits "{pattern}".', where=place, hint=known_ones)
    found: dict[str, SingerStream] = {}
    for stream in streams:
        entry = {} if known is None else dict(known[stream])
        for pattern, own in made.metadata.items():
            if fnmatchcase(stream, pattern):
                entry |= {"metadata": [*(entry.get("metadata") or ()), {"breadcrumb": [], "metadata": own}]}
        own_key = _first(keys, stream) or key_of(entry)
        end = _first(ends, stream) or "delete"
        if end not in _ENDS:
            raise UnknownName.of("end of rows", str(end), _ENDS, where=place)
        comes_whole = is_full_table(entry) and end != "mark"
        mode = _first(writes, stream) or ("replace" if comes_whole else "upsert" if own_key else "append")
        if mode not in _WRITES:
            raise UnknownName.of("write mode", str(mode), _WRITES, where=place)
        if end == "mark" and mode not in ("append", "upsert"):
            raise DefinitionError(
                f'Rows of stream "{stream}" are written by {mode}, which marks none as ended.', where=place,
                hint=f'write={{"{stream}": "upsert"}}, or ended={{...}} for the streams that are to be marked',
            )  # fmt: skip
        if mode in ("upsert", "history") and not own_key:
            raise DefinitionError(
                f'Stream "{stream}" has no key by which it could be written by {mode}.', where=place,
                hint=f'key={{"{stream}": "id"}}',
            )  # fmt: skip
        name = prefix + table_name(stream)
        if name.lower() in found:
            raise DefinitionError(
                f'Streams "{found[name.lower()].stream}" and "{stream}" would both be called "{name}".', where=place,
                hint="declare one of them by a source of its own, with prefix=",
            )  # fmt: skip
        merged = own_key if mode in ("upsert", "history") else ()
        found[name.lower()] = SingerStream(made, stream, name, mode, merged, end == "mark")
    return list(found.values())


def read_program(tap: str | Sequence[str], executable: str | None) -> tuple[tuple[str, ...], str]:
    """What is installed, and what is run."""
    specs = (tap,) if isinstance(tap, str) else tuple(tap)
    if not specs or not all(one.strip() for one in specs):
        raise DefinitionError(f"{tap!r} names no tap.", where=here(), hint='tap="tap-github"')
    if len(specs) == 1 and (specs[0].endswith(".py") or specs[0].startswith((".", "/"))):
        return (), specs[0]
    found = _PACKAGE.match(specs[0])
    if executable is not None:
        return specs, executable
    if found is None:
        raise DefinitionError(
            f'"{specs[0].partition("://")[0]}..." does not say what its program is called.', where=here(),
            hint='executable="tap-shop"',
        )  # fmt: skip
    return specs, found[0].lower()


def _kept(catalog: str, place: str) -> Mapping[str, Any]:
    """A catalog from a file beside the user's."""
    path = Path(place.rpartition(":")[0]).parent / catalog
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError:
        raise DefinitionError(
            f'There is no catalog "{catalog}".', where=place, hint="tidemill connections singer discover writes one"
        ) from None
    except ValueError as error:
        raise DefinitionError(f'The catalog "{catalog}" is no JSON: {error}.', where=place) from None
    return dict(found) if isinstance(found, Mapping) else {}


def _first(by_pattern: Mapping[str, Any], stream: str) -> Any:
    return next((value for pattern, value in by_pattern.items() if fnmatchcase(stream, pattern)), None)
