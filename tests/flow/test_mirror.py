"""The catalog of AWS Glue shows what `main` holds, whatever happened to either, and whoever else was there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from harness.objectstore import FaultyProxy, ObjectStore, Request, proxying
from harness.project import Project
from harness.s3keys import KEY, SECRET
from tidemill.adapters.aws.client import Login
from tidemill.adapters.aws.tables import GlueTables
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.deliver import Report
from tidemill.flow.mirror import mirror
from tidemill.model.branch import MAIN
from tidemill.model.delivery import CatalogMirror, DeliverySpec, DeliveryState
from tidemill.model.errors import Conflict, Refused, Unreachable
from tidemill.model.table import TableName
from tidemill.plan.mirror import HEAD, OWNER, PUT
from tidemill.ports.mirror import Shown
from tidemill.wiring.delivering import mirrors
from tidemill.wiring.glue_settings import GlueSettings

pytestmark = pytest.mark.usefixtures("object_keys")
CONFLICT = json.dumps({"__type": "ConcurrentModificationException", "Message": "Update table failed"}).encode()


class Shop:
    """A project, and the catalog that shows its lake, which is in a folder here because that is quicker to write.

    Moto's Glue takes no notice of `VersionId`, which Amazon's compares; so `checked`, a proxy, does.
    """

    def __init__(self, root: Path, store: ObjectStore, checked: FaultyProxy) -> None:
        self.glue = boto3.client("glue", endpoint_url=store.endpoint, region_name="us-east-1",
                                 aws_access_key_id=KEY, aws_secret_access_key=SECRET)  # fmt: skip
        self.checked = checked
        self.prefix = f"{root.name}_".lower().replace("-", "_")
        self.meanwhile: Callable[[], object] | None = None
        checked.fault, checked.error = self._compared, CONFLICT
        self.project = Project(root)
        self.services = self.project.services
        settings = replace(self.project.settings, glue=GlueSettings(prefix=self.prefix))
        (self.spec,) = mirrors(self.services.metadata, settings)
        self.feed: list[dict[str, Any]] = []
        self.pipeline = self.declared()

    def _compared(self, request: Request) -> str | None:
        if request.headers.get("x-amz-target") != "AWSGlue.UpdateTable":
            return None
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        asked = json.loads(request.body)
        there = self.glue.get_table(DatabaseName=asked["DatabaseName"], Name=asked["TableInput"]["Name"])["Table"]
        return None if asked["VersionId"] == there["VersionId"] else "400"

    def declared(self) -> Pipeline:
        p = self.project.pipeline("shop")

        @p.source(columns={"id": "long", "price": "decimal(9,2)"})
        def Orders(interval: Any) -> Iterator[Any]:
            yield self.feed

        @p.table
        def latest(Orders: Any) -> Any:
            return Orders

        return p

    def run(self, day: int, *ids: int, **more: Any) -> None:
        self.feed = [{"id": id_, **more} for id_ in ids]
        assert self.project.run(self.pipeline, f"2026-01-0{day}", refetch=True).ok

    def catalog(self) -> GlueTables:
        return GlueTables(Login("us-east-1", self.checked.endpoint))

    def mirror(self, services: Any = None, spec: DeliverySpec | None = None) -> Report:
        return mirror(services or self.services, spec or self.spec, self.catalog)

    def mirrored(self) -> dict[str, str]:
        report = self.mirror()
        if report.error is not None:
            raise report.error
        self.check()
        return {str(name): what for name, what in (report.tables or {}).items()}

    def check(self) -> None:
        """The catalog has each table of `main`, and no other."""
        wanted = {name.table.lower(): pointer for name, pointer in self.pointers().items() if self.spec.mirror and
                  self.spec.mirror.shows(name)}  # fmt: skip
        assert {one["Name"]: one["Parameters"]["metadata_location"] for one in self.there()} == wanted

    def pointers(self) -> dict[TableName, str]:
        with self.services.metadata.read() as tx:
            return tx.refs.pointers(MAIN)

    def there(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.glue.get_tables(DatabaseName=f"{self.prefix}shop")["TableList"]
        return found

    def table(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.there() if one["Name"] == name]
        return found

    def drop(self, name: str) -> None:
        """Take a table from `main`, as a branch does that dropped it."""
        table = TableName.parse(name)
        with self.services.metadata.write() as tx:
            before = tx.refs.pointers(MAIN)[table]
            tx.refs.swap(MAIN, table, before, None)
            tx.refs.log(MAIN, "merge", now=self.services.clock.now(), changes={table: (before, None)})

    def state(self) -> tuple[DeliveryState, list[str], int, str | None]:
        with self.services.metadata.read() as tx:
            (one,) = tx.deliveries.all()
            pointers = tx.refs.pointers(MAIN)
        return one.state(pointers), [str(name) for name in one.behind(pointers)], one.tries, one.error


@pytest.fixture
def shop(tmp_path: Path, object_store: ObjectStore) -> Iterator[Shop]:
    with proxying(object_store.endpoint) as checked:
        made = Shop(tmp_path / "lake", object_store, checked)
        yield made
        made.project.close()
        for one in made.glue.get_databases()["DatabaseList"]:
            made.glue.delete_database(Name=one["Name"])


def test_the_catalog_follows_main_and_is_an_iceberg_table(shop: Shop) -> None:
    assert shop.mirror().tables == {}, "nothing is published"
    shop.run(1, 1, 2)
    assert shop.state()[:2] == (DeliveryState.PENDING, ["shop.Orders", "shop.latest"])
    assert shop.mirrored() == {"shop.Orders": "", "shop.latest": ""}
    assert shop.state() == (DeliveryState.DELIVERED, [], 0, None)
    first = shop.table("orders")
    assert first["TableType"] == "EXTERNAL_TABLE"
    assert first["Parameters"]["table_type"] == "ICEBERG"
    assert "previous_metadata_location" not in first["Parameters"]
    columns = {one["Name"]: one["Type"] for one in first["StorageDescriptor"]["Columns"]}
    assert columns == {"id": "bigint", "price": "decimal(9,2)", "_batch_id": "bigint", "_loaded_at": "timestamp"}
    assert first["StorageDescriptor"]["Location"] + "/metadata" in first["Parameters"]["metadata_location"]

    shop.run(2, 3, colour="red")
    shop.mirrored()
    second = shop.table("orders")
    assert second["Parameters"]["previous_metadata_location"] == first["Parameters"]["metadata_location"]
    assert "colour" in [one["Name"] for one in second["StorageDescriptor"]["Columns"]]
    assert shop.mirrored() == {}, "nothing has moved, so nothing is written"

    shop.drop("shop.latest")
    assert shop.state()[1] == ["shop.latest"]
    assert list(shop.mirrored().values()) == ["removed"]

    # PyIceberg's own catalog of Glue reads what is there, as engines do.
    from pyiceberg.catalog.glue import GlueCatalog

    reader = GlueCatalog("there", **{
        "glue.endpoint": shop.checked.target, "glue.region": "us-east-1", "glue.access-key-id": KEY,
        "glue.secret-access-key": SECRET,
    })  # fmt: skip
    rows = reader.load_table(f"{shop.prefix}shop.orders").scan().to_arrow().to_pylist()
    assert sorted(row["id"] for row in rows) == [1, 2, 3]


def test_an_older_pointer_never_takes_the_place_of_a_newer_one(shop: Shop) -> None:
    """One who has read `main` and then waits, while a run is published and shown by somebody else."""
    shop.run(1, 1)
    shop.mirrored()
    shop.run(2, 2)

    def other() -> None:
        shop.run(3, 3)
        assert shop.mirror().error is None

    shop.meanwhile = other
    shop.mirrored()
    assert shop.meanwhile is None, "the other was there between a look and a write"
    seen = shop.table("orders")["Parameters"]
    assert seen[PUT] == shop.pointers()[TableName("shop", "Orders")]

    # A database that was restored from a backup is behind what the catalog has seen: that is told, not undone.
    shop.glue.update_table(DatabaseName=f"{shop.prefix}shop",
                           TableInput={"Name": "orders", "Parameters": {**seen, HEAD: "999"}})  # fmt: skip
    shop.run(4, 4)
    report = shop.mirror()
    assert isinstance(report.error, Conflict)
    assert "restored" in str(report.error)
    assert shop.table("orders")["Parameters"][PUT] == seen[PUT]


def test_what_others_have_in_the_catalog_stays_and_is_told_of(shop: Shop) -> None:
    shop.run(1, 1)
    shop.mirrored()
    database = f"{shop.prefix}shop"
    written = {**shop.table("orders")["Parameters"], "metadata_location": "s3://elsewhere/metadata/9.json"}
    shop.glue.update_table(DatabaseName=database, TableInput={"Name": "orders", "Parameters": written})
    shop.glue.create_table(DatabaseName=database, TableInput={"Name": "theirs"})
    shop.run(2, 2)
    report = shop.mirror()
    assert isinstance(report.error, Refused)
    assert "Another engine has written" in str(report.error)
    assert shop.state()[0] is DeliveryState.FAILING
    assert shop.table("orders")["Parameters"]["metadata_location"] == "s3://elsewhere/metadata/9.json"
    assert shop.table("latest")["Parameters"][PUT] == shop.pointers()[TableName("shop", "latest")], "others are shown"

    mine = shop.table("latest")["Parameters"]
    shop.glue.update_table(DatabaseName=database, TableInput={"Name": "latest", "Parameters": {**mine, OWNER: "you"}})
    shop.glue.delete_table(DatabaseName=database, Name="orders")
    shop.run(3, 3)
    told = str(shop.mirror().error)
    assert f'a table "{database}.latest" that is not of this project' in told
    assert shop.table("latest")["Parameters"][PUT] == mine[PUT]
    shop.glue.delete_table(DatabaseName=database, Name="latest")
    assert shop.mirror().error is None
    assert sorted(one["Name"] for one in shop.there()) == ["latest", "orders", "theirs"]


def test_a_catalog_that_is_away_is_tried_again_and_people_choose_what_is_shown(shop: Shop) -> None:
    shop.run(1, 1)
    compared, shop.checked.fault = shop.checked.fault, lambda _: "500"
    shop.checked.error = b'{"__type": "InternalServiceException"}'
    report = shop.mirror()
    assert isinstance(report.error, Unreachable)
    assert (shop.state()[0], shop.state()[2]) == (DeliveryState.FAILING, 1)
    shop.checked.fault, shop.checked.error = compared, CONFLICT
    shop.mirrored()
    assert shop.state()[2] == 0

    shop.glue.update_table(
        DatabaseName=f"{shop.prefix}shop",
        TableInput={**{k: shop.table("latest")[k] for k in ("Name", "Parameters")}, "Description": "Newest orders.",
                    "StorageDescriptor": {"Columns": [{"Name": "id", "Type": "bigint", "Comment": "of the order"}]}},
    )  # fmt: skip
    shop.run(2, 2)
    shop.mirrored()
    kept = shop.table("latest")
    assert kept["Description"] == "Newest orders."
    comments = {one["Name"]: one.get("Comment") for one in kept["StorageDescriptor"]["Columns"]}
    assert comments["id"] == "of the order"

    # Where a list of entries tells no version, the entry itself is asked, and must be as it was.
    database, catalog = f"{shop.prefix}shop", shop.catalog()
    entry = replace((catalog.entries(database) or {})["latest"], version="")
    again = Shown("latest", "s3://x", (), {})
    catalog.replace(database, again, entry)
    with pytest.raises(Conflict):
        catalog.replace(database, again, replace(entry, parameters={**entry.parameters, HEAD: "0"}))

    shop.spec = DeliverySpec("*", "glue", (), mirror=CatalogMirror(("*.latest",), shop.prefix))
    shop.mirrored()
    assert [one["Name"] for one in shop.there()] == ["latest"]
