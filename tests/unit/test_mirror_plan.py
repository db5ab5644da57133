"""What a catalog outside is told, and what settings say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemill.adapters.aws.tables import hive_type
from tidemill.model.delivery import CatalogMirror, DeliverySpec
from tidemill.model.errors import Refused, SettingsError, UnknownName
from tidemill.model.table import TableName
from tidemill.model.types import parse_type
from tidemill.plan.mirror import Act, names_in, next_act, said_of
from tidemill.wiring.delivering import mirrors_of
from tidemill.wiring.glue_settings import aws_login
from tidemill.wiring.settings import load_settings

SHOP = TableName("Shop", "Orders")
S3_LAKE = '[lake]\nurl = "s3://bucket/lake"\n'


def test_names_are_such_that_engines_need_no_quotes() -> None:
    mirror = CatalogMirror(("Shop.*", "other.t"), "lake_")
    tables = [SHOP, SHOP.input, TableName("other", "t"), TableName("other", "u")]
    assert names_in(mirror, tables) == {SHOP: ("lake_shop", "orders"), TableName("other", "t"): ("lake_other", "t")}
    with pytest.raises(Refused, match=r'"Shop.Orders" and "shop.orders" would both be "shop.orders"'):
        names_in(CatalogMirror(), [SHOP, TableName("shop", "orders")])


@pytest.mark.parametrize(
    ("pointer", "entry", "act"),
    [
        ("p2", None, Act.CREATE),
        (None, None, Act.NOTHING),
        ("p1", said_of("p1", 5, "me", None), Act.NOTHING),
        ("p2", said_of("p1", 7, "me", None), Act.REPLACE),
        ("p2", said_of("p1", 8, "me", None), Act.OLDER),
        (None, said_of("p1", 8, "me", None), Act.OLDER),
        (None, said_of("p1", 7, "me", "p0"), Act.REMOVE),
        (None, said_of("p1", 7, "you", None), Act.NOTHING),
        (None, {}, Act.NOTHING),
    ],
)
def test_what_an_entry_needs(pointer: str | None, entry: dict[str, str] | None, act: Act) -> None:
    assert next_act(pointer, 7, "me", entry, "shop.orders") is act


def test_types_as_hive_calls_them() -> None:
    given = "struct<a:list<map<string,decimal(9,2)>>,b:timestamptz,c:uuid>"
    assert hive_type(parse_type(given)) == "struct<a:array<map<string,decimal(9,2)>>,b:timestamp,c:string>"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("[glue]\n", "the lake is a folder"),
        (S3_LAKE + '[glue]\nprefix = "Lake-"\n', "cannot begin a name"),
        (S3_LAKE + "[glue]\ntables = 3\n", "no list of patterns"),
        (S3_LAKE + "[glue]\nregion = 3\n", "of the wrong kind"),
        (S3_LAKE + '[glue]\nendpoint = "host"\n', "no address"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, section: str, told: str) -> None:
    (tmp_path / "tidemill.toml").write_text(section)
    with pytest.raises(SettingsError, match=told):
        load_settings(tmp_path, {})


def test_settings_of_a_mirror(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text(S3_LAKE + '[glue]\ntables = "shop.*"\nprefix = "p_"\n')
    (spec,) = mirrors_of(load_settings(tmp_path, {}))
    assert spec.mirror == CatalogMirror(("shop.*",), "p_")
    assert DeliverySpec.from_json("*", "glue", spec.as_json()) == spec
    (tmp_path / "tidemill.toml").write_text(S3_LAKE + '[glue]\ntabels = "shop.*"\n')
    with pytest.raises(UnknownName) as error:
        load_settings(tmp_path, {})
    assert "tables" in str(error.value.hint)


def test_who_asks_amazon() -> None:
    extra = {"region_name": "eu-west-1", "endpoint_url": "http://host:1", "aws_session_token": "t"}
    found: dict[str, Any] = {"conn_id": "a", "conn_type": "aws", "login": "k", "password": "s", "extra": extra}
    login = aws_login("a", {"a": found})
    assert (login.region, login.endpoint, login.key, login.secret, login.token) == (
        "eu-west-1", "http://host:1", "k", "s", "t")  # fmt: skip
    assert aws_login("a", {"a": found}, "us-east-1").region == "us-east-1"
    with pytest.raises(SettingsError, match="no connection to AWS"):
        aws_login("a", {"a": {**found, "conn_type": "smtp"}})
    with pytest.raises(SettingsError, match=r'There is no connection "b"'):
        aws_login("b", {"a": found})
