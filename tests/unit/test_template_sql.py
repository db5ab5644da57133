"""SQL models: what they read and how they are kept, known at definition; the statement of a run; places in errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.batch import Interval
from tidemill.model.errors import DefinitionError, UnknownName, UserError
from tidemill.model.expectation import Scope
from tidemill.model.table import Partition, PublishMode, TableName, TableSpec, WriteMode
from tidemill.plan.sql import tables_in
from tidemill.plan.sql_model import Dependency, Materialized, SqlModel
from tidemill.plan.template import Moment

NAME = TableName("flights", "delays")
FILE = "models/delays.sql"
MOMENT = Moment(Interval(datetime(2013, 1, 15, tzinfo=UTC), datetime(2013, 1, 16, tzinfo=UTC)), batch_id=7)

MODEL = """\
{{ config(
    materialized="incremental",
    key=["carrier", "day"],
    partition="month(day)",
    publish="table",
) }}
SELECT carrier, DATE '{{ ds }}' AS day, avg(dep_delay) AS delay  -- depends on {{ ref("weather.hours") }}
FROM {{ batch("clean") }}
JOIN {{ ref("flights", "airlines") }} USING (carrier)
{% if is_incremental() %}
WHERE day >= (SELECT max(day) FROM {{ this }})
{% endif %}
GROUP BY ALL
"""


def define(source: str, **options: Any) -> SqlModel:
    return SqlModel.define(source, name=NAME, file=FILE, **options)


def test_a_model_is_defined_by_its_file() -> None:
    model = define(MODEL)
    assert model.materialized is Materialized.INCREMENTAL
    assert model.spec == TableSpec(
        NAME,
        WriteMode.UPSERT,
        ("carrier", "day"),
        partition=(Partition("month", "day"),),
        publish=PublishMode.TABLE,
    )
    assert model.dependencies == (
        Dependency(TableName("weather", "hours"), Scope.WHOLE),
        Dependency(TableName("flights", "clean"), Scope.BATCH),
        Dependency(TableName("flights", "airlines"), Scope.WHOLE),
    )
    assert [d.where for d in model.dependencies] == [f"{FILE}:{n}" for n in (7, 8, 9)]


def test_a_run_gets_a_statement_with_quoted_names() -> None:
    first = define(MODEL).render(MOMENT)
    assert first.sql.split() == [
        "SELECT",
        "carrier,",
        "DATE",
        "'2013-01-15'",
        "AS",
        "day,",
        "avg(dep_delay)",
        "AS",
        "delay",
        "--",
        "depends",
        "on",
        '"weather"."hours"',
        "FROM",
        '"flights"."clean@batch"',
        "JOIN",
        '"flights"."airlines"',
        "USING",
        "(carrier)",
        "GROUP",
        "BY",
        "ALL",
    ]
    assert [d.relation for d in first.dependencies] == ["weather.hours", "flights.clean@batch", "flights.airlines"]
    later = define(MODEL).render(MOMENT, incremental=True)
    assert 'SELECT max(day) FROM "flights"."delays"' in later.sql
    assert later.dependencies[-1] == Dependency(NAME, Scope.WHOLE)


def test_all_branches_are_looked_at_and_computed_names_too() -> None:
    """The graph does not depend on the day, on parameters, or on whether the table exists."""
    model = define("""
        {% if ds > '2020-01-01' %} SELECT * FROM {{ ref("never") }} {% else %}
        {% for t in ["a", "b"] %} SELECT * FROM {{ ref(t ~ "_total") }} {% if not loop.last %}UNION ALL{% endif %}
        {% endfor %} {% endif %} {% if is_incremental() %} {{ ref("only_" ~ "later") }} {% endif %}
    """)
    assert {d.table.table for d in model.dependencies} == {"never", "a_total", "b_total", "only_later"}


def test_a_table_that_could_not_be_foreseen_is_an_error_that_says_how_to_name_it() -> None:
    model = define("SELECT * FROM {{ ref('t_' ~ ds_nodash) }}")
    with pytest.raises(DefinitionError) as caught:
        model.render(MOMENT)
    assert str(caught.value) == (
        'The model reads ref("flights.t_20130115"), which could not be foreseen when it was defined.\n'
        f"  at: {FILE}:1\n"
        '  try: name it in a comment: -- depends on {{ ref("flights.t_20130115") }}'
    )


@pytest.mark.parametrize(
    ("config", "kind", "write"),
    [
        ("", Materialized.TABLE, WriteMode.REPLACE),
        ("materialized='view'", Materialized.VIEW, WriteMode.REPLACE),
        ("materialized='incremental'", Materialized.INCREMENTAL, WriteMode.APPEND),
        ("materialized='incremental', key='id'", Materialized.INCREMENTAL, WriteMode.UPSERT),
        ("materialized='incremental', key='id', write='history'", Materialized.INCREMENTAL, WriteMode.HISTORY),
        ("materialized='incremental', key='id', write='append'", Materialized.INCREMENTAL, WriteMode.APPEND),
        ("materialized='table', sort=['a', 'b'], doc='x'", Materialized.TABLE, WriteMode.REPLACE),
    ],
)
def test_how_a_result_is_kept(config: str, kind: Materialized, write: WriteMode) -> None:
    model = define("{{ config(" + config + ") }} SELECT 1 AS id")
    assert (model.materialized, model.spec.write) == (kind, write)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n{{ config(keys=['a']) }}",
         f'There is no setting of a model "keys".\n  at: {FILE}:2\n  try: did you mean "key"?'),
        ("{{ config(key=1) }}", f"config(key=...) wants text, and has 1.\n  at: {FILE}"),
        ("{{ config(materialized='tables') }}",
         f'There is no materialized mode "tables".\n  at: {FILE}\n  try: did you mean "table"?'),
        ("{{ config(materialized='view', key='a') }}", f"A view stores nothing, so it has no key.\n  at: {FILE}"),
        ("{{ config(write='append') }}", "A table model is not written by append."),
        ("{{ config(materialized='incremental', write='replace') }}", "A incremental model is not written by replace."),
        ("{{ config(materialized='incremental', write='upsert') }}",
         'Table "flights.delays" is written by upsert and has no key.'),
        ("{{ config(partition='week(x)') }}", '"week(x)" is no partition transform.'),
        ("{{ config(key='a') }}{{ config(key='b') }}", 'config(...) sets "key" twice.\n'),
        ("{% if is_incremental() %}{{ config(key='a') }}{% endif %}",
         "config(...) must not depend on is_incremental()."),
        ("SELECT 1\nFROM {{ reff('x') }}",
         f'There is no variable "reff".\n  at: {FILE}:2\n  try: did you mean "ref"?'),
        ("SELECT 1\nFROM {{ ref('a b') }}",
         f'"a b" cannot name a table: use letters, digits and underscores.\n  at: {FILE}:2'),
        ("FROM {{ ref() }}", f"A table is named by one text, or by its pipeline and its name.\n  at: {FILE}:1"),
        ("FROM {{ ref('a', 'b', 'c') }}", "A table is named by one text"),
        ("{{ var('x') }}", f'There is no variable of the project "x".\n  at: {FILE}:1\n  try: there is no variable of'),
        ("SELECT\n{% if %}", f"Template error: Expected an expression, got 'end of statement block'.\n  at: {FILE}:2"),
    ],
)  # fmt: skip
def test_mistakes_in_a_model(source: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        define(source)
    assert str(caught.value).startswith(message)
    assert str(caught.value.where).startswith(FILE)


def test_variables_and_parameters() -> None:
    source = (
        "SELECT {{ var('limit') }}, {{ var('other', 3) }}, {{ params.carrier | literal }}, {{ 'a\"b' | identifier }}"
    )
    given = {"params": {"carrier": "O'Hare"}, "variables": {"limit": 10}}
    model = define(source, **given)
    moment = Moment(params={"carrier": "UA'; DROP"})
    assert model.render(moment, variables={"limit": 20}).sql == "SELECT 20, 3, 'UA''; DROP', \"a\"\"b\""
    with pytest.raises(UnknownName, match='no parameter "carrier"'):
        model.render(Moment(), variables={"limit": 20})


def test_this_has_parts() -> None:
    model = define("SELECT '{{ this.name }}', '{{ this.schema }}' FROM {{ this }}")
    rendered = model.render(MOMENT)
    assert rendered.sql == "SELECT 'delays', 'flights' FROM \"flights\".\"delays\""
    assert model.dependencies == ()


def test_a_place_in_the_statement_is_traced_to_the_template() -> None:
    """The tags at the top, the loop and the multi-line value change the lines; an error must name the file's."""
    source = (
        "{{ config(\n  materialized='table'\n) }}\n"  # 1-3
        "SELECT a,\n"  # 4
        "{% for c in ['x', 'y'] %}\n"  # 5
        "  {{ c }} AS\n    {{ c }}_made,\n"  # 6, 7
        "{% endfor %}\n"  # 8
        "  {{ params.text }} AS t,\n"  # 9
        "  wrong\n"  # 10
        "FROM {{ ref('clean') }}"  # 11
    )
    rendered = define(source, params={"text": "1"}).render(Moment(params={"text": "1 +\n 2 +\n 3"}))
    lines = rendered.sql.split("\n")

    def where(text: str, occurrence: int = 0) -> str:
        line = [n for n, content in enumerate(lines, start=1) if text in content][occurrence]
        return rendered.where(line, lines[line - 1].index(text) + 1)

    assert where("SELECT") == f"{FILE}:4"
    assert where("x AS") == f"{FILE}:6"
    assert where("x_made") == f"{FILE}:7"
    assert where("y AS") == f"{FILE}:6"
    assert where("2 +") == f"{FILE}:9"
    assert where("AS t") == f"{FILE}:9"
    assert where("wrong") == f"{FILE}:10"
    assert where("FROM") == f"{FILE}:11"
    assert rendered.where(999, 999) == f"{FILE}:11"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["SELECT 1\n", "{% if ds %}\n", "{%- if ds -%}  \n", "\n", "  x{{ ds }}\n\n", "{# c\n #}",
             "{% raw %}\n{{ {% endraw %}"]
        ),
        max_size=8,
    )
)  # fmt: skip
def test_tracing_never_changes_the_text(pieces: list[str]) -> None:
    """Marks are for places only: what is rendered is what Jinja renders without them."""
    source = "".join(pieces) + "{% endif %}" * sum("if ds" in p for p in pieces)
    rendered = define(source).render(MOMENT)
    assert "\ue000" not in rendered.sql
    line = rendered.sql.count("\n") + 1
    assert rendered.where(line, 1).startswith(FILE)


def test_what_a_model_names_is_what_its_statement_reads() -> None:
    rendered = define(MODEL).render(MOMENT, incremental=True)
    with pytest.raises(UserError, match='"clean@batch" is not the name of a table'):
        tables_in(rendered.sql)
    plain = define("FROM {{ ref('a') }} JOIN {{ source('p', 'b') }} USING (x)").render(MOMENT)
    assert set(tables_in(plain.sql)) == {d.relation for d in plain.dependencies}
