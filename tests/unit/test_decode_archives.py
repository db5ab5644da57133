"""Zip and tar archives as feeds: members are files; limits, damage, and what is refused."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.packing import PACKERS, decode, zipped
from tidemill.model.errors import DecodeError, LimitError, TidemillError

packed = pytest.mark.parametrize("kind", PACKERS)


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@packed
def test_members_are_files_in_their_order(kind: str) -> None:
    members = [
        ("a.csv", b"id,v\n1,a\n2,b\n"),
        ("deep/b.csv.gz", gzip.compress(b"id,v\n3,c\n")),
        ("c.csv", b"id,v\n4,d\n"),
    ]
    rows, _ = decode(PACKERS[kind](members), f"in.{kind}")
    assert [(row["id"], row["v"]) for row in rows] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


@packed
def test_members_may_be_of_any_format(kind: str) -> None:
    members = [
        ("a.jsonl", b'{"id": 1}\n'), ("b.parquet", parquet(id=[2, 3])), ("c.csv", b"id\n4\n"),
        ("d.parquet.gz", gzip.compress(parquet(id=[5]))),
    ]  # fmt: skip
    rows, _ = decode(PACKERS[kind](members), f"in.{kind}")
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]


@packed
def test_types_are_those_of_all_members(kind: str) -> None:
    """The second member makes texts of the first one's numbers: all is read once more."""
    rows, _ = decode(PACKERS[kind]([("a.csv", b"id\n1\n"), ("b.csv", b"id\nx\n")]), f"in.{kind}")
    assert [row["id"] for row in rows] == ["1", "x"]


@packed
def test_a_row_that_does_not_fit_names_its_member_and_line(kind: str) -> None:
    _, rejected = decode(PACKERS[kind]([("a.csv", b"id,v\n1,a\n"), ("b.csv", b"id,v\n1,a\n2\n")]), f"in.{kind}")
    assert [(one.file, one.line) for one in rejected] == [(f"in.{kind}/b.csv", 3)]


@packed
@pytest.mark.parametrize("pattern", ["*.csv", "**/*.csv"])
def test_a_pattern_chooses_members_and_clutter_is_left(kind: str, pattern: str) -> None:
    members = [
        ("a.csv", b"id\n1\n"), ("readme.txt", b"hello, there\nid\n"), ("__MACOSX/._a.csv", b"\0\0"),
        (".DS_Store", b"\0"), ("deep/b.csv", b"id\n2\n"),
    ]  # fmt: skip
    rows, _ = decode(PACKERS[kind](members), f"in.{kind}", members=pattern)
    assert [row["id"] for row in rows] == [1, 2]


@packed
def test_an_empty_archive_has_no_rows(kind: str) -> None:
    assert decode(PACKERS[kind]([]), f"in.{kind}") == ([], [])


def test_folders_are_no_members() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.mkdir("in")
        archive.writestr("in/a.csv", "id\n1\n")
    assert decode(out.getvalue())[0] == [{"id": 1}]


REFUSED = {
    "leads out": ("../a.csv", "leads out"),
    "leads out within": ("in/../../a.csv", "leads out"),
    "absolute": ("/etc/a.csv", "leads out"),
    "drive": ("C:\\a.csv", "leads out"),
    "backslashes": ("in\\..\\..\\a.csv", "leads out"),
}


@packed
@pytest.mark.parametrize("case", REFUSED)
def test_a_path_that_leads_out_is_refused(kind: str, case: str) -> None:
    name, why = REFUSED[case]
    with pytest.raises(DecodeError, match=why):
        decode(PACKERS[kind]([(name, b"id\n1\n")]), f"in.{kind}")


@packed
def test_two_members_of_one_name_are_refused(kind: str) -> None:
    with pytest.raises(DecodeError, match="twice"):
        decode(PACKERS[kind]([("a.csv", b"id\n1\n"), ("a.csv", b"id\n2\n")]), f"in.{kind}")


@packed
@pytest.mark.parametrize("inner", ["zip", "tar", "tar.gz"])
def test_an_archive_within_an_archive_is_refused(kind: str, inner: str) -> None:
    inside = PACKERS[inner]([("a.csv", b"id\n1\n")])
    with pytest.raises(DecodeError, match="within an archive"):
        decode(PACKERS[kind]([(f"b.{inner}", inside)]), f"in.{kind}")


def test_links_and_devices_are_refused() -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            info = tarfile.TarInfo("a.csv")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(DecodeError, match="is a link"):
            decode(out.getvalue(), "in.tar")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zip_:
        link = zipfile.ZipInfo("a.csv")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        zip_.writestr(link, "/etc/passwd")
    with pytest.raises(DecodeError, match="is a link"):
        decode(out.getvalue())


def test_an_encrypted_zip_is_told() -> None:
    for at in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = bytearray(zipped([("a.csv", b"id\n1\n")], at))
        content[content.index(b"PK\x01\x02") + 8] |= 1
        content[content.index(b"PK\x03\x04") + 6] |= 1
        with pytest.raises(DecodeError, match="encrypted"):
            decode(bytes(content))


@packed
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_archive_is_an_error(kind: str, share: float) -> None:
    lines = "".join(f"{i},{i * 7919 % 10007}\n" for i in range(20_000)).encode()
    content = PACKERS[kind]([("a.csv", b"id,v\n" + lines), ("b.csv", b"id,v\n" + lines)])
    with pytest.raises(TidemillError) as caught:
        decode(content[: int(len(content) * share)], f"in.{kind}")
    assert isinstance(caught.value, DecodeError)


def test_a_damaged_member_is_an_error() -> None:
    content = bytearray(zipped([("a.csv", b"id\n" + b"1\n" * 5000)], zipfile.ZIP_STORED))
    content[3000] ^= 0xFF
    with pytest.raises(DecodeError, match="damaged"):
        decode(bytes(content))


@packed
def test_bombs_are_refused(kind: str) -> None:
    content = PACKERS[kind]([("a.csv", b"id\n" + b"1\n" * 3_000_000)])
    with pytest.raises(LimitError, match="unpacks to more than 1,000,000"):
        decode(content, f"in.{kind}", max_unpacked=1_000_000)


def test_a_bomb_by_its_ratio() -> None:
    content = zipped([("a.csv", b"id\n" + (b"x" * 999 + b"\n") * 100_000)])  # long rows: few are made before it is told
    with pytest.raises(LimitError, match="times its size"):
        decode(content, max_ratio=100)


def test_many_small_members_count_together() -> None:
    content = zipped([(f"{i}.csv", b"id\n" + b"1\n" * 1000) for i in range(100)])
    with pytest.raises(LimitError, match="unpacks"):
        decode(content, max_unpacked=50_000)
    with pytest.raises(LimitError, match="more than 50 members"):
        decode(content, max_members=50)
    assert len(decode(content)[0]) == 100_000


def test_a_zip_that_lies_about_a_members_size_is_bounded_all_the_same() -> None:
    content = bytearray(zipped([("a.csv", b"id\n" + b"1\n" * 3_000_000)]))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 10)
    with pytest.raises(TidemillError) as caught:
        decode(bytes(content), max_unpacked=1_000_000)
    assert isinstance(caught.value, LimitError | DecodeError)
