"""Taking SQL apart: what a statement is, and where values go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.plan.statements import bind, split

DIALECTS = ("sqlite", "duckdb", "postgres")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_semicolons_in_quotes_and_comments_end_nothing(dialect):
    script = """select ';' as "a;b"; -- no; not here
    /* nor; here */ select 2;;
    ; select 3"""
    assert split(script, dialect) == [
        """select ';' as "a;b\"""", "-- no; not here\n    /* nor; here */ select 2", "select 3",
    ]  # fmt: skip


def test_bodies_are_part_of_their_statement():
    trigger = "create trigger t after insert on a begin update b set x = case when 1 then 2 end; delete from c; end"
    assert split(f"{trigger}; select 1", "sqlite") == [trigger, "select 1"]
    function = "create function f() returns int as $$ begin; return 1; end $$ language plpgsql"
    assert split(f"{function}; select 1;", "postgres") == [function, "select 1"]
    assert split("begin; select 1; end", "sqlite") == ["begin", "select 1", "end"]
    assert split(" \n ; -- nothing", "sqlite") == []


def test_a_quote_without_an_end_is_told():
    with pytest.raises(DefinitionError, match="taken apart"):
        split("select 'x", "sqlite")


@given(st.lists(st.sampled_from(["select 1", "insert into t values (';')", 'select "a;"', "/* ; */ select 2"])))
def test_statements_that_are_joined_come_apart_again(statements):
    for dialect in DIALECTS:
        assert split(";\n".join(statements), dialect) == statements


def test_names_become_numbers_and_values_stay_values():
    text = "select :day, ':day', x[1:day], :day::date, {'a':day}, :other -- :day"
    [(made, values)] = bind([text], {"day": "'; drop table t"}, "duckdb")
    assert made == "select $1, ':day', x[1:day], $1::date, {'a':day}, :other -- :day"
    assert values == ("'; drop table t",)


def test_each_statement_gets_the_values_that_it_names():
    assert bind(["select :a", "select :b, :a", "select 1"], {"a": 1, "b": 2}, "sqlite") == [
        ("select ?1", (1,)), ("select ?1, ?2", (2, 1)), ("select 1", ()),
    ]  # fmt: skip


def test_a_list_is_for_the_places_of_one_statement():
    assert bind(["select ?, '?', ?"], [1, 2], "postgres") == [("select $1, '?', $2", (1, 2))]
    with pytest.raises(DefinitionError, match="1 \\? in the SQL, and 2"):
        bind(["select ?"], [1, 2], "sqlite")
    with pytest.raises(DefinitionError, match="for one statement"):
        bind(["select ?", "select 1"], [1], "sqlite")


def test_a_value_that_nothing_uses_is_a_mistake():
    with pytest.raises(UnknownName) as caught:
        bind(["select :day"], {"dya": 1}, "sqlite")
    assert "day" in str(caught.value)
    with pytest.raises(DefinitionError):
        bind(["select 1"], "x", "sqlite")
