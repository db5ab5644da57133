"""The documentation holds: links lead somewhere, code runs, commands show what the pages say they show."""

import os
import re
import sys
from pathlib import Path

import pytest

import pages
from harness import warm

ROOT = Path(__file__).parents[1]
#: The page on dbt makes dbt's environment in its project, as its reader would.
SLOW = {
    "dbt.md": pytest.mark.slow,
    # A server of its own follows; without the programs for one, it is skipped as other tests are.
    "cdc.md": pytest.mark.postgres,
}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])


def work_through(page, project):
    command = [sys.executable, str(ROOT / "tests" / "pages.py"), str(page)]
    return warm.run(command, cwd=project, env={**os.environ, warm.ADDRESS: warm.address()})


def test_there_are_pages():
    assert {"README.md", "CONTRIBUTING.md", "why.md", "glossary.md", "architecture.md"} <= {p.name for p in PAGES}


def test_every_link_leads_somewhere():
    assert pages.broken_links(PAGES, ROOT) == []


def test_the_architecture_page_says_where_each_of_the_twelve_rules_lives():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| \*\*.+?\*\*.* \| (.*) \| (.*)\|$", text, re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 13))
    assert [number for number, code, _ in rows if ".py](../src/" not in code] == []


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=SLOW.get(page.name, ())) for page in PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_what_the_page_says_holds(page, tmp_path, request):
    """Code runs, in order, in an empty project; commands end and show what the page says."""
    if request.node.get_closest_marker("postgres"):
        request.getfixturevalue("postgres")
    result = work_through(page, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_page_shows_code_that_is_not_run():
    """`no-run` is for what cannot run yet; nothing on a page may only look as if it ran."""
    left = [f"{b.page.name}:{b.line}" for page in PAGES for b in pages.blocks(page) if b.has("no-run")]
    assert left == []


# The reader of pages itself

SAMPLE = """# A page

```text file=feeds/a.txt
one
two
```

```python
lines = open("feeds/a.txt").read().split()
print(len(lines), "lines")
```

```text output
2 lines
```

<!-- python
hidden = True
-->

```python
import os
assert hidden and lines and __name__ == "__main__"
print("in", os.getcwd())
print("end")
```

```text output
in .../project...
...
end
```

```console output
$ python -c "print('a'); print('b 17 ms')"
a
b ... ms
$ python -c "print('c')"  # a comment
c
```

```console exit=3
$ ls /nowhere
$ python -c "raise SystemExit(3)"
```

```sql no-run
select 1
```
"""


@pytest.fixture
def page(tmp_path):
    """Works through a page of the given text; returns the exit code and everything shown."""
    (tmp_path / "project").mkdir()

    def run(text):
        (tmp_path / "page.md").write_text(text)
        result = work_through(tmp_path / "page.md", tmp_path / "project")
        return result.returncode, result.stdout + result.stderr

    return run


def test_a_page_that_holds_is_worked_through(page):
    assert page(SAMPLE) == (0, "8 blocks\n")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("two\n```", "```", "page.md:13: shows\n2 lines\n\nbut the code before it prints\n1 lines"),
        ("print(len(lines)", "print(1 / 0", "page.md:10: ZeroDivisionError: division by zero"),
        ("hidden = True", "hidden = ", "page.md:18: invalid syntax"),
        ("b ... ms", "b ... s", "page.md:35: `python -c \"print('a'); print('b 17 ms')\"` shows"),
        ("exit=3", "exit=2", "ended with 3 instead of 2"),
        ("exit=3", "", "ended with 3 instead of 0"),
        ("feeds/a.txt\none", "../a.txt\none", "../a.txt is outside the project"),
        ("select 1\n```", "select 1\n", "page.md:47: the block is not closed"),
    ],
)
def test_a_page_that_does_not_hold_says_where(page, right, wrong, message):
    assert right in SAMPLE
    code, shown = page(SAMPLE.replace(right, wrong, 1))
    assert code == 1
    assert message in shown


def test_a_block_that_is_not_run_is_still_compiled(page):
    assert page("```python no-run\nraise OSError\n```\n") == (0, "0 blocks\n")
    assert page("```python no-run\nraise raise\n```\n")[0] == 1


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("a\n", "a  \n\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nd\n", True),
        ("a\n...\nd\n", "a\nb\n", False),
        ("run 1 ... s\n", "run 1 in 0.3 s\n", True),
        ("run 1 ... s\n", "run 1 in\n0.3 s\n", False),
        ("a.c\n", "abc\n", False),
        ("", "a\n", False),
    ],
)
def test_expected_output_is_compared_line_by_line(expected, found, same):
    assert pages.matches(expected, found) is same


def test_broken_links_are_found(tmp_path):
    (tmp_path / "docs").mkdir()
    other = tmp_path / "docs" / "other.md"
    other.write_text("# Other page\n\n## What `x` is\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](docs/other.md) [b](docs/other.md#what-x-is) [c](#page) [d](https://example.org/x) [e](docs/)\n"
        "[f](docs/other.md#twice-1) `[g](nothing.md)`\n```\n[h](nothing.md)\n```\n"
        "[i](nothing.md) [j](docs/other.md#no-heading) [k](#other) ![l](picture.png) [m](../outside.md)\n"
    )
    assert pages.broken_links([page, other], tmp_path) == [
        "page.md:7: there is no nothing.md",
        "page.md:7: other.md has no heading #no-heading",
        "page.md:7: page.md has no heading #other",
        "page.md:7: there is no picture.png",
        "page.md:7: there is no ../outside.md",
    ]
