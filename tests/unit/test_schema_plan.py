"""What a destination's tables lack of what is declared, as values."""

from __future__ import annotations

import pytest

from tidemill.model.migration import Existing, SqlColumn, SqlTable
from tidemill.model.policy import Policy
from tidemill.model.table import Schema
from tidemill.model.types import STRING, Type, parse_type
from tidemill.plan.migration import asked_columns, changes, holds
from tidemill.plan.redshift import redshift_type
from tidemill.plan.revision_text import POSTGRES, written


def columns(schema: Schema | None) -> list[str]:
    return [str(column) for column in schema or ()]


def test_what_is_published_counts_unless_it_can_become_what_is_declared() -> None:
    declared = Schema.of({"a": "long", "b": "string", "c": "int", "later": "date", "gone": "string", "told": "long"})
    published = Schema.of({"a": "int", "b": "int", "c": "long", "more": "double", "empty": "unknown"})
    policies = {"gone": Policy.parse("drop"), "told": Policy.parse("hash")}
    asked, notes = asked_columns(declared, published, policies)
    assert columns(asked) == ["a long", "b int", "c long", "more double", "later date", "told string"]
    assert [note.split(" is declared")[0] for note in notes] == ['"b"']


def test_before_it_is_published_a_table_is_what_it_declares_and_without_that_nothing_is_known() -> None:
    asked, _ = asked_columns(Schema.of({"a": "long"}), None, {})
    assert columns(asked) == ["a long", "_batch_id long", "_loaded_at timestamptz"]
    assert asked_columns(Schema(), None, {}) == (None, ())


@pytest.mark.parametrize(
    ("found", "asked", "kind", "fits"),
    [
        ("character varying(64)", "character varying(64)", "string", True),
        ("character varying(64)", "character varying(128)", "string", False),
        ("character varying(128)", "character varying(64)", "string", True),
        ("bigint", "integer", "int", True),
        ("integer", "bigint", "long", False),
        ("numeric(12,2)", "numeric(10,2)", "decimal(10,2)", True),
        ("numeric(10,2)", "numeric(12,3)", "decimal(12,3)", False),
        ("varbyte(64000)", "varbyte", "binary", True),
        ("super", "character varying(16)", "string", False),
        ("character varying(16)", "super", "list<int>", False),
        ("interval year to month", "bigint", "long", True),
    ],
)
def test_a_column_that_holds_all_values_is_no_difference(found: str, asked: str, kind: str, fits: bool) -> None:
    assert holds(found, SqlColumn("c", asked, True, parse_type(kind)), redshift_type) is fits


def test_an_index_is_made_with_a_table_as_a_delivery_makes_it_and_names_stay_within_their_room() -> None:
    def named(kind: Type, _length: int) -> str:
        return "text" if kind == STRING else "bigint"

    long = "k" * 60
    table = SqlTable("s.t", (SqlColumn(long, "text", True, STRING),), (long,))
    batches = SqlTable("t", (SqlColumn("_batch_id", "bigint", True, parse_type("long")),))
    found = changes([table, batches], Existing(), named)
    text = written(found, (), POSTGRES).upgrade
    assert "op.create_index('tidemill_" in text
    assert "op.create_index('t__batch_id_idx', 't', ['_batch_id'], postgresql_using='brin')" in text
