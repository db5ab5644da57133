"""Bad input through whole runs, as a user meets it: what the terminal says, what is in quarantine, what main has.

Each file comes in by `tidemill run`. Either the run fails with one error (what, where, what to try) and `main` stays as
it was, or what can be read is published and the rest is in quarantine, where `tidemill query` reads it.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from harness.feeding import Shop

Refusal = Callable[..., None]


@pytest.fixture
def refused(shop: Shop) -> Refusal:
    """Runs a file that cannot be read, and compares the error with the lines given."""

    def check(name: str, raw: bytes, *lines: str, day_1: bytes = b"id,v\n1,a\n2,b\n", refetch: bool = False) -> None:
        shop.feed("orders.csv", day_1, "2026-01-01")
        assert shop.run("2026-01-01").exit_code == 0
        before = shop.query("select * from shop.orders")
        shop.feed(name, raw)
        told = shop.run()
        assert told.exit_code == 1
        assert told.err.splitlines() == [
            *lines,
            "untouched  main",
            "why:  tidemill data batches 2",
            f"resume:  tidemill run shop 2026-01-02{' --refetch' if refetch else ''}",
        ]
        assert shop.query("select * from shop.orders") == before

    return check


def quarantined(shop: Shop) -> list[tuple[Any, ...]]:
    """Line, raw text and error of what went to quarantine."""
    rows = shop.query("select file, line, raw, error, _batch_id from shop.orders__quarantine order by line")
    assert {r["_batch_id"] for r in rows} == {1}
    assert len({r["file"] for r in rows}) == 1
    return [(r["line"], r["raw"], r["error"]) for r in rows]


def loaded(shop: Shop, name: str, raw: bytes) -> list[tuple[Any, ...]]:
    """Run a file as the first day; gives the rows published, without the system columns."""
    shop.feed(name, raw, "2026-01-01")
    told = shop.run("2026-01-01")
    assert told.exit_code == 0, told.stderr
    rows = shop.query("select * exclude (_batch_id, _loaded_at) from shop.orders")
    return [tuple(r.values()) for r in rows]


# -- bytes that cannot be read -----------------------------------------------------------------------------------------


def test_a_truncated_gzip_file(refused: Refusal) -> None:
    whole = gzip.compress(b"id,v\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 1000) for i in range(20_000)), mtime=1)
    refused(
        "orders.csv.gz",
        whole[: len(whole) // 2],
        "error: The gzip data of feeds/2026-01-02/orders.csv.gz ends in the middle: the file is truncated.",
        "  at: feeds/2026-01-02/orders.csv.gz, after 82,389 unpacked bytes",
        "  try: fetch the file again (--refetch)",
        refetch=True,
    )


def test_a_repaired_file_is_fetched_by_the_command_that_the_failure_names(shop: Shop) -> None:
    shop.feed("orders.csv.gz", gzip.compress(b"id,v\n1,a\n")[:15], "2026-01-01")
    told = shop.run("2026-01-01")
    resume = told.err.splitlines()[-1].removeprefix("resume:  tidemill ")
    shop.feed("orders.csv.gz", gzip.compress(b"id,v\n1,a\n"), "2026-01-01")
    assert shop.cli("-q", *resume.split()).exit_code == 0
    assert shop.query("select id, v from shop.orders") == [{"id": 1, "v": "a"}]


def test_a_quote_that_is_never_closed(refused: Refusal) -> None:
    refused(
        "orders.csv",
        b'id,v\n1,a\n2,"open\n3,c\n',
        "error: A quote is opened and never closed.",
        "  at: feeds/2026-01-02/orders.csv line 3",
        "  try: check the quote in the csv options",
        refetch=True,
    )


def test_a_zip_archive_that_leads_out(refused: Refusal) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("orders.csv", "id,v\n3,c\n")
        archive.writestr("../orders.csv", "id,v\n4,d\n")
    refused(
        "orders.zip",
        packed.getvalue(),
        'error: The member "../orders.csv" of feeds/2026-01-02/orders.zip has a path that leads out of the archive.',
        "  at: feeds/2026-01-02/orders.zip",
        "  try: pack it again, or unpack it before",
        refetch=True,
    )


def test_a_gzip_bomb(shop: Shop, refused: Refusal) -> None:
    shop.declare(max_unpacked=1_000_000)
    bomb = gzip.compress(b"id,v\n" + b"1,0\n" * 5_000_000, mtime=1)
    refused(
        "orders.csv.gz",
        bomb,
        f"error: feeds/2026-01-02/orders.csv.gz ({len(bomb):,} bytes) unpacks to more than 1,000,000 bytes.",
        "  at: feeds/2026-01-02/orders.csv.gz",
        "  try: raise max_unpacked if this file is meant to be so large",
    )


def test_a_gzip_bomb_of_one_endless_line(refused: Refusal) -> None:
    refused(
        "orders.csv.gz",
        gzip.compress(b"id,v\n1," + b"0" * 80_000_000, mtime=1),
        "error: feeds/2026-01-02/orders.csv.gz holds a record that is longer than 67,108,864 bytes.",
        "  at: feeds/2026-01-02/orders.csv.gz",
        "  try: check the format, or raise max_field",
    )


def test_duplicate_columns(refused: Refusal) -> None:
    refused(
        "orders.csv",
        b"id,id,v\n1,2,a\n",
        'error: feeds/2026-01-02/orders.csv has two columns "id" (number 1 and 2); case is ignored.',
        "  at: feeds/2026-01-02/orders.csv line 1",
        "  try: give column_names in the csv options, or rename one in the source",
        refetch=True,
    )


def test_columns_that_differ_only_in_case(refused: Refusal) -> None:
    refused(
        "orders.csv",
        b"id,ID,v\n1,2,a\n",
        'error: feeds/2026-01-02/orders.csv has columns "id" and "ID" (number 1 and 2); case is ignored.',
        "  at: feeds/2026-01-02/orders.csv line 1",
        "  try: give column_names in the csv options, or rename one in the source",
        refetch=True,
    )


def test_more_columns_than_are_read(refused: Refusal) -> None:
    refused(
        "orders.csv",
        (",".join(f"c{i}" for i in range(10_001)) + "\n").encode(),
        "error: feeds/2026-01-02/orders.csv has 10,001 columns, at most 10,000 are read.",
        "  at: feeds/2026-01-02/orders.csv line 1",
        "  try: check the delimiter, or raise max_columns",
    )


# -- rows that cannot be read: quarantine ------------------------------------------------------------------------------


def test_broken_json_lines(shop: Shop) -> None:
    raw = b'{"id":1}\n{"id":2,\n{"id":3}\nnot json\n[1,2]\n{"id":4}{"id":5}\n'
    assert loaded(shop, "orders.jsonl", raw) == [(1,), (3,)]
    assert quarantined(shop) == [
        (2, '{"id":2,', "not JSON: expecting property name enclosed in double quotes at position 9"),
        (4, "not json", "not JSON: expecting value at position 1"),
        (5, "[1,2]", "not a JSON object: [1,2]"),
        (6, '{"id":4}{"id":5}', "not JSON: extra data at position 9"),
    ]


def test_the_run_says_how_many_rows_were_rejected_and_how_to_see_them(shop: Shop) -> None:
    shop.feed("orders.csv", b"id,v\n1,a\n2\n", "2026-01-01")
    told = shop.cli("run", "shop", "2026-01-01")
    assert "loaded  shop.orders  1 row  1 rejected" in told.out.splitlines()
    assert told.out.splitlines()[-1] == "next: tidemill data show shop.orders__quarantine"
    shown = shop.cli("data", "show", "shop.orders__quarantine")
    assert "1 field, 2 expected" in shown.out


def test_wrong_column_counts(shop: Shop) -> None:
    assert loaded(shop, "orders.csv", b"id,v\n1,a\n2\n3,c,d\n4,e\n") == [(1, "a"), (4, "e")]
    assert quarantined(shop) == [(3, "2", "1 field, 2 expected"), (4, "3,c,d", "3 fields, 2 expected")]


def test_invalid_utf8_in_csv(shop: Shop) -> None:
    assert loaded(shop, "orders.csv", b"id,v\n1,caf\xe9\n2,ok\n") == [(2, "ok")]
    assert quarantined(shop) == [(2, "1,caf\\xe9", "not UTF-8: byte 0xe9 at position 6")]


def test_invalid_utf8_in_json(shop: Shop) -> None:
    assert loaded(shop, "orders.jsonl", b'{"id":1,"v":"caf\xe9"}\n{"id":2,"v":"ok"}\n') == [(2, "ok")]
    assert quarantined(shop) == [(1, '{"id":1,"v":"caf\\xe9"}', "not UTF-8: byte 0xe9 at position 17")]


def test_another_encoding_is_read_where_it_is_declared(shop: Shop) -> None:
    shop.declare(csv={"encoding": "latin-1"})
    assert loaded(shop, "orders.csv", b"id,v\n1,caf\xe9\n") == [(1, "café")]


def test_nul_bytes(shop: Shop) -> None:
    assert loaded(shop, "orders.csv", b"id,v\n1,a\0b\n2,c\n") == [(2, "c")]
    assert quarantined(shop) == [(2, "1,a\\x00b", "a NUL byte")]


def test_a_key_that_appears_twice(shop: Shop) -> None:
    assert loaded(shop, "orders.jsonl", b'{"id":1,"id":2}\n{"id":3}\n') == [(3,)]
    assert quarantined(shop) == [(1, '{"id":1,"id":2}', 'the key "id" appears twice')]


def test_keys_that_differ_only_in_case(shop: Shop) -> None:
    assert loaded(shop, "orders.jsonl", b'{"id":1}\n{"Id":2}\n') == [(1,)]
    assert quarantined(shop) == [(2, '{"Id":2}', 'the key "Id" differs from "id" only in case')]


def test_nesting_a_hundred_deep(shop: Shop) -> None:
    deep = b'{"id":1,"a":' + b"[" * 100 + b"]" * 100 + b"}"
    assert loaded(shop, "orders.jsonl", deep + b'\n{"id":2}\n') == [(2,)]
    assert quarantined(shop) == [(1, deep.decode(), "nested 101 levels deep, at most 64 are read")]


def test_a_field_that_is_too_long(shop: Shop) -> None:
    shop.declare(max_field=1000)
    assert loaded(shop, "orders.csv", b"id,v\n1," + b"x" * 1001 + b"\n2,ok\n") == [(2, "ok")]
    assert quarantined(shop) == [(2, "1," + "x" * 1001, "v: 1,001 bytes, at most 1,000 are read (max_field)")]


# -- what only looks bad -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xef\xbb\xbfid,v\n1,a\n2,b\n", id="BOM"),
        pytest.param("id,v\n1,a\n2,b\n".encode("utf-16"), id="UTF-16 with BOM"),
        pytest.param(b"id,v\r\n1,a\r\n2,b\r\n", id="CRLF"),
        pytest.param(b"id,v\r1,a\r2,b\r", id="CR"),
        pytest.param(b'"id","v"\n"1","a"\n2,b', id="quotes, no line end at the end"),
    ],
)
def test_marks_and_line_ends_of_other_systems(shop: Shop, raw: bytes) -> None:
    assert loaded(shop, "orders.csv", raw) == [(1, "a"), (2, "b")]


def test_quoted_delimiters_quotes_and_line_ends(shop: Shop) -> None:
    rows = loaded(shop, "orders.csv", b'id,v\n1,"a,b"\n2,"say ""hi"""\n3,"two\nlines"\n')
    assert rows == [(1, "a,b"), (2, 'say "hi"'), (3, "two\nlines")]


