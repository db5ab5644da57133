"""A Singer tap, written by hand, that makes as many orders as its config says. Run by bench/sources_singer.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FIELDS = {
    "id": {"type": "integer"},
    "customer": {"type": "integer"},
    "total": {"type": "number"},
    "name": {"type": "string"},
    "updated_at": {"type": "string", "format": "date-time"},
}
BLOCK = 1000


def main() -> None:
    """Write SCHEMA, the records, and a STATE."""
    rows = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text("utf-8"))["rows"]
    out = sys.stdout
    schema = {"type": "SCHEMA", "stream": "orders", "schema": {"properties": FIELDS}, "key_properties": ["id"]}
    out.write(json.dumps(schema) + "\n")
    for start in range(0, rows, BLOCK):
        out.write(
            "".join(
                f'{{"type": "RECORD", "stream": "orders", "record": {{"id": {i}, "customer": {i * 7919 % 50000}, '
                f'"total": {i % 100000 / 4}, "name": "order number {i}", "updated_at": "2026-01-01T10:00:00Z"}}, '
                '"time_extracted": "2026-01-02T03:04:05.678901Z"}\n'
                for i in range(start, min(start + BLOCK, rows))
            )
        )
    out.write(json.dumps({"type": "STATE", "value": {"orders": rows}}) + "\n")


if __name__ == "__main__":
    main()
