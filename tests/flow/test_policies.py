"""Policies of columns: nothing of their values is written anywhere but as the policy says, whatever the format."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.project import Project
from harness.secretplaces import key
from tidemill import live, sources
from tidemill.adapters.crypto.columns import ArrowPolicies
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.live.archive import ArchiveLive
from tidemill.flow.policies import WITHHELD
from tidemill.model.errors import DataError, DefinitionError, SettingsError, UnknownName
from tidemill.model.policy import Policy
from tidemill.model.table import Schema
from tidemill.wiring.reading import read
from tidemill.wiring.runner import close

SALT = "a salt of sixteen characters"
ALL = {"email": "hash", "ssn": "drop", "card": "mask(4)", "name": "encrypt(pii-key)"}
ROW = {"id": 1, "email": "canary-mail@x.org", "ssn": "canary-ssn", "card": "canary-4111-2222", "name": "canary Zoë"}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_HASH_SALT", SALT)
    monkeypatch.setenv("TIDEMILL_SECRET_PII_KEY", key(7))


def hashed(text: str) -> str:
    return hmac.digest(SALT.encode(), text.encode(), "sha256").hex()


def leaks(project: Project) -> list[str]:
    """Files of the lake, and of the database, in which a value stands that has a policy."""
    found = []
    for path in [*(project.root / ".tidemill" / "lake").rglob("*"), *(project.root / ".tidemill").glob("*.db*")]:
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            content += repr(pq.ParquetFile(path).read().to_pylist()).encode()
            content += repr(pq.ParquetFile(path).metadata.to_dict()).encode()
        if (
            b"canary-mail" in content
            or b"canary-ssn" in content
            or b"canary-4111" in content
            or b"canary Zo" in content
        ):
            found.append(str(path))
    return found


def feed(project: Project, name: str, content: bytes, **options: object) -> Pipeline:
    (project.root / "in").mkdir(exist_ok=True)
    (project.root / "in" / name).write_bytes(content)
    shop = project.pipeline()
    shop.files(f"in/{name}", name="users", **{"policy": ALL, **options})
    return shop


def csv_of(*rows: dict[str, object]) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in [ROW, *(row.values() for row in rows)]).encode()


def parquet_of(*rows: dict[str, object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return bytes(sink.getvalue())


def lines_of(*rows: dict[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", csv_of(ROW)),
        ("a.jsonl", lines_of(ROW)),
        ("a.parquet", parquet_of(ROW)),
        ("a.json", b"[%s]" % lines_of(ROW)),
    ],
)
def test_a_feed_of_any_format_is_written_by_its_policies(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "test"\n')
    project = Project(tmp_path)
    report = project.run(feed(project, name, content), "2026-01-01")
    assert report.ok, report.error
    (row,) = project.rows("select * from shop.users")
    assert row == {"id": 1, "email": hashed("canary-mail@x.org"), "card": "***2222", "name": row["name"]}
    assert row["name"].startswith("tm1.")
    assert leaks(project) == []
    project.close()
    assert read("shop.users", project=tmp_path, decrypt={"name": "pii-key"}).to_arrow()["name"].to_pylist() == [
        "canary Zoë"
    ]
    close()


def test_a_cursor_has_no_policy(tmp_path: Path) -> None:
    registry.clear()
    with pytest.raises(DefinitionError, match="goes on by"):
        Pipeline("shop").source(sources.sql("db", "users", cursor="email"), policy={"email": "hash"})


def test_what_is_rejected_leaks_into_no_quarantine(tmp_path: Path) -> None:
    project = Project(tmp_path)
    slipped = ",".join(["x", "1", *map(str, ROW.values())])
    content = csv_of(ROW) + b"canary-mail@x.org,a,b,c,d\n" + slipped.encode() + b"\n"
    shop = feed(project, "a.csv", content, columns={"id": "long"})
    report = project.run(shop, "2026-01-01")
    assert report.ok, report.error
    rows = project.rows("select * from shop.users__quarantine order by line")
    assert [(row["line"], row["raw"][:8], row["error"]) for row in rows] == [
        (3, "withheld", 'id: "***" does not fit long'), (4, "withheld", "7 fields, 5 expected"),
    ]  # fmt: skip
    assert leaks(project) == []
    project.close()


def test_functions_declared_sources_and_tables_have_policies(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("create table users (id integer, email text, ssn text, card text, name text)")
        database.execute("insert into users values (?, ?, ?, ?, ?)", list(ROW.values()))
    project = Project(tmp_path)
    shop = project.pipeline()
    shop.source(sources.sql("sqlite:///shop.db", "users"), policy=ALL)

    @shop.source(policy=ALL, archive="avro")
    def made(interval):  # type: ignore[no-untyped-def]
        yield ROW

    @shop.table(key="email", write="upsert", policy={"card": "hash"})
    def joined(users, made):  # type: ignore[no-untyped-def]
        return users

    report = project.run(shop, "2026-01-01")
    assert report.ok, report.error
    assert project.rows("select count(*) n from shop.users u join shop.made m using (email, name)") == [{"n": 1}]
    (row,) = project.rows("select card from shop.joined")
    assert row == {"card": hashed("***2222")}
    assert leaks(project) == []
    project.close()


def test_parts_and_keys_of_flattened_records_have_them_too(tmp_path: Path) -> None:
    project = Project(tmp_path)
    record = {"id": "canary-ssn", "user": {"email": "canary-mail@x.org"}, "items": [{"card": "canary-4111-2222"}]}
    policy = {"id": "hash", "user_email": "hash", "items.card": "mask(4)"}
    shop = feed(project, "a.jsonl", lines_of(record), policy=policy, flatten=True, key=["id"])
    report = project.run(shop, "2026-01-01")
    assert report.ok, report.error
    assert project.rows("select id, user_email from shop.users") == [
        {"id": hashed("canary-ssn"), "user_email": hashed("canary-mail@x.org")}
    ]
    assert project.rows("select id, card from shop.users__items") == [{"id": hashed("canary-ssn"), "card": "***2222"}]
    assert leaks(project) == []
    project.close()


def test_a_number_has_one_hash_whatever_else_a_batch_holds(tmp_path: Path) -> None:
    project = Project(tmp_path)
    shop = project.pipeline()
    shop.files("in/{{ ds }}.*", name="users", policy={"email": "hash"})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2026-01-01.csv").write_bytes(b"email\n007\n7\n")
    (tmp_path / "in" / "2026-01-02.jsonl").write_bytes(b'{"email": 7}\n{"email": "007"}\n{"email": "x"}\n')
    (tmp_path / "in" / "2026-01-03.parquet").write_bytes(parquet_of({"email": 7}, {"email": None}))
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        report = project.run(shop, day)
        assert report.ok, report.error
    found = {r["email"]: r["n"] for r in project.rows("select email, count(*) n from shop.users group by email")}
    assert found == {hashed("007"): 2, hashed("7"): 3, hashed("x"): 1, None: 1}
    project.close()


def test_a_misspelt_policy_lets_nothing_pass(tmp_path: Path) -> None:
    project = Project(tmp_path)
    report = project.run(feed(project, "a.csv", csv_of(ROW), policy={**ALL, "e_mail": "hash", "email": "hash"}))
    assert report.ok
    other = Project(tmp_path / "other")
    wrong = {name: policy for name, policy in ALL.items() if name != "email"} | {"e_mail": "hash"}
    report = other.run(feed(other, "a.csv", csv_of(ROW), policy=wrong), "2026-01-01")
    assert str(report.error).startswith('"e_mail" has a policy and no value, and "email" has none: it would be')
    assert other.tables() == set()
    project.close()
    other.close()


def test_a_frozen_table_knows_what_is_dropped(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for day in ("2026-01-01", "2026-01-02"):
        report = project.run(feed(project, "a.csv", csv_of(ROW), contract="freeze"), day)
        assert report.ok, report.error
    assert project.rows("select count(*) n from shop.users") == [{"n": 2}]
    project.close()


def test_a_secret_that_is_missing_fails_the_run_with_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    monkeypatch.delenv("TIDEMILL_SECRET_HASH_SALT")
    report = project.run(feed(project, "a.csv", csv_of(ROW)), "2026-01-01")
    assert isinstance(report.error, SettingsError)
    assert report.error.what == 'There is no secret "hash-salt", which a column needs.'
    assert project.tables() == set()
    monkeypatch.setenv("TIDEMILL_SECRET_HASH_SALT", "short")
    report = project.run(feed(project, "a.csv", csv_of(ROW)), "2026-01-01")
    assert "could be found by trying" in str(report.error)
    project.close()


@pytest.mark.parametrize(
    ("policy", "error", "said"),
    [
        ({"a": "hsh"}, UnknownName, 'did you mean "hash"'),
        ({"a": "encrypt"}, DefinitionError, "encrypt(pii-key)"),
        ({"a": "mask(x)"}, DefinitionError, "mask(4)"),
        ({"a": "drop(1)"}, DefinitionError, '"drop"'),
        ({"_batch_id": "hash"}, DefinitionError, "Tidemill's"),
        ("hash", DefinitionError, "email"),
    ],
)
def test_a_policy_that_is_none_is_told_where_it_is_written(
    tmp_path: Path, policy: object, error: type[Exception], said: str
) -> None:
    registry.clear()
    shop = Pipeline("shop")
    with pytest.raises(error, match=r".") as caught:
        shop.files("in/a.csv", name="users", policy=policy)
    assert said in str(caught.value)
    assert "test_policies.py" in str(caught.value)


# Values


class Fixed:
    """Two salts and two keys."""

    kind = "test"

    def __init__(self, keys: str = key(1)) -> None:
        self._values = {"hash-salt": SALT, "k": keys, "bad": "no key"}

    def get(self, name: str):  # type: ignore[no-untyped-def]
        from tidemill.model.secret import Secret

        return Secret(self._values[name], "test") if name in self._values else None

    def names(self) -> list[str]:
        return sorted(self._values)


def changed(values: list[str | None], policy: str, keys: str = key(1)) -> list[str | None]:
    made = ArrowPolicies(Fixed(keys)).apply(
        pa.record_batch({"a": pa.array(values, pa.string())}), {"a": Policy.parse(policy)}
    )
    return made.column(0).to_pylist()  # type: ignore[no-any-return]


VALUES = st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)), max_size=30)


@pytest.mark.parametrize("policy", ["hash", "encrypt(k)"])
@given(values=VALUES)
def test_values_are_equal_if_and_only_if_what_becomes_of_them_is(policy: str, values: list[str | None]) -> None:
    made = changed(values, policy)
    assert [m is None for m in made] == [v is None for v in values]
    assert len({*zip(values, made, strict=True)}) == len({*values}) == len({*made})
    assert made == [changed([v], policy)[0] for v in values]


@given(values=VALUES, keep=st.integers(0, 6))
def test_a_mask_leaves_at_most_what_it_says(values: list[str | None], keep: int) -> None:
    for value, made in zip(values, changed(values, f"mask({keep})"), strict=True):
        if value is None:
            assert made is None
        else:
            assert made == "***" + (value[-keep:] if keep and len(value) > 2 * keep else "")


@given(values=VALUES)
def test_who_has_the_key_has_the_values_back(values: list[str | None]) -> None:
    table = pa.table({"a": pa.array(changed(values, "encrypt(k)"), pa.string())})
    rotated = ArrowPolicies(Fixed(f"{key(2)} {key(1)}"))
    assert rotated.decrypt(table, {"a": "k"}).column(0).to_pylist() == values


def test_a_wrong_key_and_a_changed_value_are_one_clear_error_each() -> None:
    (sealed,) = changed(["secret value"], "encrypt(k)")
    assert sealed is not None

    def back(text: str, keys: str = key(1)) -> object:
        return ArrowPolicies(Fixed(keys)).decrypt(pa.table({"a": [text]}), {"a": "k"})

    with pytest.raises(SettingsError, match="which is not among those of"):
        back(sealed, key(2))
    with pytest.raises(DataError, match="damaged, or was changed"):
        back(sealed[:-1] + ("A" if sealed[-1] != "A" else "B"))
    with pytest.raises(DataError, match="never encrypted"):
        back("secret value")
    with pytest.raises(SettingsError, match="This is no key"):
        ArrowPolicies(Fixed()).decrypt(pa.table({"a": [sealed]}), {"a": "bad"})


def test_types_become_text_and_dropped_columns_go() -> None:
    made = ArrowPolicies(Fixed()).schema(
        Schema.of({"a": "long", "b": "string", "c": "date"}), {"a": Policy.parse("hash"), "b": Policy.parse("drop")}
    )
    assert {c.name: str(c.type) for c in made} == {"a": "string", "c": "date"}


def test_a_topic_that_is_fed_from_the_archive_gets_no_more_than_the_table(tmp_path: Path) -> None:
    project = Project(tmp_path)
    content = csv_of(ROW) + b"canary-mail@x.org,a,b,c,d\n"
    report = project.run(feed(project, "a.csv", content, columns={"id": "long"}), "2026-01-01")
    assert report.ok, report.error
    pieces = list(ArchiveLive(project.services, live.archive("shop.users"))._pieces(None))
    rows = [row for piece in pieces if piece.rows is not None for row in piece.rows.to_pylist()]
    (loaded,) = project.rows("select * from shop.users")
    assert rows == [loaded]
    assert [value for piece in pieces for value in piece.values or ()] == [WITHHELD.encode()]
    project.close()
