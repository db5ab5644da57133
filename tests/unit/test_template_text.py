"""Templates for paths and arguments: Airflow's variables, a sandbox, and errors that name file and line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.batch import Batch, BatchKey, BatchState, Interval
from tidemill.model.errors import Refused, UserError
from tidemill.plan import template
from tidemill.plan.template import relative_path, render_path, variables_of

DAY = Interval(datetime(2013, 1, 15, tzinfo=UTC), datetime(2013, 1, 16, tzinfo=UTC))
PARAMS: dict[str, Any] = {"carrier": "UA", "limit": 5}


def batch_of(interval: Interval | None) -> Batch:
    key = BatchKey("flights", interval, None if interval else "manual-1")
    return Batch(42, key, BatchState.OPEN, datetime(2013, 1, 16, tzinfo=UTC))


def render(text: str, interval: Interval | None = DAY, params: dict[str, Any] = PARAMS) -> str:
    return template.render(text, variables_of(batch_of(interval), params), where="flights.sql")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("feeds/{{ ds }}/flights.csv.gz", "feeds/2013-01-15/flights.csv.gz"),
        ("{{ ds_nodash }} {{ ts }}", "20130115 2013-01-15T00:00:00+00:00"),
        ("{{ ts_nodash }} {{ ts_nodash_with_tz }}", "20130115T000000 20130115T000000+0000"),
        ("{{ data_interval_start }} {{ data_interval_end | ds }}", "2013-01-15 00:00:00+00:00 2013-01-16"),
        ("{{ logical_date | ts_nodash }} {{ data_interval_end | ds_nodash }}", "20130115T000000 20130116"),
        ("{{ interval }} {{ interval.start.year }} {{ interval.ds }}", "2013-01-15 2013 2013-01-15"),
        ("{{ batch_id }} {{ params.carrier }} {{ params['limit'] + 1 }}", "42 UA 6"),
        ("{{ macros.ds_add(ds, -15) }} {{ macros.ds_format(ds, '%Y-%m-%d', '%d.%m.%y') }}", "2012-12-31 15.01.13"),
        ("{{ (data_interval_start + macros.timedelta(days=1)) | ds }}", "2013-01-16"),
        ("{{ macros.datetime(2013, 2, 1) | ds }} {{ data_interval_start.strftime('%H') }}", "2013-02-01 00"),
        ("{% for d in range(2) %}{{ macros.ds_add(ds, d) }},{% endfor %}", "2013-01-15,2013-01-16,"),
        ("{{ params.region | default('all') }}", "all"),
        ("{% if params.region is defined %}x{% endif %}y", "y"),
        ("{{ '2013-02-03' | ds_nodash }} {{ ds | ts }}", "20130203 2013-01-15T00:00:00"),
        ("{{ pipeline }} no template at all", "flights no template at all"),
    ],
)
def test_airflows_variables_filters_and_macros(text: str, expected: str) -> None:
    assert render(text) == expected


def test_dates_are_those_of_the_intervals_own_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2013, 3, 31, tzinfo=berlin)
    interval = Interval(start, start + timedelta(days=1))
    assert render("{{ ds }} {{ ts }}", interval) == "2013-03-31 2013-03-31T00:00:00+01:00"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{{ dss }}", 'There is no template variable "dss".\n  at: flights.sql:2\n  try: did you mean "ds"'),
        (
            "{{ params.carier }}",
            'There is no parameter "carier".\n  at: flights.sql:1\n  try: did you mean "carrier"?',
        ),
        (
            "{{ interval.strat }}",
            'There is no attribute of Interval "strat".\n  at: flights.sql:1\n  try: did you mean "start"?',
        ),
        ("{{ {'a': 1}.b }}", 'There is no entry "b".\n  at: flights.sql:1\n  try: known: a'),
        ("{{ missing + 1 }}{{ ds }}", 'There is no template variable "missing".\n  at: flights.sql:1'),
        ("a\nb\n{{ ds | noo }}", "Template error: No filter named 'noo'.\n  at: flights.sql:3"),
        ("x\n{% if ds %}", "Template error: Unexpected end of template."),
        ("{{ 1 // 0 }}", "Template error: ZeroDivisionError: integer division or modulo by zero.\n  at: flights"),
        ("{% include 'x' %}", "A template that is no task's cannot read another one, as \"x\".\n  at: flights.sql:1"),
        ("{{ macros.ds_add('x', 1) }}", "Template error: ValueError: Invalid isoformat string: 'x'.\n  at: fl"),
    ],
)  # fmt: skip
def test_mistakes_name_file_line_and_the_nearest_name(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        render(text)
    assert str(caught.value).startswith(message)
    assert "flights.sql" in str(caught.value.where)


def test_what_a_run_has_not_is_an_error_that_says_so() -> None:
    assert render("{{ run_key }}", None) == "manual-1"
    with pytest.raises(UserError) as caught:
        render("x\n{{ ds }}", None)
    assert str(caught.value) == (
        'The template asks for "ds", and this run has no data interval.\n  at: flights.sql:2\n'
        '  try: give the pipeline a schedule, e.g. schedule="@daily"'
    )


def test_a_template_within_a_python_file_has_lines_of_its_own() -> None:
    with pytest.raises(UserError) as caught:
        template.render("a\n{{ b }}", {}, where="pipelines/flights.py:12")
    assert caught.value.where == "pipelines/flights.py:12, line 2 of the template"


def test_a_text_that_grows_out_of_hand_is_refused() -> None:
    loops = "{% for a in range(1000) %}{% for b in range(1000) %}xx{% endfor %}{% endfor %}"
    with pytest.raises(UserError, match="makes 2,000,000 characters"):
        render(loops)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ '' | attr('__class__') }}",
        "{{ '{0.__class__}'.format(ds) }}",
        "{{ '{x.__class__}'.format_map({'x': ds}) }}",
        "{{ macros.ds_add.__globals__ }}",
        "{{ macros.ds_add['__globals__'] }}",
        "{{ (macros | attr('ds_add') | attr('__globals__')) }}",
        "{{ macros.__init__.__globals__['__builtins__'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ range.__class__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ dict.__base__.__subclasses__() }}",
        "{{ interval.__class__ }}",
        "{{ interval.__reduce__() }}",
        "{{ params.update({'a': 1}) }}",
        "{{ params.clear() }}",
        "{{ params.__setitem__('carrier', 1) }}",
        "{{ [].append(1) }}",
        "{% set x = [1] %}{{ x.pop() }}",
        "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{{ m.__globals__ }}",
        "{{ ''.join.__self__.__class__ }}",
        "{% for x in range(10**9) %}{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 10**10**10 }}",
        "{{ 99999999 * ('a' * 999) }}",
        "{{ logical_date.now() }}",
        "{{ data_interval_start.today() }}",
        "{{ macros.datetime.now() }}",
        "{{ [1, 2] | random }}",
        "{{ lipsum() }}",
        "{% import 'os' as os %}",
        "{% extends '/etc/passwd' %}",
    ],
)
def test_the_sandbox_lets_nothing_out(text: str) -> None:
    """Python's insides, other files, the given values, the memory, the clock and chance stay out of reach."""
    params = {"carrier": "UA"}
    with pytest.raises(UserError):
        render(text, params=params)
    assert params == {"carrier": "UA"}


