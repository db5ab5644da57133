"""CREATE EXTERNAL SCHEMA: noted, so that SVV_EXTERNAL_SCHEMAS shows it; nothing is read through it.

Page "CREATE EXTERNAL SCHEMA".
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from tidemill.testing.redshift.authorization import Authorization, take_authorization
from tidemill.testing.redshift.faults import unknown, wrong
from tidemill.testing.redshift.storage import Storage, check_authorized
from tidemill.testing.redshift.tokens import Parser, literal, quoted


def external_schema(sql: str, roles: frozenset[str]) -> list[str]:
    """The statements of a CREATE EXTERNAL SCHEMA. Raises Fault."""
    parser = Parser(sql)
    parser.need("create", "external", "schema")
    lenient = parser.took("if", "not", "exists")
    name = parser.name()
    parser.need("from")
    if not parser.took("data", "catalog"):
        raise unknown("an external schema from anything but a DATA CATALOG")
    parser.need("database")
    database = parser.text()
    region = ""
    who: Authorization | None = None
    while not parser.ended:
        if parser.took("region"):
            region = parser.text()
        elif parser.took("iam_role"):
            who = take_authorization(parser, "iam_role")
        elif parser.took("catalog_id"):
            parser.text()
        elif not parser.took("create", "external", "database", "if", "not", "exists"):
            raise parser.unexpected()
    if who is None:
        raise wrong("an external schema needs an IAM_ROLE")
    check_authorized(who, roles, Storage())
    options = literal(f'{{"REGION":"{region}","IAM_ROLE":"{",".join(who.roles)}"}}')
    inserted = (
        "INSERT INTO redshift_system.svv_external_schemas (eskind, schemaname, esowner, databasename, esoptions)"
        f" VALUES (1, {literal(name)}, 100, {literal(database)}, {options})"
    )
    made = f"CREATE SCHEMA {quoted(name)}"
    if not lenient:
        return [made, inserted]
    return [
        f"DO $redshift$ BEGIN IF to_regnamespace({literal(quoted(name))}) IS NULL THEN {made}; {inserted}; END IF;"
        " END $redshift$"
    ]
