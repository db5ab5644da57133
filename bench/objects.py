"""A run and a query with lake and archive in an object store, beside the same in a folder.

    ./run bench objects [--rows 500000] [--repeat 3]

The store is moto's S3 server, a process of its own on the same machine: it takes time of the same cores, and answers
without a network's delay. So the figures compare what the two ways cost here, and say nothing of a store elsewhere.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import measure
from figures import keep

BIN = Path(sys.executable).parent
PORT = 39_555
PIPELINE = """
import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")
orders = shop.files("feeds/{{ ds }}.csv.gz")


@shop.table(key="id", write="upsert")
def latest(orders):
    return orders.with_columns(total=tm.col("price") * tm.col("n"))
"""
QUERY = "select n, count(*) as c, sum(total) as t from latest group by n order by n"


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench objects", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    server = subprocess.Popen(
        [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    figures: dict[str, dict[str, float]] = {}
    code = 0
    try:
        _begin(server)
        with tempfile.TemporaryDirectory() as folder:
            feed = Path(folder) / "feed.csv.gz"
            _write(feed, options.rows)
            print(f"{'where':<8} {'what':<6} {'median s':>9} {'rows/s':>10} {'peak MB':>8}")
            for where in ("folder", "s3"):
                for turn in range(options.repeat):
                    made = _once(Path(folder) / f"{where}{turn}", where, turn, feed)
                    if made is None:
                        return 1
                    for what, (seconds, peak) in made.items():
                        kept = figures.setdefault(f"{where} {what}", {"peak_mb": 0.0})
                        kept[f"seconds_{turn}"] = seconds
                        kept["peak_mb"] = max(kept["peak_mb"], peak)
        for name, kept in figures.items():
            median = statistics.median(v for k, v in kept.items() if k.startswith("seconds"))
            kept["median"] = median
            where, what = name.split()
            print(f"{where:<8} {what:<6} {median:>9.2f} {options.rows / median:>10,.0f} {kept['peak_mb']:>8.0f}")
        keep("objects", {**about, "rows": options.rows}, figures)
    finally:
        server.terminate()
        server.wait()
    return code


def _begin(server: subprocess.Popen[bytes]) -> None:
    """Wait until the store answers, and make the bucket."""
    for _ in range(200):
        if server.poll() is not None:
            raise SystemExit("moto's server does not start: is the port taken?")
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{PORT}/bench-bucket", method="PUT")
            urllib.request.urlopen(request, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("moto's server does not answer.")


def _write(feed: Path, rows: int) -> None:
    with gzip.open(feed, "wt", compresslevel=4) as out:
        out.write("id,customer,price,n,note\n")
        out.writelines(f"{i},c{i * 7919 % 10007},{i % 997}.5,{i % 7},note {i * 31 % 1009}\n" for i in range(rows))


def _once(root: Path, where: str, turn: int, feed: Path) -> dict[str, tuple[float, float]] | None:
    (root / "pipelines").mkdir(parents=True)
    (root / "feeds").mkdir()
    os.link(feed, root / "feeds" / "2026-01-01.csv.gz")
    (root / "pipelines" / "shop.py").write_text(PIPELINE)
    settings = '[project]\nname = "bench"\n'
    if where == "s3":
        place = f"s3://bench-bucket/{turn}-{os.getpid()}"
        settings += f'[lake]\nurl = "{place}/lake"\n[archive]\nurl = "{place}/archive"\n'
        settings += f'[s3]\nendpoint = "http://127.0.0.1:{PORT}"\nregion = "us-east-1"\n'
    (root / "tidemill.toml").write_text(settings)
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "TIDEMILL_PROJECT": str(root)}
    os.environ.update(keys)
    found = {}
    for what, arguments in (("run", ["run", "shop", "2026-01-01"]), ("query", ["query", QUERY])):
        done = measure.run([str(BIN / "tidemill"), *arguments], limit=600)
        if done.code:
            print(f"{where} {what} FAILED: {done.errors.strip()[-500:]}")
            return None
        found[what] = (done.seconds, done.peak_mb)
    return found


if __name__ == "__main__":
    sys.exit(main())
