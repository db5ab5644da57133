"""A Meltano project's file becomes pipelines: taps, settings, selection, schedules; what is not understood is said."""

from __future__ import annotations

import json

import pytest

from harness.project import Project
from tidemill import sources
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.singer import FromEnvironment

FILE = """\
version: 1
default_environment: dev
environments:
  - name: dev
  - name: prod
    config:
      plugins:
        extractors:
          - name: tap-shop
            config: {start_date: "2026-01-01"}
plugins:
  extractors:
    - name: tap-shop
      variant: somebody
      pip_url: tap-shop==1.2 setuptools<81
      config:
        api.url: https://shop.example
        start_date: "2020-01-01"
        token: ${SHOP_TOKEN}
        pages: 3
      settings:
        - name: token
          sensitive: true
        - name: page_size
          kind: integer
      select: [orders.*, "!orders.note", items]
      metadata:
        orders: {replication-method: INCREMENTAL, replication-key: updated_at}
    - name: tap-shop-eu
      inherit_from: tap-shop
      config: {api.url: https://eu.shop.example}
  loaders:
    - name: target-jsonl
      pip_url: target-jsonl
  utilities:
    - name: superset
jobs:
  - name: eu
    tasks: [tap-shop-eu target-jsonl dbt:run]
schedules:
  - name: daily-shop
    interval: "@daily"
    extractor: tap-shop
    loader: target-jsonl
    transform: skip
  - name: eu-nightly
    interval: 0 3 * * *
    job: eu
"""


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    made.close()


def read(project, text=FILE, **options):
    file = project.root / "meltano.yml"
    file.write_text(text, "utf-8")
    return sources.meltano(str(file), **options)


def test_schedules_and_jobs_become_pipelines(project):
    """Each with the streams of its taps as feeds; what the lake replaces, and what follows it, is named."""
    with pytest.warns(UserWarning, match="is not taken over") as told:
        found = read(project, start="2026-01-01")
    assert list(found) == ["daily_shop", "eu_nightly"]
    assert sorted(str(one.message).rpartition("/")[2] for one in told) == [
        "meltano.yml:35: plugins of the kind utilities is not taken over",
        'meltano.yml:39: "dbt:run" of job eu is not taken over',
    ]
    spec = found["daily_shop"].spec()
    assert spec.timetable.text == "@daily"
    assert list(spec.sources) == ["orders", "items"]
    tap = spec.sources["orders"].origin.tap
    assert tap.packages == ("tap-shop==1.2", "setuptools<81")
    assert tap.program == "tap-shop"
    assert tap.config == {
        "api": {"url": "https://shop.example"}, "start_date": "2020-01-01", "token": "env:SHOP_TOKEN", "pages": 3,
        "page_size": FromEnvironment("TAP_SHOP_PAGE_SIZE", "integer"),
    }  # fmt: skip
    assert tap.metadata == {"orders": {"replication-method": "INCREMENTAL", "replication-key": "updated_at"}}
    eu = found["eu_nightly"].spec()
    assert eu.timetable.text == "0 3 * * *"
    assert eu.sources["orders"].origin.tap.config["api"] == {"url": "https://eu.shop.example"}


def test_an_environment_says_otherwise(project):
    """Its settings stand over those of the plugins."""
    with pytest.warns(UserWarning, match="is not taken over"):
        found = read(project, environment="prod", start="2026-01-01")
    assert found["daily_shop"].spec().sources["orders"].origin.tap.config["start_date"] == "2026-01-01"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("    variant: somebody", "    selct: [a]", 14, '"selct" is not understood here'),
        ("pip_url: tap-shop==1.2 setuptools<81", "label: Shop", 13, "has no pip_url"),
        ("token: ${SHOP_TOKEN}", "token: Bearer ${SHOP_TOKEN}", 19, "is put together from variables"),
        ("job: eu", "job: us", 48, 'There is no job "us"'),
        ("inherit_from: tap-shop", "inherit_from: tap-ship", 30, 'There is no extractor "tap-ship"'),
        ("select: [orders.*,", 'select: ["*.*",', 13, "is a pattern"),
        ("version: 1", "version: [1", 2, "This is no YAML"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*is not taken over")
def test_what_is_not_understood_is_an_error_with_its_line(project, old, new, line, says):
    """The file, the line, and what to try."""
    assert old in FILE
    with pytest.raises(TidemillError) as caught:
        read(project, FILE.replace(old, new, 1), start="2026-01-01")
    assert says in caught.value.what
    assert caught.value.where.endswith(f"meltano.yml:{line}")


def test_a_kept_catalog_says_what_patterns_fit(project):
    """`singer/<extractor>.json` beside the file."""
    (project.root / "singer").mkdir()
    streams = [{"tap_stream_id": name, "key_properties": ["id"]} for name in ("orders", "order_lines", "users")]
    (project.root / "singer" / "tap-shop.json").write_text(json.dumps({"streams": streams}))
    text = FILE.replace('orders.*, "!orders.note", items', "order*.*").partition("    - name: tap-shop-eu")[0]
    found = read(project, text.replace("metadata:\n        orders:", "metadata:\n        order*:"))
    spec = found["tap_shop"].spec()
    assert list(spec.sources) == ["orders", "order_lines"]
    assert spec.sources["orders"].table.key == ("id",)


def test_there_must_be_a_file(project):
    """A file that is not there is the error."""
    with pytest.raises(DefinitionError, match="cannot be read"):
        sources.meltano(str(project.root / "nothing.yml"))
