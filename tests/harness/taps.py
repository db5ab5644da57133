"""Taps for tests: programs in Python that write what a test has laid down for them, in the words of Singer."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: A tap whose runs are files: `runs/<number>.txt` is what run `<number>` writes, by lines:
#: a message; or `@exit 3`, `@silent`, `@stderr text`, `@raw text`, `@kill`, `@state` (writes the state it was given).
#: It notes its arguments in `calls.jsonl`.
PROGRAM = textwrap.dedent("""
    import json, os, signal, sys, time
    from pathlib import Path

    here = Path(__file__).parent
    given = dict(zip(sys.argv[1::2], sys.argv[2::2])) if "--discover" not in sys.argv else {}
    config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
    if "--discover" in sys.argv:
        print(Path(here / "catalog.json").read_text())
        raise SystemExit
    told = {name[2:]: json.loads(Path(file).read_text()) for name, file in given.items()}
    told["environment"] = {name: text for name, text in os.environ.items() if name.startswith(("TIDEMILL", "TAP"))}
    with open(here / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(told) + "\\n")
    number = len((here / "calls.jsonl").read_text().splitlines())
    for line in (here / "runs" / f"{number}.txt").read_bytes().split(b"\\n"):
        if line.startswith(b"@exit"):
            sys.stdout.flush()
            raise SystemExit(int(line.split()[1]))
        elif line == b"@silent":
            sys.stdout.flush()
            time.sleep(600)
        elif line == b"@stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif line == b"@kill":
            sys.stdout.flush()
            os.kill(os.getppid(), signal.SIGKILL)
        elif line.startswith(b"@stderr "):
            sys.stderr.write(line[8:].decode() + "\\n")
            sys.stderr.flush()
        elif line.startswith(b"@unended "):
            sys.stdout.buffer.write(line[9:])
        elif line:
            sys.stdout.buffer.write(line + b"\\n")
    sys.stdout.flush()
""")


def schema(stream: str, properties: Mapping[str, Any], key: Iterable[str] = ()) -> str:
    """A SCHEMA message; a property may be the name of a type."""
    full = {name: {"type": ["null", one]} if isinstance(one, str) else one for name, one in properties.items()}
    return json.dumps({"type": "SCHEMA", "stream": stream, "schema": {"type": "object", "properties": full},
                       "key_properties": list(key)})  # fmt: skip


def record(stream: str, /, version: int | None = None, **values: Any) -> str:
    """A RECORD message."""
    message: dict[str, Any] = {"type": "RECORD", "stream": stream, "record": values}
    return json.dumps(message if version is None else {**message, "version": version})


def activate(stream: str, version: int) -> str:
    """An ACTIVATE_VERSION message."""
    return json.dumps({"type": "ACTIVATE_VERSION", "stream": stream, "version": version})


def state(value: Any) -> str:
    """A STATE message."""
    return json.dumps({"type": "STATE", "value": value})


def entry(stream: str, properties: Iterable[str] = ("id",), key: Iterable[str] = ("id",), **top: Any) -> dict[str, Any]:
    """A stream of a catalog."""
    marks: list[dict[str, Any]] = [
        {"breadcrumb": ["properties", name], "metadata": {"inclusion": "automatic" if name in key else "available"}}
        for name in properties
    ]
    return {
        "tap_stream_id": stream, "stream": stream, "key_properties": list(key),
        "schema": {"type": "object", "properties": {name: {} for name in properties}},
        "metadata": [{"breadcrumb": [], "metadata": {"inclusion": "available", **top}}, *marks],
    }  # fmt: skip


class WrittenTap:
    """A tap in a folder of a project.

    Args:
        root: the project's folder.
        streams: catalog entries, or names of streams.
    """

    def __init__(self, root: Path, streams: Iterable[str | dict[str, Any]] = ()) -> None:
        self.folder = root / "taps"
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        (self.folder / "tap_shop.py").write_text(PROGRAM, "utf-8")
        self.program = "taps/tap_shop.py"
        self.catalog([one if isinstance(one, dict) else entry(one) for one in streams])
        self._runs = 0

    def catalog(self, streams: list[dict[str, Any]]) -> None:
        """What it says that it has."""
        (self.folder / "catalog.json").write_text(json.dumps({"streams": streams}), "utf-8")

    def will(self, *lines: str | bytes) -> None:
        """What its next run writes; the one after that, where this is called again before."""
        self._runs += 1
        data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
        (self.folder / "runs" / f"{self._runs}.txt").write_bytes(data)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What each run was told: config, catalog, state."""
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
