"""How clients of Kafka are set up: what the project says, and what makes them fast and safe."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tidemill.adapters.kafka.errors import error_of
from tidemill.model.errors import SettingsError

Options: TypeAlias = "Mapping[str, object]"

_Client = TypeVar("_Client")

SERVERS = "bootstrap.servers"
_log = logging.getLogger("tidemill.kafka")
#: librdkafka tells of each lost connection, some twice a second, and of each writer that another one has replaced. What
#: matters is raised; the rest is for who asks.
_log.addHandler(logging.NullHandler())
if _log.level == logging.NOTSET:
    _log.setLevel(logging.CRITICAL + 1)

#: What only one kind of client knows; the other would warn of it.
_OF_PRODUCERS = (
    "transaction", "enable.idempotence", "queue.buffering", "linger.ms", "batch.", "compression.", "acks", "retries",
    "request.required.acks", "message.timeout.ms", "delivery.", "partitioner", "sticky.partitioning", "request.timeout",
    "message.send.max.retries",
)  # fmt: skip
_OF_CONSUMERS = (
    "group.", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms", "partition.assignment", "queued.",
    "fetch.", "max.partition.fetch.bytes", "isolation.level", "enable.auto", "auto.", "enable.partition.eof",
    "check.crcs", "coordinator.query",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Whom to ask, and how.

    Args:
        options: librdkafka's, by its names; `bootstrap.servers` must be among them. They win over ours, except for
            those on which a promise of the port rests.
        patience: how long a broker may not answer before it is called unreachable.
    """

    options: Options = field(repr=False)
    patience: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if not self.options.get(SERVERS):
            raise SettingsError("Kafka has no address.", hint=f'"{SERVERS}" = "host:9092,host:9092"')

    @property
    def servers(self) -> str:
        """Addresses of brokers."""
        return str(self.options[SERVERS])

    @property
    def seconds(self) -> float:
        """The patience."""
        return self.patience.total_seconds()

    def admin(self) -> AdminClient:
        """A client that makes and describes."""
        return self._open(AdminClient, self._for((*_OF_PRODUCERS, *_OF_CONSUMERS)))

    def consumer(
        self, ours: Options, must: Options, on_error: Callable[[KafkaError], None] = lambda error: None
    ) -> Consumer:
        """A client that reads; `ours` may be changed by the project's options, `must` not."""
        return self._open(Consumer, {**ours, **self._for(_OF_PRODUCERS), **must, "error_cb": on_error})

    def producer(
        self, ours: Options, must: Options, on_error: Callable[[KafkaError], None] = lambda error: None
    ) -> Producer:
        """A client that writes."""
        return self._open(Producer, {**ours, **self._for(_OF_CONSUMERS), **must, "error_cb": on_error})

    def _for(self, others: tuple[str, ...]) -> dict[str, object]:
        return {
            # After a lost connection it is tried again soon: a broker that comes back is there in a second.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "socket.keepalive.enable": True,
            "allow.auto.create.topics": False,
            **{name: value for name, value in self.options.items() if not name.startswith(others)},
        }

    def _open(self, kind: Callable[..., _Client], options: dict[str, object]) -> _Client:
        if kind is not Consumer:
            options.pop("allow.auto.create.topics", None)
        try:
            return kind(options, logger=_log)
        except KafkaException as error:
            # librdkafka shows a value that it cannot use: it might be a secret in the wrong place.
            found = re.sub(r'Invalid value ".*" for', "Invalid value for", error_of(error).str(), flags=re.DOTALL)
            found = re.sub(r"(Unsupported SASL mechanism): .*", r"\1", found, flags=re.DOTALL)
            raise SettingsError(
                f"The settings for Kafka are wrong: {found}.", hint="see CONFIGURATION.md of librdkafka"
            ) from None