@pytest.mark.parametrize("raw", [b"", b"id,v\n"], ids=["nothing", "only a header"])
def test_an_empty_file_is_an_empty_batch(shop: Shop, raw: bytes) -> None:
    shop.feed("orders.csv", b"id,v\n1,a\n", "2026-01-01")
    shop.feed("orders.csv", raw, "2026-01-02")
    for day in ("2026-01-01", "2026-01-02"):
        assert shop.run(day).exit_code == 0
    assert shop.query("select id, v from shop.orders") == [{"id": 1, "v": "a"}]


def test_an_empty_file_before_any_other_cannot_feed_a_table_and_says_so(shop: Shop) -> None:
    shop.feed("orders.csv", b"id,v\n", "2026-01-01")
    file = shop.cli.folder / "pipelines/shop.py"
    file.write_text(file.read_text() + "\n\n@shop.table\ndef clean(orders):\n    return orders\n")
    told = shop.run("2026-01-01")
    assert told.err.splitlines()[:3] == [
        'error: Table "shop.orders" has no columns yet: its source has brought no row so far.',
        "  at: pipelines/shop.py:4",
        '  try: declare them: columns={"id": "long"}, or run an interval first that has rows of orders',
    ]
    assert not any(line.startswith("kept") for line in told.err.splitlines()), "nothing was written"
    file.write_text(file.read_text().replace('/*")', '/*", columns={"id": "long", "v": "string"})'))
    assert shop.run("2026-01-01").exit_code == 0
    assert shop.query("select count(*) as n from shop.clean") == [{"n": 0}]