@pytest.mark.parametrize(
    ("path", "made"),
    [("a/b.csv", "a/b.csv"), ("./a//b", "a/b"), ("a b/ü.csv", "a b/ü.csv"), ("..a/b..", "..a/b.."), ("ab:c", "ab:c")],
)
def test_relative_paths_are_kept(path: str, made: str) -> None:
    assert relative_path(path) == made


@pytest.mark.parametrize(
    "path",
    ["", "  ", "/etc/passwd", "../x", "a/../../x", "a/..", "~/x", "C:/x", "c:x", "\\\\host\\x", "a\\..\\..\\x", "a\0b",
     "a\nb", "s3://bucket/x", "file:///etc/passwd"],
)  # fmt: skip
def test_paths_that_leave_their_folder_are_refused(path: str) -> None:
    with pytest.raises(Refused, match="is refused: it"):
        relative_path(path, where="flights.sql")


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_parameter_leads_out_of_the_folder(value: str) -> None:
    """A parameter is data: whatever it holds, the path stays below the folder or is refused."""
    try:
        path = render_path("feeds/{{ params.x }}/f.csv", batch_of(DAY), {"x": value})
    except Refused:
        return
    parts: list[Any] = path.split("/")
    assert not path.startswith("/")
    assert ".." not in parts
    assert parts[0] == "feeds"
