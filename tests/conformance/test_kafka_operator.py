"""`KafkaProduceOperator` with the session's Kafka: what arrives, what failed tries leave, and absent brokers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.programs import free_port
from harness.reaching import Reaching
from harness.topics import Place, values
from tidemill.authoring import registry
from tidemill.model.instance import Failed, Succeeded
from tidemill.operators import KafkaProduceOperator
from tidemill.ports.topic import Partition


@pytest.fixture
def worker(tmp_path: Path, kafka_servers: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reaching]:
    registry.clear()
    monkeypatch.setenv("TIDEMILL_CONN_KAFKA_DEFAULT", f"kafka://{kafka_servers}?linger.ms=1")
    monkeypatch.setenv("TIDEMILL_CONN_BOTH", f"kafka://127.0.0.1:{free_port()},{kafka_servers}")
    made = Reaching(tmp_path)
    # The names of runs are those of transactions, and several tests share the broker.
    made.dag.name = f"d{uuid.uuid4().hex[:8]}"
    with made.dag:
        yield made
    registry.clear()


def test_everything_is_there_when_the_task_ends(worker: Reaching, kafka_topics: Place) -> None:
    topic = kafka_topics.topic()
    KafkaProduceOperator(
        task_id="send", topic=topic, producer_function=lambda ds: (("k", {"day": ds, "n": n}) for n in range(2_500))
    )
    assert worker("send") == Succeeded()
    assert worker.plain("send") == 2_500
    info = kafka_topics.topics.describe(topic)
    assert info is not None
    assert info.end == (2_500,)
    found = values(kafka_topics, topic, 2_500)
    assert (found[0], found[-1]) == (b'{"day":"2026-01-15","n":0}', b'{"day":"2026-01-15","n":2499}')


def test_all_that_a_message_may_have_arrives(worker: Reaching, kafka_topics: Place) -> None:
    topic = kafka_topics.topic(3)
    message = {"value": None, "key": "k", "headers": {"h": "x"}, "partition": 2, "timestamp": 1_700_000_000_000}
    KafkaProduceOperator(task_id="send", topic=topic, messages=[message], kafka_conn_id="both")
    assert worker("send") == Succeeded(), "one of the connection's servers is enough"
    reader = kafka_topics.reader({Partition(topic, 2): 0})
    [found] = reader.read(10, 20)
    assert (found.keys, found.values, found.timestamps) == ([b"k"], [None], [1_700_000_000_000])
    assert found.headers is not None
    assert list(found.headers[0]) == [("h", b"x")]


def test_a_transaction_of_a_failed_try_is_never_seen_and_the_next_try_sends_all(
    worker: Reaching, kafka_topics: Place
) -> None:
    topic, tries = kafka_topics.topic(), iter([True, False])

    def orders() -> Iterator[str]:
        yield from (str(number) for number in range(1_200))
        if next(tries):
            raise ConnectionError("the source broke off")

    KafkaProduceOperator(task_id="send", topic=topic, producer_function=orders, transactional=True, retries=1)
    assert isinstance(worker("send"), Failed)
    assert worker("send", failed=1) == Succeeded()
    assert values(kafka_topics, topic, 1_200) == [b"%d" % number for number in range(1_200)]


def test_brokers_that_do_not_answer_fail_the_try_and_it_may_be_tried_again(
    worker: Reaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_AWAY", f"kafka://me:hunter22@127.0.0.1:{free_port()}")
    KafkaProduceOperator(task_id="away", topic="t", messages=["a"], kafka_conn_id="away", timeout=1, retries=1)
    ended = worker("away")
    assert isinstance(ended, Failed)
    assert ended.again
    assert "are the brokers up" in ended.error
    assert "hunter22" not in ended.error


def test_settings_that_the_client_does_not_know_and_unknown_topics_are_told(
    worker: Reaching, kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_WRONG", f"kafka://{kafka_servers}?lingering.ms=hunter22")
    KafkaProduceOperator(task_id="wrong", topic="t", messages=["a"], kafka_conn_id="wrong")
    KafkaProduceOperator(task_id="nowhere", topic="nowhere", messages=["a"])
    wrong = worker("wrong")
    assert isinstance(wrong, Failed)
    assert 'No such configuration property: "lingering.ms"' in wrong.error
    assert "hunter22" not in wrong.error
    nowhere = worker("nowhere")
    assert isinstance(nowhere, Failed)
    assert 'no topic "nowhere"' in nowhere.error