def test_names_with_quotes_spaces_and_keywords(shop: Shop) -> None:
    loaded(shop, "orders.csv", '"say ""x""",two words,select,a.b,"semi;colon",été\n1,2,3,4,5,6\n'.encode())
    (row,) = shop.query('select "say ""x""", "two words", "select", "a.b", "semi;colon", "été" from shop.orders')
    assert list(row.values()) == [1, 2, 3, 4, 5, 6]


def test_ten_thousand_columns(shop: Shop) -> None:
    header = ",".join(f"c{i}" for i in range(10_000))
    (row,) = loaded(shop, "orders.csv", f"{header}\n{','.join(map(str, range(10_000)))}\n".encode())
    assert row == tuple(range(10_000))


def test_a_field_of_a_megabyte(shop: Shop) -> None:
    loaded(shop, "orders.csv", b"id,v\n1," + b"x" * 1_000_000 + b"\n")
    assert shop.query("select length(v) as n from shop.orders") == [{"n": 1_000_000}]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("orders.csv", b"id,v\n1,NaN\n2,Infinity\n3,-inf\n4,1.5\n"),
        ("orders.jsonl", b'{"id":1,"v":NaN}\n{"id":2,"v":Infinity}\n{"id":3,"v":-Infinity}\n{"id":4,"v":1.5}\n'),
    ],
)
def test_not_a_number_and_infinity(shop: Shop, name: str, raw: bytes) -> None:
    loaded(shop, name, raw)
    query = "select isnan(v) as nan, v > 1e308 as up, v < -1e308 as down from shop.orders order by id"
    assert [(r["nan"], r["down"]) for r in shop.query(query)] == [
        (True, False),
        (False, False),
        (False, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("orders.csv", b"id,v\n1,9223372036854775808\n2,-170141183460469231731687303715884105728\n"),
        ("orders.jsonl", b'{"id":1,"v":9223372036854775808}\n{"id":2,"v":-170141183460469231731687303715884105728}\n'),
    ],
)
def test_numbers_beyond_64_bits_keep_every_digit(shop: Shop, name: str, raw: bytes) -> None:
    loaded(shop, name, raw)
    found = shop.query("select v::varchar as v from shop.orders order by id")
    assert [r["v"] for r in found] == ["9223372036854775808", "-170141183460469231731687303715884105728"]
