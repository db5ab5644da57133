"""Connections to a broker that come back: a thread that sends, and one that receives.

Whoever uses them never waits, and never sees that the broker is gone: what is to be sent waits here until it is back.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from celery import Celery
from kombu import Connection, Consumer, Producer, Queue

#: Something that sends; called again, with another connection, until it does not raise.
Send: TypeAlias = Callable[[Producer], None]

#: Seconds between tries to reach a broker, and the longest that the end of a thread is waited for.
AGAIN = 0.5
_CLOSING = 5.0
_HEARTBEAT = 10
#: How often a thread that hears nothing looks whether it shall end.
_LISTEN = 0.3

_log = logging.getLogger("tidemill.broker")


class Sender:
    """Sends in order, each message until the broker has it.

    Args:
        app: knows the broker.
        on_back: called, in this object's thread, when the broker is back after it was gone.
    """

    def __init__(self, app: Celery, on_back: Callable[[], None] = lambda: None) -> None:
        self._app = app
        self._on_back = on_back
        self._waiting: queue.SimpleQueue[Send | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-send", daemon=True)
        self._thread.start()

    def put(self, send: Send) -> None:
        """Send this, after what was put before."""
        self._waiting.put(send)

    def say(
        self, routing_key: str, body: dict[str, Any], *, sent: Callable[[], None] | None = None, **options: Any
    ) -> None:
        """Send a message to a queue, or with `exchange=` to an exchange; `sent` is called when the broker has it."""

        def send(producer: Producer) -> None:
            producer.publish(body, routing_key=routing_key, serializer="json", **options)
            if sent is not None:
                sent()

        self.put(send)

    def close(self) -> None:
        """Send what waits, if the broker is there, and end."""
        self._waiting.put(None)
        self._thread.join(_CLOSING)
        self._closing.set()

    def _run(self) -> None:
        connection: Connection | None = None
        producer: Producer | None = None
        was_gone = False
        while (send := self._waiting.get()) is not None:
            while not self._closing.is_set():
                try:
                    if connection is None or producer is None:
                        # Nobody would answer the broker's heartbeats while there is nothing to send.
                        connection = _connect(self._app, heartbeat=0)
                        producer = Producer(connection)
                        if was_gone:
                            was_gone = False
                            self._on_back()
                    send(producer)
                    break
                except Exception as error:
                    if not was_gone:
                        _log.warning("The broker does not answer: %s: %s", type(error).__name__, error)
                    _drop(connection)
                    was_gone, producer, connection = True, None, None
                    self._closing.wait(AGAIN)
        _drop(connection)


class Receiver:
    """Hears from queues.

    Args:
        app: knows the broker.
        queues: they are declared, as often as a connection is made.
        hear: called with each message's body, in this object's thread.
    """

    def __init__(self, app: Celery, queues: Sequence[Queue], hear: Callable[[dict[str, Any]], None]) -> None:
        self._app = app
        self._queues = queues
        self._hear = hear
        self._closing = threading.Event()
        self._delete = False
        self._thread = threading.Thread(target=self._run, name="tidemill-receive", daemon=True)
        self._thread.start()

    def close(self, *, delete: bool = False) -> None:
        """End; with `delete` the queues are removed."""
        self._delete = delete
        self._closing.set()
        self._thread.join(_CLOSING)

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._closing.is_set():
            try:
                connection = _connect(self._app, heartbeat=_HEARTBEAT)
                self._receive(connection)
            except Exception as error:
                _log.debug("No connection: %s: %s", type(error).__name__, error)
                self._closing.wait(AGAIN)
            _drop(connection)
            connection = None

    def _receive(self, connection: Connection) -> None:
        channel = connection.channel()
        bound = [each(channel) for each in self._queues]
        with Consumer(channel, bound, on_message=self._take, accept=["json"], no_ack=False):
            while not self._closing.is_set():
                try:
                    connection.drain_events(timeout=_LISTEN)
                except TimeoutError:
                    pass
                except socket.timeout:  # noqa: UP041  # not the same class in every transport
                    pass
                if connection.supports_heartbeats:
                    connection.heartbeat_check()
        if self._delete:
            for each in bound:
                each.delete()

    def _take(self, message: Any) -> None:
        try:
            body = message.decode()
            if isinstance(body, dict):
                self._hear(body)
        except Exception:
            _log.exception("A message from the broker made no sense")
        message.ack()


def _connect(app: Celery, **options: Any) -> Connection:
    connection = app.connection_for_write(**options)
    connection.connect()
    return connection


def _drop(connection: Connection | None) -> None:
    """Close a connection that may be broken."""
    if connection is not None:
        try:
            connection.close()
        except Exception as error:
            _log.debug("A connection could not be closed: %s", error)
