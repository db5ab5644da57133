"""`from tidemill import sources`: where feeds come from. Used as `shop.source(sources.sql("shop_db", "orders"))`."""

from __future__ import annotations

from tidemill.authoring.cdc import cdc
from tidemill.authoring.databases import sql, sql_tables
from tidemill.authoring.dlt import dlt
from tidemill.authoring.meltano import meltano
from tidemill.authoring.rest import graphql, html_table, rest
from tidemill.authoring.rest_parts import (
    api_key,
    basic,
    bearer,
    by_cursor,
    by_link,
    by_next_url,
    by_offset,
    by_page,
    details,
    oauth2,
)
from tidemill.authoring.singer import singer
from tidemill.authoring.topics import topic
from tidemill.authoring.webhook import webhook

__all__ = [
    "api_key",
    "basic",
    "bearer",
    "by_cursor",
    "by_link",
    "by_next_url",
    "by_offset",
    "by_page",
    "cdc",
    "details",
    "dlt",
    "graphql",
    "html_table",
    "meltano",
    "oauth2",
    "rest",
    "singer",
    "sql",
    "sql_tables",
    "topic",
    "webhook",
]
