"""Names that would leave their place: file patterns, links, names of files, pipelines and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.feeding import Shop


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("../secret.csv", 'The path "../secret.csv" is refused: it goes up by "..".'),
        ("feeds/../../secret.csv", 'The path "feeds/../../secret.csv" is refused: it goes up by "..".'),
        ("/etc/passwd", 'The path "/etc/passwd" is refused: it is absolute.'),
        ("{{ params.up }}", 'The path "../secret.csv" is refused: it goes up by "..".'),
    ],
)
def test_a_pattern_that_leaves_the_project(tmp_path: Path, pattern: str, reason: str) -> None:
    (tmp_path / "secret.csv").write_text("id\n1\n")
    made = Shop(tmp_path / "project")
    made.cli.write(
        "pipelines/shop.py",
        f"""
        import tidemill as tm
        shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01", params={{"up": "../secret.csv"}})
        orders = shop.files("{pattern}")
        """,
    )
    told = made.run("2026-01-01")
    assert told.exit_code == 1
    assert told.err.splitlines()[:3] == [
        f"error: {reason}",
        "  at: pipelines/shop.py:3",
        "  try: a path below the project's folder",
    ]
    assert not (made.cli.folder / ".tidemill/archive/shop").exists()


def test_a_link_that_leaves_the_project(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("id\n1\n")
    made = Shop(tmp_path / "project")
    link = made.cli.folder / "feeds/2026-01-01/orders.csv"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "secret.csv")
    told = made.run("2026-01-01")
    assert told.exit_code == 1
    assert told.err.splitlines()[0] == 'error: "feeds/2026-01-01/orders.csv" is a link out of the project.'
    assert not (made.cli.folder / ".tidemill/archive/shop").exists()


def test_names_of_archived_files_stay_below_their_batch(shop: Shop) -> None:
    for name in ("..csv", "a b;c'd\".csv", "-rf.csv", "%2e%2e%2fx.csv", "\u202etxt.csv"):
        shop.feed(name, b"id\n1\n", "2026-01-01")
    assert shop.run("2026-01-01").exit_code == 0
    batch = shop.cli.folder / ".tidemill/archive/shop/orders/dt=2026-01-01/batch=1"
    kept = sorted(f.name for f in batch.iterdir() if f.name.startswith("a1-"))
    assert len(kept) == 5
    assert all(name.isascii() and "/" not in name and " " not in name for name in kept)
    assert shop.query("select count(*) as n from shop.orders") == [{"n": 5}]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ('tm.Pipeline("../shop")', '"../shop" cannot name a pipeline: use letters, digits and underscores.'),
        ('p.files("feeds/a.csv", name="../x")', '"../x" cannot name a source: use letters, digits and underscores.'),
        (
            'p.sql(text="select 1 as a", name="../../x")',
            '"../../x" cannot name a table: use letters, digits and underscores.',
        ),
        ('p.sql(text="select * from {{ ref(\'../x\') }}", name="m")', '"../x" is no name of a table.'),
    ],
)
def test_names_that_are_paths(shop: Shop, code: str, error: str) -> None:
    shop.cli.write("pipelines/shop.py", f'import tidemill as tm\np = tm.Pipeline("shop")\n{code}\n')
    told = shop.run("2026-01-01")
    assert told.exit_code == 2
    assert told.err.splitlines()[:2] == [f"error: {error}", "  at: pipelines/shop.py:3"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.csv", "a/../../b.csv", ""])
def test_records_cannot_name_their_file(shop: Shop, name: str) -> None:
    """A file name in the data is data."""
    shop.feed("orders.jsonl", f'{{"path": "{name}", "id": 1}}\n'.encode(), "2026-01-01")
    assert shop.run("2026-01-01").exit_code == 0
    assert shop.query("select path, id from shop.orders") == [{"path": name, "id": 1}]
