"""Part `cdc` of the bench of sources: changes of a table of PostgreSQL, from the slot into log and state.

The server is a real one, started here, on the same cores. A batch has so many changes: three updates to an insert and a
delete, a hundred in a transaction. The state is compared with the table afterwards, row by row.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import environments
import measure

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "tests"))

#: Changes a second at least, and MB at most.
LEAST, MOST_MB = 30_000, 500
WRITE = """
    DO $$ BEGIN FOR n IN 1 .. {transactions} LOOP
        UPDATE orders SET total = total + 1, name = 'changed in ' || n
            WHERE id BETWEEN (n * 6007 % ({rows} - 60)) + 1 AND (n * 6007 % ({rows} - 60)) + 60;
        INSERT INTO orders SELECT {rows} + {first} + n * 20 + m, m, 1.5, 'new ' || m, now(), true, 0.5, '2026-01-01'
            FROM generate_series(1, 20) m;
        DELETE FROM orders WHERE id > {rows} + {first} + n * 20 - 20 AND id <= {rows} + {first} + n * 20;
        COMMIT;
    END LOOP; END $$
"""


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure; gives the figures, and what is wrong."""
    from harness.postgres import running

    if "tidemill" not in options.peers.split(","):
        return {}, []
    interpreter = environments.python("tidemill")
    with running() as server, tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        url = server.new_database()
        _fill(url, options.rows)
        command = [interpreter, str(BENCH / "peers" / "tidemill_cdc.py")]

        def step(name: str) -> measure.Run:
            return measure.run([*command, name, url, folder], at=Path(folder), limit=1800)

        first = step("begin")
        if first.code:
            return {}, [f"snapshot: {(first.errors.strip().splitlines() or ['no message'])[-1]}"]
        runs, changes = [], 0
        for number in range(options.repeat):
            changes = _change(url, options.rows, number)
            runs.append(step(f"batch-{number}"))
            if runs[-1].code:
                return {}, [f"changes: {(runs[-1].errors.strip().splitlines() or ['no message'])[-1]}"]
        checked = step("check")
    times = sorted(one.seconds for one in runs)
    median = statistics.median(times)
    speed = round(options.rows / first.seconds)
    figures: dict[str, Any] = {
        "snapshot": {"rows": options.rows, "seconds": [first.seconds], "rows_per_second": speed},
        "changes": {
            "changes": changes, "seconds": times, "changes_per_second": round(changes / median),
            "cpu_seconds": round(statistics.median(one.cpu_seconds for one in runs), 2),
            "peak_mb": round(max(one.peak_mb for one in runs), 1),
        },
    }  # fmt: skip
    print(f"snapshot {options.rows:>9,} rows    {first.seconds:>6.2f} s  {options.rows / first.seconds:>9,.0f} rows/s")
    print(
        f"changes  {changes:>9,} changes {median:>6.2f} s  {changes / median:>9,.0f} changes/s"
        f"  ({times[0]:.2f}-{times[-1]:.2f}; CPU {figures['changes']['cpu_seconds']} s,"
        f" {figures['changes']['peak_mb']:.0f} MB)"
    )
    wrong = []
    if checked.output.strip() != "0 0":
        wrong.append(f"rows that are not alike (missing, too many): {checked.output.strip() or checked.errors[-300:]}")
    if changes / median < LEAST:
        wrong.append(f"{changes / median:,.0f} changes/s, and {LEAST:,} are asked for")
    if figures["changes"]["peak_mb"] > MOST_MB:
        wrong.append(f"{figures['changes']['peak_mb']} MB, and {MOST_MB} are allowed")
    return figures, wrong


def _fill(url: str, rows: int) -> None:
    import psycopg

    from sources_sql import ORDERS

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ORDERS.format(rows=rows).replace(f"orders_{rows}", "orders").encode())
        connection.execute("CREATE PUBLICATION bench FOR TABLE orders")


def _change(url: str, rows: int, number: int) -> int:
    """Write a batch's changes; gives how many."""
    import psycopg

    transactions = max(rows // 100, 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = on")
        text = WRITE.format(transactions=transactions, rows=rows, first=number * transactions * 20)
        connection.execute(text.encode())
        connection.execute("SELECT pg_switch_wal()")
    return transactions * 100


if __name__ == "__main__":
    sys.exit("run it by: ./run bench sources cdc")
