"""`from tidemill import live`: what topics are fed from. Used as `tm.topic(..., source=live.tail("orders.jsonl"))`."""

from __future__ import annotations

from tidemill.authoring.live import archive as archive
from tidemill.authoring.live import cdc as cdc
from tidemill.authoring.live import custom as custom
from tidemill.authoring.live import http as http
from tidemill.authoring.live import table as table
from tidemill.authoring.live import table_changes as table_changes
from tidemill.authoring.live import tail as tail
from tidemill.authoring.live import websocket as websocket
from tidemill.model.live import Message as Message

__all__ = ["Message", "archive", "cdc", "custom", "http", "table", "table_changes", "tail", "websocket"]
