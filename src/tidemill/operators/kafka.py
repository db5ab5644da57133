"""Messages to topics of Kafka as tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

from tidemill.authoring.arguments import as_length
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.stream import Guarantee
from tidemill.operators.messages import each, send_all
from tidemill.operators.python import arguments_for


class KafkaProduceOperator(BaseOperator):
    """Sends messages to a topic. How many is what the task returns; by then brokers have confirmed all of them.

    A message is a value; a tuple `(key, value)`; or a dictionary of `value`, and `key`, `headers`, `partition`,
    `timestamp` (milliseconds, or a datetime with a zone) as far as it has them. Of values and keys, texts are sent in
    UTF-8, bytes as they are, None as a tombstone, and all else as JSON.

    Args:
        topic: where to; it must be there.
        messages: a list of messages, or one; a template, or what another task returned.
        producer_function: called in place of `messages`; it returns or yields them. Parameters by the names of the
            context's variables get their values.
        producer_function_args, producer_function_kwargs: its other arguments; templates.
        key: of messages that have none: a text, bytes, or a function of the value. Without a key they go to the
            topic's partitions in turn.
        kafka_conn_id: a connection `kafka://host:9092,other:9092?security.protocol=SASL_SSL&...`: its query are
            settings of librdkafka.
        transactional: send in one transaction: readers of what is committed see all messages or, if the try fails,
            none. Otherwise a try that fails may have sent some, and the next one sends them again.
        timeout: how long brokers may not answer, in seconds or as a timedelta.
        options: those of every task.
    """

    kind = "kafka"
    template_fields: Sequence[str] = (
        "topic", "messages", "key", "producer_function_args", "producer_function_kwargs", "kafka_conn_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        topic: str,
        messages: Any = None,
        producer_function: Callable[..., Any] | None = None,
        producer_function_args: Sequence[Any] = (),
        producer_function_kwargs: Mapping[str, Any] | None = None,
        key: Any = None,
        kafka_conn_id: str = "kafka_default",
        transactional: bool = False,
        timeout: float | timedelta = 30,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if (messages is None) == (producer_function is None):
            raise DefinitionError(
                f'"{self.task_id}" sends either messages, or what a function yields.',
                where=self.place,
                hint='messages=["..."], or producer_function=function',
            )
        if producer_function is not None and not callable(producer_function):
            raise DefinitionError(
                f'"{self.task_id}" calls {producer_function!r}, which is no function.',
                where=self.place,
                hint="producer_function=function, without parentheses",
            )
        self.topic = topic
        self.messages = messages
        self.producer_function = producer_function
        self.producer_function_args = tuple(producer_function_args or ())
        self.producer_function_kwargs = dict(producer_function_kwargs or {})
        self.key = key
        self.kafka_conn_id = kafka_conn_id
        self.transactional = transactional
        self.patience = as_length(timeout)

    def execute(self, context: TaskContext) -> int:
        """Send them all."""
        try:
            topics = context.services.need_outside().topics(self.kafka_conn_id, self.patience)
            # A run's later try ends what an earlier one, cut off, had begun; other runs have names of their own.
            identity = str(context["task_instance_key_str"])
            guarantee: Guarantee = "exactly-once" if self.transactional else "at-least-once"
            with closing(topics), closing(topics.writer(identity, guarantee)) as writer:
                count = send_all(
                    writer, self.topic, self._given(context), self.key, context.services.clock.now, self.place
                )
                writer.commit({})
        except TidemillError as error:
            error.where = error.where or self.place
            raise
        self.log.info("sent %d messages to %s", count, self.topic)
        return count

    def _given(self, context: TaskContext) -> Iterable[Any]:
        function = self.producer_function
        if function is None:
            return each(self.messages)
        given, named = self.producer_function_args, self.producer_function_kwargs
        return each(function(*given, **arguments_for(function, given, named, context)))
