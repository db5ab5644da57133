"""The port `schemas` over its adapters: revisions bring tables to what is declared, and back, once or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.landing import Landing, duckdb_landing, postgres_landing, rows
from harness.project import Project
from harness.redshift import redshift_landing
from harness.revising import VERSIONS, Revising
from tidemill.flow.schemas import declared_tables
from tidemill.model.errors import Conflict, DataError, DefinitionError, UnknownName
from tidemill.model.migration import Migration, Part
from tidemill.model.redshift import Layout
from tidemill.ports.destination import Unfit

ODD = 'o"dd : :x %s; DROP'
#: Before and after, of each way in which a type can change.
OLD = {
    "id": "long", "wider": "int", "exact": "decimal(8,2)", "half": "float", "said": "int", "day": "date",
    "lost": "boolean", "told": "string", "nested": "list<long>", "raw": "binary", ODD: "int", "same": "uuid",
    "gone": "time",
}  # fmt: skip
NEW = {
    "id": "long", "wider": "long", "exact": "decimal(12,3)", "half": "double", "said": "string", "day": "timestamp",
    "lost": "date", "told": "long", "nested": "string", "raw": "binary", ODD: "string", "same": "uuid",
    "more": "list<struct<a:long>>", "seen": "timestamptz",
}  # fmt: skip


@pytest.fixture(
    params=["duckdb", *(pytest.param(kind, marks=pytest.mark.postgres) for kind in ("postgresql", "redshift"))]
)
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Landing:
    if request.param == "duckdb":
        return duckdb_landing(tmp_path / "there.db")
    if request.param == "postgresql":
        return postgres_landing(request.getfixturevalue("postgres").new_database())
    return redshift_landing(request.getfixturevalue("redshift"))


def test_tables_become_what_is_declared_and_what_they_were(landing: Landing, tmp_path: Path) -> None:
    there = Revising(tmp_path, landing)
    there.write({"shop.t": OLD}, message='the "first"')
    there.go()
    assert there.lacks({"shop.t": OLD}) == []
    columns = "id, wider, exact, said, day, told"
    landing.ask(f"INSERT INTO shop.t ({columns}) VALUES (1, 2, 3.25, 4, DATE '2026-01-02', '5')")
    if landing.kind != "duckdb":
        landing.ask("CREATE VIEW shop.seen AS SELECT id, told, said FROM shop.t WHERE 'a :x' <> ' :y'")
        landing.ask("CREATE VIEW shop.above AS SELECT id, told FROM shop.seen")
    before = {str(one) for one in there.lacks({"shop.t": NEW})}
    assert any("-> " in one for one in before)
    file = Path(tmp_path, there.write({"shop.t": NEW}).path)
    good = file.read_text()
    file.write_text(good.replace("\n\n\ndef downgrade", "\n    op.execute('SELECT nothing')\n\n\ndef downgrade"))
    with pytest.raises(DataError):
        there.go()
    assert there.applied() == (there.revisions.all()[0].id,), "a revision that fails leaves nothing"
    assert {str(one) for one in there.lacks({"shop.t": NEW})} == before
    if landing.kind != "duckdb":
        assert landing.ask("SELECT told FROM shop.above") == [("5",)]
    file.write_text(good)
    there.go()
    assert there.lacks({"shop.t": NEW}) == []
    assert there.applied() == (there.revisions.all()[-1].id,)
    found = landing.ask("SELECT id, wider, exact, said, told FROM shop.t")
    assert [(a, b, float(c), d, e) for a, b, c, d, e in found] == [(1, 2, 3.25, "4", 5)]
    if landing.kind != "duckdb":
        assert landing.ask("SELECT told FROM shop.above") == [(5,)]
    there.go("-1", down=True)
    assert {str(one) for one in there.lacks({"shop.t": NEW})} == before
    assert landing.ask("SELECT id, wider, said, told FROM shop.t") == [(1, 2, 4, "5")]
    if landing.kind != "duckdb":
        landing.ask("DROP VIEW shop.above; DROP VIEW shop.seen")
    there.go("base", down=True)
    assert landing.ask("SELECT count(*) FROM " + VERSIONS) == [(0,)]
    with pytest.raises(Exception, match=r"(?i)does not exist"):
        landing.ask("SELECT * FROM shop.t")


def test_a_table_that_was_there_is_adopted_and_made_elsewhere(landing: Landing, tmp_path: Path) -> None:
    there = Revising(tmp_path, landing)
    landing.ask("CREATE TABLE t (a int, own varchar(7))")
    landing.ask("INSERT INTO t VALUES (1, 'x')")
    there.write({"t": {"a": "long"}}, drop=False)
    there.go()
    assert landing.ask("SELECT a, own FROM t") == [(1, "x")]
    assert [str(one)[0] for one in there.lacks({"t": {"a": "long"}})] == ["-"], "what only the table has stays"
    there.go("base", down=True)
    assert landing.ask("SELECT a, own FROM t") == [(1, "x")], "it was there before"
    landing.ask("DROP TABLE t")
    there.go()
    assert landing.ask("SELECT a, own FROM t") == []
    assert [str(one)[0] for one in there.lacks({"t": {"a": "long"}})] == ["-"]


def test_a_step_that_somebody_else_did_is_not_done_again(landing: Landing, tmp_path: Path) -> None:
    there = Revising(tmp_path, landing)
    made = there.write({"t": {"a": "long"}})
    (step,) = there.revisions.steps(())
    there.schemas.apply(step)
    with pytest.raises(Conflict, match="somebody else changes it"):
        there.schemas.apply(step)
    assert there.applied() == (made.id,)
    broken = Migration("x", VERSIONS, (made.id,), ("x",), (Part(("CREATE TABLE u (a int)", "SELECT nothing FROM t")),))
    with pytest.raises(DataError):
        there.schemas.apply(broken)
    with pytest.raises(Exception, match=r"(?i)does not exist"):
        landing.ask("SELECT * FROM u")


def test_a_load_alters_nothing_where_revisions_do(landing: Landing, tmp_path: Path) -> None:
    there, columns = Revising(tmp_path, landing), {"id": "long", "note": "string"}
    fresh: dict[str, Any] = {"write": "replace", "mirror": True}
    with pytest.raises(Unfit, match=r"no revision makes it: .*CREATE TABLE"):
        landing.load(rows(columns, [(1, "a")], first=True, kept=True, **fresh))
    there.write({"t": columns})
    there.go()
    landing.load(rows(columns, [(1, "a")], first=True, kept=True, **fresh))
    with pytest.raises(Unfit, match="ADD COLUMN"):
        landing.load(rows({**columns, "more": "date"}, [], kept=True), before="1", after="2")
    with pytest.raises(Unfit, match="DROP TABLE"):
        landing.load(rows({"id": "date"}, [], kept=True, **fresh), before="1", after="2")
    long = rows(columns, [(2, "x" * 300)], kept=True, **fresh)
    if landing.kind == "redshift":
        with pytest.raises(Unfit, match=r"TYPE character varying\(512\)"):
            landing.load(long, before="1", after="2")
        assert landing.ask("SELECT id, note FROM t") == [(1, "a")]
        long = rows(columns, [(2, "x" * 300)], **fresh)
    landing.load(long, before="1", after="2")
    assert landing.ask("SELECT id, length(note) FROM t") == [(2, 300)]


@pytest.mark.postgres
def test_redshift_copies_a_table_whose_key_changes_and_lengthens_texts_by_themselves(
    redshift: Any, tmp_path: Path
) -> None:
    there = Revising(tmp_path, redshift_landing(redshift))
    redshift.ask(
        "CREATE TABLE t (id integer NOT NULL, day date, note varchar(16)) DISTSTYLE KEY DISTKEY (id) SORTKEY (day)",
        "INSERT INTO t VALUES (1, '2026-01-02', 'n')",
        "CREATE VIEW v AS SELECT id, note FROM t",
    )
    there.write({"t": {"id": "int"}}, drop=False, message="as it is")
    there.go()
    texts = {"id": "int", "day": "date", "note": "string"}
    there.write({"t": texts}, message="longer")
    (alone,) = [part for part in there.revisions.steps(there.applied())[0].parts if not part.atomic]
    assert alone.statements == ('ALTER TABLE "t" ALTER COLUMN "note" TYPE VARCHAR(256)',)
    there.go()
    asked = {**texts, "id": "long", "day": "timestamp", "more": "list<long>"}
    path = there.write({"t": asked}, ("id",), message="copied").path
    assert "DISTKEY" in Path(tmp_path, path).read_text()
    there.go()
    assert there.lacks({"t": asked}, ("id",)) == []
    assert redshift.ask("SELECT id, note FROM v") == [(1, "n")]
    kept = {column.name: column for column in there.schemas.existing(["t"]).tables["t"].columns}
    assert (kept["id"].type, kept["id"].distkey, kept["id"].nullable) == ("bigint", True, False)
    assert kept["day"].sortkey == 1
    there.go("-1", down=True)
    assert redshift.ask("SELECT id, day::varchar(10), note FROM t") == [(1, "2026-01-02", "n")]


@pytest.mark.postgres
def test_redshift_tables_come_to_lie_as_is_declared_and_lie_again_as_they_did(redshift: Any, tmp_path: Path) -> None:
    """Page "ALTER TABLE". What is not declared stays as it is; what is altered already is not altered again."""
    there = Revising(tmp_path, redshift_landing(redshift))
    columns = {"id": "long", ODD: "string", "day": "date"}

    def lies(table: str = "t") -> tuple[Any, ...]:
        found = there.schemas.existing([table]).tables[table]
        return found.style, *((c.name, c.distkey, c.sortkey, c.encode) for c in found.columns[:3])

    free = ("auto", ("id", False, 0, "raw"), (ODD.lower(), False, 0, "raw"), ("day", False, 0, "raw"))
    there.write({"t": columns}, message="anyhow")
    there.go()
    assert lies() == free
    there.layouts["t"] = Layout(distkey=ODD, sortkey=("day", "id"), encode={ODD: "zstd"})
    told = [str(one) for one in there.lacks({"t": columns})]
    assert told == [
        f'~ t DISTSTYLE AUTO -> DISTKEY "{ODD.lower().replace(chr(34), chr(34) * 2)}"\n'
        f'~ t SORTKEY NONE -> COMPOUND SORTKEY ("day", "id")\n~ t {ODD.lower()} ENCODE raw -> zstd'
    ]
    path = Path(tmp_path, there.write({"t": columns}, message="by the customer").path)
    good = path.read_text()
    path.write_text(good.replace("\n\n\ndef downgrade", "\n    op.execute('SELECT nothing')\n\n\ndef downgrade"))
    with pytest.raises(DataError, match="nothing"):
        there.go()
    path.write_text(good)
    there.go()
    keyed = ("key", ("id", False, 2, "raw"), (ODD.lower(), True, 0, "zstd"), ("day", False, 1, "raw"))
    assert (lies(), there.lacks({"t": columns})) == (keyed, [])
    del there.layouts["t"]
    assert there.lacks({"t": columns}) == [], "what is not declared has no right value"
    there.layouts = {
        "t": Layout(diststyle="even"),
        "u": Layout(diststyle="all", sortkey=("id",), encode={"id": "az64"}),
    }
    there.write({"t": columns, "u": columns}, message="evenly")
    there.go()
    assert lies()[0] == "even"
    assert lies("u")[:2] == ("all", ("id", False, 1, "az64")), "a new table is made as it is to lie"
    more = {**columns, "place": "string"}
    there.layouts = {"t": Layout(distkey="place", encode={"place": "lzo"})}
    there.write({"t": more}, message="by a column that comes")
    assert "CREATE TABLE" in Path(tmp_path, there.revisions.all()[-1].path).read_text()
    there.go()
    assert (lies()[0], there.lacks({"t": more})) == ("key", [])
    for lay in (("even", *lies()[1:]), keyed, free):
        there.go("-1", down=True)
        assert [one[:3] for one in lies()[1:]] == [one[:3] for one in lay[1:]]
        assert lies()[0] == lay[0]
    with pytest.raises(UnknownName, match='no column of t "nowhere"'):
        there.layouts = {"t": Layout(distkey="nowhere")}
        there.lacks({"t": columns})


def test_how_a_table_is_to_lie_is_said_where_it_is_delivered(tmp_path: Path) -> None:
    project = Project(tmp_path)
    try:
        shop = project.pipeline("shop")
        shop.source(lambda: iter(()), name="orders", columns={"id": "long", "day": "date"})
        shop.deliver("orders", to="there", distkey="id", sortkey="day")
        (one,) = declared_tables(project.services, [shop.spec()], "there", redshift=True)
        assert one.layout == Layout(distkey="id", sortkey=("day",))
        shop.deliver("orders", to="elsewhere", format="csv")
        with pytest.raises(DefinitionError, match=r'"shop\.orders" is delivered with format=') as told:
            declared_tables(project.services, [shop.spec()], "elsewhere", redshift=True)
        assert "test_schemas.py:" in str(told.value.where)
    finally:
        project.close()


TYPES = ["int", "long", "decimal(6,1)", "decimal(9,4)", "double", "string", "boolean", "date", "timestamptz", "binary",
         "uuid", "list<long>", "struct<a:long>", "map<string,long>"]  # fmt: skip
COLUMNS = st.dictionaries(st.sampled_from(["a", "b", "Cc", ODD, "select"]), st.sampled_from(TYPES), min_size=1)
TABLES = st.dictionaries(st.sampled_from(["t", "shop.t", 'shop.u"u']), COLUMNS, min_size=1, max_size=2)


@settings(max_examples=few(24), deadline=None)
@example(one={"t": {"a": "int"}}, other={"t": {"a": "boolean"}})
@given(one=TABLES, other=TABLES)
def test_up_leaves_no_difference_and_down_the_one_that_was(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("up")
    there = Revising(folder, duckdb_landing(folder / "there.db"))
    there.write(one)
    there.go()
    assert there.lacks(one) == []
    before = {str(change) for change in there.lacks(other)}
    there.write(other)
    there.go()
    assert there.lacks(other) == []
    there.go("-1", down=True)
    assert {str(change) for change in there.lacks(other)} == before


def test_files_are_alembics_own_and_their_mistakes_are_told(tmp_path: Path) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    there = Revising(tmp_path, duckdb_landing(tmp_path / "there.db"))
    with pytest.raises(DefinitionError, match="needs a message"):
        there.write({"t": {"a": "int"}}, message=" \n")
    first = there.write({"t": {"a": "int"}}, message='a """ b\\\n')
    assert (first.message, first.follows) == ("a ''' b/", ())
    assert ScriptDirectory.from_config(Config(str(tmp_path / "migrations/there/alembic.ini"))).get_heads() == [first.id]
    there.go()
    with pytest.raises(UnknownName, match="nowhere"):
        there.go("nowhere")
    second = there.write({"t": {"a": "long"}}, message="wider")
    third = Path(tmp_path, second.path)
    fork = third.with_name("fork.py")
    fork.write_text(third.read_text().replace(second.id, "0002_fork"))
    with pytest.raises(DefinitionError, match=r"0002_.* and 0002_.* both are the newest revision"):
        there.go()
    fork.write_text("def upgrade(:\n")
    with pytest.raises(DefinitionError) as told:
        there.go()
    assert "fork.py:1" in str(told.value.where)
    fork.unlink()
    third.write_text(third.read_text().replace("def upgrade():", "def upgrade():\n    op.get_bind().scalar('x')"))
    with pytest.raises(DefinitionError) as told:
        there.go()
    assert third.name in str(told.value.where)
    assert there.applied() == (first.id,)
    (tmp_path / "migrations/there/alembic.ini").unlink()
    with pytest.raises(DefinitionError, match=r"There is no migrations/there/alembic.ini"):
        there.revisions.all()
