"""SQL models: what they read and how they are kept, known at definition; the statement of a run; places in errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.batch import Batch, BatchKey, BatchState, Interval
from tidemill.model.errors import DefinitionError, UnknownName, UserError
from tidemill.plan.sql import quote
from tidemill.plan.sql_model import Dependency, RenderedSql, SqlModel, read_model, render_model
from tidemill.plan.sql_tables import tables_in
from tidemill.plan.template import variables_of

FILE = "models/delays.sql"
DAY = Interval(datetime(2013, 1, 15, tzinfo=UTC), datetime(2013, 1, 16, tzinfo=UTC))
BATCH = Batch(7, BatchKey("flights", DAY), BatchState.OPEN, DAY.end)
THIS = quote("flights") + "." + quote("delays")


def define(source: str, **params: Any) -> SqlModel:
    return read_model(source, file=FILE, this="flights.delays", params=params)


def resolve(name: str, scope: str) -> str:
    namespace, _, table = name.rpartition(".")
    return f"{quote((namespace or 'flights') + ('__batch' if scope == 'batch' else ''))}.{quote(table)}"


def render(source: str, *, incremental: bool = False, foreseen: Any = None, **params: Any) -> RenderedSql:
    return render_model(
        source,
        variables_of(BATCH, params),
        this=THIS,
        incremental=incremental,
        resolve=resolve,
        where=FILE,
        foreseen=foreseen,
    )


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


def test_a_model_is_defined_by_its_file() -> None:
    model = define(MODEL)
    assert model.config == {
        "materialized": "incremental",
        "key": ["carrier", "day"],
        "partition": "month(day)",
        "publish": "table",
    }
    assert model.dependencies == (
        Dependency("weather.hours", "whole"),
        Dependency("clean", "batch"),
        Dependency("flights.airlines", "whole"),
    )


def test_a_run_gets_a_statement_with_quoted_names() -> None:
    assert " ".join(render(MODEL).sql.split()) == (
        'SELECT carrier, DATE \'2013-01-15\' AS day, avg(dep_delay) AS delay -- depends on "weather"."hours" '
        'FROM "flights__batch"."clean" JOIN "flights"."airlines" USING (carrier) GROUP BY ALL'
    )
    assert 'SELECT max(day) FROM "flights"."delays"' in render(MODEL, incremental=True).sql


def test_all_branches_are_looked_at_and_computed_names_too() -> None:
    """The graph does not depend on the day, on parameters, or on whether the table exists."""
    model = define("""
        {% if ds > '2020-01-01' %} SELECT * FROM {{ ref("never") }} {% else %}
        {% for t in ["a", "b"] %} SELECT * FROM {{ ref(t ~ "_total") }} {% if not loop.last %}UNION ALL{% endif %}
        {% endfor %} {% endif %} {% if is_incremental() %} {{ ref("only_" ~ "later") }} {% endif %}
    """)
    assert {d.name for d in model.dependencies} == {"never", "a_total", "b_total", "only_later"}


def test_a_table_that_could_not_be_foreseen_is_an_error_that_says_how_to_name_it() -> None:
    source = "SELECT * FROM {{ ref('t_' ~ ds_nodash) }}"
    foreseen = define(source).dependencies
    with pytest.raises(DefinitionError) as caught:
        render(source, foreseen=foreseen)
    assert str(caught.value) == (
        'The model reads ref("t_20130115"), which could not be foreseen when it was defined.\n'
        f"  at: {FILE}:1\n"
        '  try: name it in a comment: -- depends on {{ ref("t_20130115") }}'
    )
    assert render(source).sql == 'SELECT * FROM "flights"."t_20130115"'


def test_a_table_is_resolved_once_for_each_scope() -> None:
    asked: list[tuple[str, str]] = []

    def noted(name: str, scope: str) -> str:
        asked.append((name, scope))
        return "x"

    source = "{{ ref('a') }} {{ ref('a') }} {{ batch('a') }}"
    render_model(source, variables_of(BATCH, {}), this=THIS, incremental=False, resolve=noted, where=FILE)
    assert asked == [("a", "whole"), ("a", "batch")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ config(key='a') }}{{ config(key='b') }}", f'config(...) sets "key" twice.\n  at: {FILE}:1'),
        ("{% if is_incremental() %}{{ config(key='a') }}{% endif %}",
         f"config(...) must not depend on is_incremental().\n  at: {FILE}"),
        ("SELECT 1\nFROM {{ reff('x') }}",
         f'There is no template variable "reff".\n  at: {FILE}:2\n  try: did you mean "ref"?'),
        ("FROM {{ ref() }}", f"A table is named by one text, or by its pipeline and its name.\n  at: {FILE}:1"),
        ("FROM {{ ref('a', 'b', 'c') }}", "A table is named by one text"),
        ("FROM {{ ref('delays') }}", 'The model reads itself by ref("delays").'),
        ("FROM {{ batch('flights', 'delays') }}", 'The model reads itself by batch("flights.delays").'),
        ("{{ var('x') }}", f'There is no parameter "x".\n  at: {FILE}:1'),
        ("x\n{{ params.limt }}", f'There is no parameter "limt".\n  at: {FILE}:2\n  try: did you mean "limit"?'),
        ("SELECT\n{% if %}", f"Template error: Expected an expression, got 'end of statement block'.\n  at: {FILE}:2"),
    ],
)  # fmt: skip
def test_mistakes_in_a_model(source: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        define(source, limit=3)
    assert str(caught.value).startswith(message)
    assert str(caught.value.where).startswith(FILE)


def test_parameters_and_values_in_sql() -> None:
    source = "SELECT {{ var('limit') }}, {{ var('other', 3) }}, {{ params.carrier|literal }}, {{ 'a\"b'|identifier }}"
    define(source, limit=10, carrier="O'Hare")
    assert render(source, limit=20, carrier="UA'; DROP").sql == "SELECT 20, 3, 'UA''; DROP', \"a\"\"b\""
    with pytest.raises(UnknownName, match='no parameter "carrier"'):
        render(source, limit=20)


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
    rendered = render(source, text="1 +\n 2 +\n 3")
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
    rendered = render(source)
    assert "\ue000" not in rendered.sql
    line = rendered.sql.count("\n") + 1
    assert rendered.where(line, 1).startswith(FILE)


def test_what_a_model_names_is_what_its_statement_reads() -> None:
    source = "FROM {{ ref('a') }} JOIN {{ source('p', 'b') }} USING (x) JOIN {{ batch('c') }} USING (x)"
    assert [d.name for d in define(source).dependencies] == ["a", "p.b", "c"]
    assert tables_in(render(source).sql) == ("flights.a", "p.b", "flights__batch.c")
