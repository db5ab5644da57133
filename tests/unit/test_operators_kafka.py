"""Messages of tasks: the forms in which they are given, what is sent of them, and mistakes. Over topics in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from harness.operating import Worker
from harness.reaching import Reaching
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.system.secrets import EnvironmentSecrets
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.instance import Succeeded
from tidemill.operators import KafkaProduceOperator
from tidemill.operators.messages import as_bytes
from tidemill.ports.topic import Partition, TopicSpec
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import ProjectConnections, ProjectSecrets, secret_values


class Sending(Worker):
    """A worker whose only system outside is a broker in memory, with a topic `orders` of three partitions."""

    def __init__(self, root):
        super().__init__(root)
        self.broker = MemoryTopics(self.clock)
        self.broker.create(TopicSpec("orders", 3))
        self.services = replace(self.services, outside=self)

    def topics(self, connection, patience):
        assert (connection, patience) == ("kafka_default", timedelta(seconds=30))
        return self.broker

    def send(self, **given):
        """Send by a task; gives how it ended."""
        task = f"t{len(self.dag.tasks)}"
        KafkaProduceOperator(task_id=task, topic="orders", **given)
        return self(task)

    def sent(self):
        """What is in the topic: key, value, headers, time, by partition, in order."""
        reader = self.broker.reader()
        reader.take({Partition("orders", number): 0 for number in range(3)})
        found = {}
        for one in reader.read(100_000, 0):
            headers = one.headers or [()] * len(one)
            found[one.partition.number] = list(
                zip(one.keys, one.values, map(list, headers), one.timestamps, strict=True)
            )
        return found

    def values(self):
        return sorted((value for one in self.sent().values() for _, value, _, _ in one), key=str)


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Sending(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def test_values_pairs_and_dictionaries_are_sent_and_counted(worker):
    """Pairs have keys, dictionaries may have all that a message has, other values are themselves."""
    given = [
        "plain {{ ds }}", ("key", "pair"), {"value": {"n": 1}, "key": b"\x00", "headers": {"h": "x", "none": None}},
        {"n": 2}, [1, "two"], 3, b"\xff",
    ]  # fmt: skip
    assert worker.send(messages=given) == Succeeded()
    assert worker.value("t0") == "7"
    all_sent = [one[:3] for part in worker.sent().values() for one in part]
    expected = [
        (None, b"plain 2026-01-15", []), (b"key", b"pair", []), (b"\x00", b'{"n":1}', [("h", b"x"), ("none", None)]),
        (None, b'{"n":2}', []), (None, b'[1,"two"]', []), (None, b"3", []), (None, b"\xff", []),
    ]  # fmt: skip
    assert sorted(all_sent, key=str) == sorted(expected, key=str)


def test_partitions_and_times_may_be_given_to_some_messages_and_their_order_stays(worker):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    given = [
        {"value": "a", "partition": 1, "timestamp": 5}, {"value": "b", "partition": 1},
        {"value": "c", "partition": 1, "timestamp": moment}, {"value": "d", "key": "k"},
        {"value": "e", "partition": 1},
    ]  # fmt: skip
    worker.send(messages=given)
    now = int(worker.clock.now().timestamp() * 1000)
    at = [(value, time) for _, value, _, time in worker.sent()[1] if value != b"d"]
    assert at == [(b"a", 5), (b"b", now), (b"c", int(moment.timestamp() * 1000)), (b"e", now)]
    assert b"d" in worker.values()


def test_a_function_yields_messages_and_gets_variables_of_the_run(worker):
    def orders(first, ds, *, last):
        yield f"{first} {ds}"
        for number in range(2, last):
            yield {"n": number}

    worker.send(
        producer_function=orders,
        producer_function_args=["{{ ds_nodash }}"],
        producer_function_kwargs={"last": 3_000},
    )
    assert worker.value("t0") == "2999"
    found = worker.values()
    assert (found[0], len(found)) == (b"20260115 2026-01-15", 2_999)


@pytest.mark.parametrize("given", ["one", b"one", (None, "one"), {"value": "one"}])
def test_one_message_needs_no_list(worker, given):
    worker.send(messages=given)
    assert worker.values() == [b"one"]


def test_what_another_task_returned_is_data_and_no_template(worker):
    worker.xcoms.put(7, "before", -1, [("return_value", '["{{ ds }}"]')])
    from tidemill.operators import PythonOperator

    before = PythonOperator(task_id="before", python_callable=lambda: None)
    worker.send(messages=before.output)
    assert worker.values() == [b"{{ ds }}"]


@pytest.mark.parametrize("key", ["{{ ds }}", lambda value: value["day"]])
def test_messages_without_a_key_get_the_tasks(worker, key):
    worker.send(messages=[{"day": "2026-01-15"}, ("own", {"day": "x"})], key=key)
    keys = [key for part in worker.sent().values() for key, *_ in part]
    assert sorted(keys) == [b"2026-01-15", b"own"]


def test_nothing_to_send_is_no_failure(worker):
    assert worker.send(messages=[]) == Succeeded()
    assert worker.send(producer_function=lambda: None) == Succeeded()
    assert worker.values() == []


def test_values_are_sent_as_streams_write_them():
    row = {
        "at": datetime(2026, 1, 1, tzinfo=UTC), "day": date(2026, 1, 1), "price": Decimal("1.50"), "raw": b"\x00",
        "id": UUID(int=1), "name": "é", "local": datetime(2026, 1, 1),
    }  # fmt: skip
    assert as_bytes(row, "here").decode() == (
        '{"at":"2026-01-01T00:00:00Z","day":"2026-01-01","price":"1.50","raw":"AA==",'
        '"id":"00000000-0000-0000-0000-000000000001","name":"é","local":"2026-01-01T00:00:00"}'
    )
    assert as_bytes(None, "here") is None, "a tombstone"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (("a", "b", "c"), "A tuple of 3 is no message"),
        ({"value": 1, "key": "a", "header": {}}, 'A message has no "header"'),
        ({"value": 1, "partition": "2"}, "'2' is no partition"),
        ({"value": 1, "timestamp": "now"}, "'now' is no time of a message"),
        ({"value": 1, "timestamp": datetime(2026, 1, 1)}, "with a time zone"),
        ({"value": 1, "headers": "x"}, "'x' are no headers"),
        (object, "type type cannot be JSON"),
        ({"n": float("nan")}, "cannot be JSON"),
    ],
)
def test_a_message_that_cannot_be_sent_is_told_with_its_number(worker, message, told):
    error = worker.send(messages=["good", message]).error
    assert told in error
    assert "message 2" in error
    assert __file__.rpartition("/")[2] in error
    assert worker.values() == [], "nothing of those that are checked together is sent"


def test_a_value_that_looks_like_no_message_is_one_in_itself(worker):
    worker.send(messages=[{"value": 1, "unit": "m"}])
    assert worker.values() == [b'{"value":1,"unit":"m"}']


@pytest.mark.parametrize("given", [{"messages": ["sent", ("a", object)]}, {"producer_function": lambda: breaking()}])
def test_a_transaction_that_fails_leaves_nothing(worker, given):
    assert worker.send(transactional=True, **given).error
    assert worker.values() == []
    assert worker.send(transactional=True, messages=["a", "b"]) == Succeeded()
    assert worker.values() == [b"a", b"b"]


def breaking():
    yield from (str(number) for number in range(1_500))
    raise RuntimeError("broken")


def test_mistakes_are_told_where_they_are_made(worker):
    for given in ({}, {"messages": ["a"], "producer_function": breaking}):
        with pytest.raises(DefinitionError, match="either messages, or what a function yields"):
            KafkaProduceOperator(task_id="wrong", topic="orders", **given)
    with pytest.raises(DefinitionError, match="which is no function"):
        KafkaProduceOperator(task_id="call", topic="orders", producer_function="mod.f")
    with pytest.raises(UnknownName, match="kafka_con_id"):
        KafkaProduceOperator(task_id="name", topic="orders", messages=["a"], kafka_con_id="x")
    KafkaProduceOperator(task_id="nowhere", topic="order", messages=["a"])
    assert 'no topic "order"' in worker("nowhere").error


@pytest.fixture
def reaching(tmp_path):
    registry.clear()
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def test_a_connection_that_leads_nowhere_is_told(reaching, monkeypatch):
    monkeypatch.setenv("TIDEMILL_CONN_WEB", "http://host")
    monkeypatch.setenv("TIDEMILL_CONN_EMPTY", "kafka://")
    told = {
        "kafka_default": "set TIDEMILL_CONN_KAFKA_DEFAULT=kafka://",
        "web": 'is of kind "http"',
        "empty": "Kafka has no address",
    }
    for name, text in told.items():
        KafkaProduceOperator(task_id=name, topic="orders", messages=["a"], kafka_conn_id=name)
        assert text in reaching(name).error


def test_without_its_client_what_to_install_is_told(reaching, monkeypatch):
    monkeypatch.setenv("TIDEMILL_CONN_KAFKA_DEFAULT", "kafka://host:9092")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Exception, match="not installed") as raised:
        OutsideSystems(ProjectConnections(ProjectSecrets([EnvironmentSecrets()])), reaching.services.root).topics(
            "kafka_default", timedelta(seconds=1)
        )
    assert 'pip install "tidemill[kafka]"' in str(raised.value)


def test_a_connection_may_name_several_servers(monkeypatch):
    url = "kafka://me:se%20cret@One:9092,two:9092?sasl.mechanism=SCRAM-SHA-512&ssl.key.password=key-word"
    monkeypatch.setenv("TIDEMILL_CONN_EVENTS", url)
    found = ProjectConnections(ProjectSecrets([EnvironmentSecrets()])).get("events")
    assert (found["host"], found["port"]) == ("One:9092,two:9092", None)
    assert (found["login"], found["password"]) == ("me", "se cret")
    assert found["extra"] == {"sasl.mechanism": "SCRAM-SHA-512", "ssl.key.password": "key-word"}
    assert secret_values({"TIDEMILL_CONN_EVENTS": url}) == [url, "se cret", "se%20cret", "key-word"]
