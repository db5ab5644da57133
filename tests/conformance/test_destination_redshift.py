"""What only Redshift does as a destination, on the emulator: files, bytes, refusals, faults, and deaths."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import pages
import tidemill as tm
from harness import services
from harness.deaths import some_of
from harness.examples import few
from harness.landing import rows
from harness.objectstore import ObjectStore, proxying
from harness.postgres import Postgres
from harness.redshift import Redshift, destination, emulating, redshift_landing
from harness.s3keys import KEY, SECRET
from tidemill.adapters.redshift import upload
from tidemill.model.errors import ContractError, DataError, SettingsError, TidemillError, Unreachable
from tidemill.model.redshift import Form
from tidemill.ports.destination import Load
from tidemill.testing.faults import FaultPoints

pytestmark = pytest.mark.postgres
#: Each example is a load of two seconds.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
KEYED: dict[str, Any] = {"write": "upsert", "key": ("k",)}


def load(place: Redshift, *tables: Any, before: str | None = None, after: str = "1", **how: Any) -> int:
    return destination(place, **how).load(Load("s", before, after, tables))


def seen(place: Redshift, query: str) -> list[tuple[Any, ...]]:
    return redshift_landing(place).ask(query)


def waiting(place: Redshift) -> list[str]:
    """The files in the bucket, without the one by which it was found out what the bucket can."""
    return [key for key in place.store.keys(place.bucket) if ".tidemill-tmp" not in key]


def shown(row: tuple[Any, ...]) -> str:
    """A row as text; moments without the name that a driver gives to their zone."""
    return repr([value.isoformat() if isinstance(value, dt.datetime) else value for value in row])


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
VALUES = st.tuples(
    st.none() | TEXTS,
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.booleans(),
    st.none() | st.decimals(-(10**12), 10**12, places=3),
    st.none() | st.dates(dt.date(1, 1, 1)),
    st.none() | st.datetimes(dt.datetime(1, 1, 2), timezones=st.just(dt.UTC)),
    st.none() | st.times().map(lambda at: at.replace(fold=0)),
    st.none() | st.binary(max_size=20),
    st.none() | st.lists(TEXTS, max_size=3),
)
COLUMNS = {
    "text": "string", "n": "long", "f": "double", "flag": "boolean", "money": "decimal(18,3)", "day": "date",
    "moment": "timestamptz", "at": "time", "raw": "binary", "list": "list<string>",
}  # fmt: skip


@pytest.mark.parametrize("form", list(Form))
def test_values_are_the_same_through_every_form(redshift: Redshift, form: Form) -> None:
    @settings(max_examples=few(24), phases=NO_SHRINKING, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(VALUES, min_size=1, max_size=8))
    def check(values: list[tuple[Any, ...]]) -> None:
        table, source = f"t{uuid.uuid4().hex}", uuid.uuid4().hex
        made = rows(COLUMNS, values, table=table, cut=3)
        assert destination(redshift, form=form).load(Load(source, None, "1", (made,))) == len(values)
        found = seen(redshift, f"SELECT * FROM {table}")
        assert sorted(map(shown, found)) == sorted(map(shown, values))

    check()


def test_what_is_refused_is_told_with_file_line_column_and_value(redshift: Redshift) -> None:
    redshift.ask("CREATE TABLE t (a bigint)")
    big = rows({"a": "decimal(38,0)"}, [(Decimal(1),), (Decimal(10) ** 30,)])
    with pytest.raises(ContractError, match="bring decimal"):
        load(redshift, big)
    with pytest.raises(DataError, match="NUL"):
        load(redshift, rows({"v": "string"}, [("a\0b",)], table="u"))
    with pytest.raises(DataError, match=r'"v" has 65538 bytes'):
        load(redshift, rows({"v": "string"}, [("😀" * 16384 + "éé"[:1],)], table="u"))
    # What COPY itself refuses: the file is put in our file's place while COPY waits.
    put = _replacing(redshift, b'{"c0":1,"_tidemill_n":0}\n{"c0":"x1","_tidemill_n":1}\n')
    redshift.emulator.fault = put
    with pytest.raises(DataError, match=r"(?s)column \"a\" \(bigint\), value 'x1': Invalid digit.*json.gz line 2"):
        load(redshift, rows({"a": "long"}, [(1,), (2,)]))
    redshift.emulator.fault = None
    assert seen(redshift, "SELECT count(*) FROM t") == [(0,)]


def _replacing(place: Redshift, content: bytes) -> Any:
    import gzip

    def fault(sql: str) -> None:
        if sql.startswith("COPY"):
            for key in waiting(place):
                if key.endswith(".json.gz"):
                    place.put(key, gzip.compress(content))

    return fault


def test_texts_are_measured_in_bytes_and_columns_grow(redshift: Redshift) -> None:
    load(redshift, rows({"v": "string"}, [("é" * 8,)]))
    columns = "SELECT data_type FROM svv_redshift_columns WHERE table_name = 't'"
    assert redshift.ask(columns) == [("character varying(16)",)]
    load(redshift, rows({"v": "string"}, [("😀" * 5,)]), before="1", after="2")
    assert redshift.ask(columns) == [("character varying(32)",)]
    assert seen(redshift, "SELECT v FROM t ORDER BY length(v)") == [("😀" * 5,), ("é" * 8,)]


def test_a_table_lies_as_its_layout_says(redshift: Redshift) -> None:
    """As a pipeline says where it delivers the table."""
    shop = tm.Pipeline("shop")
    shop.source(lambda: iter(()), name="orders")
    shop.deliver("orders", to="warehouse", distkey="k", sortkey="day", encode={"v": "zstd"})
    (asked,) = shop.spec().deliveries[0].tables
    made = rows(
        {"k": "long", "v": "string", "day": "date"}, [(1, "x", dt.date(2026, 1, 1))], **KEYED, options=asked.options
    )
    load(redshift, made)
    found = redshift.ask(
        "SELECT column_name, encoding, distkey, sortkey, is_nullable FROM svv_redshift_columns WHERE table_name = 't'"
        " ORDER BY ordinal_position"
    )
    assert found == [("k", "none", True, 0, "NO"), ("v", "zstd", False, 0, "YES"), ("day", "none", False, 1, "YES")]


def test_keys_are_checked_as_redshift_does_not(redshift: Redshift) -> None:
    load(redshift, rows({"k": "long", "o": "long"}, [(1, 9)], **KEYED, order="o"))
    redshift.ask("INSERT INTO t VALUES (1, 8)")
    with pytest.raises(ContractError, match="1 keys"):
        load(redshift, rows({"k": "long", "o": "long"}, [(1, 1)], **KEYED, order="o"), before="1", after="2")
    assert destination(redshift).position("s") == "1"


def test_files_are_as_many_as_slices_and_go_when_they_are_loaded(
    redshift: Redshift, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [(number, "x" * 50) for number in range(100)]
    load(redshift, rows({"n": "long", "v": "string"}, values))
    assert waiting(redshift) == []
    monkeypatch.setattr(upload, "WORTH_CUTTING", 1000)
    load(redshift, rows({"n": "long", "v": "string"}, values), before="1", after="2", keep=True, slices=3)
    names = [key.rpartition("/")[2] for key in waiting(redshift)]
    assert sorted(names) == ["00000.json.gz", "00001.json.gz", "00002.json.gz", "manifest.json"]
    assert seen(redshift, "SELECT count(*), count(DISTINCT n) FROM t") == [(200, 100)]


def test_a_file_that_is_missing_is_an_error(redshift: Redshift) -> None:
    def fault(sql: str) -> None:
        if sql.startswith("COPY"):
            for key in waiting(redshift):
                if key.endswith(".gz"):
                    redshift.store.client.delete_object(Bucket=redshift.bucket, Key=key)

    redshift.emulator.fault = fault
    with pytest.raises(TidemillError, match="mandatory"):
        load(redshift, rows({"n": "long"}, [(1,)]))
    redshift.emulator.fault = None
    assert load(redshift, rows({"n": "long"}, [(1,)])) == 1


def test_a_role_or_a_bucket_that_is_not_allowed_is_a_setting(redshift: Redshift) -> None:
    with pytest.raises(SettingsError, match="may not read the bucket"):
        load(redshift, rows({"n": "long"}, [(1,)]), role="arn:aws:iam::123456789012:role/other")
    wrong = destination(redshift)
    wrong._parts = {**redshift.parts, "password": "secret-1"}
    with pytest.raises(SettingsError) as told:
        wrong.position("s")
    assert "secret-1" not in str(told.value)
    wrong._parts = {**redshift.parts, "port": 1}
    with pytest.raises(Unreachable, match=r"^Redshift does not answer: \[Errno \d+\] Connection refused\.$"):
        wrong.position("s")


def test_a_store_that_fails_while_redshift_reads_is_told_and_leaves_nothing(
    postgres: Postgres, object_store: ObjectStore
) -> None:
    with proxying(object_store.endpoint) as proxy, emulating(postgres, object_store, endpoint=proxy.endpoint) as place:
        proxy.fault = lambda request: "503" if request.method == "GET" else None
        with pytest.raises(Unreachable):
            load(place, rows({"n": "long"}, [(1,)]))
        proxy.fault = lambda _request: None
        assert destination(place).position("s") is None
        assert load(place, rows({"n": "long"}, [(1,)])) == 1


@pytest.mark.parametrize("where", ["COPY", "-- done\nCOPY", "COMMIT", "-- done\nCOMMIT"])
def test_a_connection_that_ends_is_told_and_the_position_tells_what_was_done(redshift: Redshift, where: str) -> None:
    redshift.emulator.fault = lambda sql: "drop" if sql.startswith(where) else None
    with pytest.raises(Unreachable):
        load(redshift, rows({"n": "long"}, [(1,)]))
    redshift.emulator.fault = None
    done = where == "-- done\nCOMMIT"
    assert destination(redshift).position("s") == ("1" if done else None)
    if not done:
        load(redshift, rows({"n": "long"}, [(1,)]))
    assert seen(redshift, "SELECT n FROM t") == [(1,)]


class Died(BaseException):
    """The process ends here."""


def dying(place: Redshift, number: int | None, at: int | None) -> tuple[list[str], bool]:
    """A load that dies at an effect: a file, or a statement; the names of effects, and whether it died."""

    def die(_name: str) -> None:
        raise Died

    points = FaultPoints(at, die)

    def fault(sql: str) -> str | None:
        try:
            points.point(sql[:60])
        except Died:
            return "drop"
        return None

    made = destination(place)
    made._files = points.files(made._files)
    if at is not None:
        made._remove = lambda _folder: None  # type: ignore[method-assign]  # who dies removes nothing
    place.emulator.fault = fault
    load_ = rows({"k": "long", "v": "string"}, [(1, f"v{number}"), (number, "new")], **KEYED)
    lost = False
    with contextlib.suppress(Died, TidemillError):
        lost = True
        made.load(Load("s", None if number == 1 else str((number or 1) - 1), str(number), (load_,)))
        lost = False
    place.emulator.fault = None
    return points.passed, lost


def test_a_load_is_there_once_wherever_it_dies(redshift: Redshift, request: pytest.FixtureRequest) -> None:
    """Deaths between upload, COPY and commit: a sample of the effects, with `TIDEMILL_DEATHS=all` all of them."""
    dying(redshift, 1, None)
    effects, _ = dying(redshift, 2, None)
    assert len(effects) > 20
    number, died = 2, 0
    for at in some_of(len(effects), 8):
        number += 1
        _, lost = dying(redshift, number, at)
        died += lost
        found = destination(redshift).position("s")
        assert found in (str(number - 1), str(number)), effects[at]
        if found != str(number):
            again = rows({"k": "long", "v": "string"}, [(1, f"v{number}"), (number, "new")], **KEYED)
            load(redshift, again, before=found, after=str(number))
        assert seen(redshift, "SELECT v FROM t WHERE k = 1") == [(f"v{number}",)], effects[at]
        assert seen(redshift, "SELECT count(*), count(DISTINCT k) FROM t") == [(number, number)], effects[at]
    load(redshift, rows({"k": "long"}, [(0,)], **KEYED), before=str(number), after="end")
    assert waiting(redshift) == []
    services.tell(request, f"Redshift: {died} deaths at {len(effects)} effects of a load")


@pytest.fixture(autouse=True)
def _no_fault(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a fault to what ends it."""
    place = request.getfixturevalue("redshift") if "redshift" in request.fixturenames else None
    yield
    if place is not None:
        place.emulator.fault = None


def test_the_test_on_the_page_passes(
    postgres: Postgres, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page on Redshift shows a test of a user's; a page alone has no PostgreSQL to run it on."""
    page = Path(__file__).parents[2] / "docs" / "redshift.md"
    (block,) = [block for block in pages.blocks(page) if block.value("file") == "tests/test_orders.py"]
    url = postgres.new_database()
    given_ = {"POSTGRES_URL": url, "S3_ENDPOINT": object_store.endpoint, "S3_KEY": KEY, "S3_SECRET": SECRET}
    for name, value in {**given_, "S3_BUCKET": object_store.bucket()}.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(block.text.replace('"postgres"', repr(url.rpartition("/")[2])), names)
    names["test_orders_arrive"]()
