"""Topics as sources of batches, as declared: which messages a batch takes, and how they become rows. Values only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidemill.model.codec import CodecSpec, Json, Text, codec_as_json, codec_of_json
from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceKind

#: Where the first batch begins: at the oldest message that there is, or after the newest.
Start = Literal["earliest", "latest"]
#: Where each batch ends: at the ends of the partitions when it begins, or before the messages of the next interval.
Until = Literal["end", "interval"]
#: What becomes of a batch whose messages are no longer in the topic.
OnLoss = Literal["fail", "warn"]
#: What becomes of messages without a value: no row, or a row that deletes its key.
Tombstones = Literal["skip", "delete"]
#: What a message has beside its value, each of which can be a column.
FIELDS = ("partition", "offset", "timestamp", "key", "headers")

#: Parts of a topic's feed: messages, and what the topic no longer had.
MESSAGES, LOST = "messages-", "lost-"


@dataclass(frozen=True, slots=True)
class MessageRows:
    """How messages become rows.

    Args:
        topic: whose they are.
        value: how values are written. `Json()` without columns is read by the rules of JSON Lines.
        key: how keys are written.
        fields: what is a column beside the value's; of `FIELDS`.
        prefix: of these columns' names.
        tombstones: see `Tombstones`.
        keyed: columns that are read from keys, and not from values.
    """

    topic: str
    value: CodecSpec = field(default_factory=Json)
    key: CodecSpec = field(default_factory=Text)
    fields: tuple[str, ...] = ("partition", "offset", "timestamp")
    prefix: str = "_"
    tombstones: Tombstones = "skip"
    keyed: tuple[str, ...] = ()

    @property
    def deleted(self) -> str:
        """The column that is true where a message has no value."""
        return f"{self.prefix}deleted"

    def as_json(self) -> dict[str, Any]:
        """As the decoder's options keep it, and the archive beside them."""
        return {
            "topic": self.topic,
            "value": codec_as_json(self.value),
            "key": codec_as_json(self.key),
            "fields": list(self.fields),
            "prefix": self.prefix,
            "tombstones": self.tombstones,
            **({"keyed": list(self.keyed)} if self.keyed else {}),
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> MessageRows:
        """The inverse of `as_json`."""
        return cls(
            told["topic"],
            codec_of_json(told["value"]),
            codec_of_json(told["key"]),
            tuple(told["fields"]),
            told["prefix"],
            told["tombstones"],
            tuple(told.get("keyed", ())),
        )


@dataclass(frozen=True, slots=True)
class TopicFeed(Connector):
    """A topic, of which each batch takes the messages since the one before.

    Args:
        topic: its name.
        rows: how messages become rows.
        connection: the cluster that has it; None: the broker of the project's streams.
        start, until, on_loss: see these types.
        max_messages: of a batch; None: as many as there are.
    """

    topic: str
    rows: MessageRows
    connection: str | None = None
    start: Start = "earliest"
    until: Until = "end"
    on_loss: OnLoss = "fail"
    max_messages: int | None = None

    @property
    def called(self) -> str | None:
        """The topic's name, as far as it can name a table."""
        return re.sub(r"\W", "_", self.topic)

    @property
    def kind(self) -> SourceKind:
        """The bookmark is an offset for each partition."""
        return SourceKind.BOOKMARK

    @property
    def keeps_files(self) -> bool:
        """Messages are kept as they came, in files of columns."""
        return True

    @property
    def decode(self) -> Mapping[str, Any]:
        """How they become rows."""
        return {"messages": self.rows.as_json()}

    @property
    def options(self) -> Mapping[str, Any]:
        """Where messages without a value delete, rows are merged by the message's key."""
        if self.rows.tombstones == "skip":
            return {"write": "append"}
        return {"write": "upsert", "key": f"{self.rows.prefix}key", "delete_flag": self.rows.deleted}

    @property
    def merges(self) -> bool:
        """See `Connector.merges`."""
        return True

    def __str__(self) -> str:
        return f"topic {self.topic}" + (f" of {self.connection}" if self.connection else "")
