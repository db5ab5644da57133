"""Promises of topics on Kafka that only brokers, other clients of theirs, or real processes can break.

What Kafka shares with the other adapters is in `test_topic.py` and `test_topic_groups.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from harness import kafka, services, warm
from harness.programs import CannotStart, Program, free_port
from harness.topics import Ledger, Peer, Place, kafka_place, read, settle, values
from tidemill.adapters.kafka.topics import KafkaTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.stream.loading import Loader
from tidemill.flow.stream.stretch import whole
from tidemill.model.errors import Fenced, SettingsError, TidemillError, Unreachable
from tidemill.model.stream import Guarantee
from tidemill.ports.topic import Member, Partition, Position, TopicSpec, Writer

CLOCK = SystemClock()
TASKS = 6
#: Topics, the only broker that they are of, and its address.
Own: TypeAlias = "tuple[Place, Program, str]"
SECRET = "hunter22-hunter22"

#: A process of a group, that takes part until it is killed.
MEMBER = """
import sys
from datetime import timedelta
from tidemill.adapters.kafka.topics import KafkaTopics

servers, group, tasks = sys.argv[1:]
member = KafkaTopics({"bootstrap.servers": servers}).member(group, int(tasks), session=timedelta(seconds=2))
told = 0
while True:
    member.poll(lambda tasks: None, lambda tasks: None, 0.05)
    if len(member.tasks) != told:
        told = len(member.tasks)
        print(told, flush=True)
"""

#: Members that share tasks are silent for longer than their sessions; then the collector finds them.
FORGOTTEN = """
import gc, sys, time
from datetime import timedelta
from tidemill.adapters.kafka.topics import KafkaTopics

servers, group = sys.argv[1:]
topics = KafkaTopics({"bootstrap.servers": servers})
members = [topics.member(group, 4, session=timedelta(seconds=2)) for _ in range(2)]
until = time.monotonic() + 60
while sum(len(one.tasks) for one in members) < 4 or not all(one.tasks for one in members):
    assert time.monotonic() < until
    for one in members:
        one.poll(lambda tasks: None, lambda tasks: None, 0.05)
members.append(topics.member(group, 4))
members[-1].poll(lambda tasks: None, lambda tasks: None, 0.01)
time.sleep(3)
members.append(members)
del members, one
gc.collect()
"""


@pytest.fixture
def place(kafka_topics: Place) -> Place:
    return kafka_topics


@pytest.fixture
def group() -> str:
    return f"g-{uuid.uuid4().hex[:12]}"


# -- transactions


def test_identities_are_kafkas_transactional_ids(place: Place, kafka_servers: str) -> None:
    """So any client of the same identity fences a writer, and only one of the same."""
    topic, identity = place.topic(), f"w-{uuid.uuid4().hex}"
    ours, other = place.writer("exactly-once", identity), place.writer("exactly-once")
    ours.send(topic, [b"lost"])
    other.send(topic, [b"kept"])
    theirs = Producer({"bootstrap.servers": kafka_servers, "transactional.id": identity, "log_level": 0})
    theirs.init_transactions(20)
    with pytest.raises(Fenced):
        ours.commit({})
    other.commit({})
    assert values(place, topic, 1) == [b"kept"]
    again = place.writer("exactly-once", identity)
    again.send(topic, [b"after"])
    theirs.begin_transaction()
    theirs.produce(topic, b"zombie")
    with pytest.raises(KafkaException):
        theirs.commit_transaction(20)
    again.commit({})
    assert values(place, topic, 2) == [b"kept", b"after"]


def test_aborted_messages_are_in_the_log_and_nobody_is_given_them(place: Place, kafka_servers: str) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    writer = place.writer("exactly-once")
    for values_sent, end in (([b"a"], writer.abort), ([b"b"], lambda: writer.commit({})), ([b"c"], writer.abort)):
        writer.send(topic, values_sent)
        writer.flush()
        end()
    assert raw(kafka_servers, topic, 3) == [b"a", b"b", b"c"]
    reader = place.reader({here: 0})
    found = read(place, reader, 1)[here]
    assert (found.values, found.offsets) == ([b"b"], [2]), "a, its marker, b"
    # What follows is a marker, an aborted message and its marker: whoever waits for the end does not wait for ever.
    place.until(lambda: not reader.read(10, 0.05) and reader.ends() == {here: 3})


def test_who_looks_into_a_topic_does_not_wait_for_a_transaction_that_is_open(place: Place) -> None:
    """Of a process that was killed, say: the broker gives it a minute to come back."""
    topic = place.topic()
    done, left_open = place.writer("exactly-once"), place.writer("exactly-once")
    done.send(topic, [b"a"])
    done.commit({})
    left_open.send(topic, [b"b"])
    left_open.flush()
    assert [value for found in whole(place.topics, place.clock, topic) for value in found.values] == [b"a"]
    left_open.commit({})
    assert [value for found in whole(place.topics, place.clock, topic) for value in found.values] == [b"a", b"b"]


def raw(servers: str, topic: str, many: int) -> list[bytes | None]:
    """What is in a partition, whatever became of it."""
    options = {"bootstrap.servers": servers, "group.id": "raw", "isolation.level": "read_uncommitted"}
    consumer = Consumer(options)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = consumer.consume(many, 20)
    consumer.close()
    return [message.value() for message in found]


# -- groups


def test_the_tasks_of_a_process_that_is_killed_move(place: Place, kafka_servers: str, group: str) -> None:
    peer = Peer(place, Ledger(), group, TASKS)
    settle(place, [peer], TASKS)
    command = [sys.executable, "-c", MEMBER, kafka_servers, group, str(TASKS)]
    with (
        Path(os.devnull).open() as nothing,
        warm.started(command, stdin=nothing, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            place.until(lambda: peer.poll() or len(peer.mine()) == TASKS // 2)
            assert process.stdout is not None
            assert process.stdout.readline() == f"{TASKS // 2}\n"
            peer.poll()
            kept = peer.mine()
        finally:
            process.send_signal(signal.SIGKILL)
    given_up: list[frozenset[int]] = []
    peer.last_act = given_up.append
    began = place.clock.monotonic()
    settle(place, [peer], TASKS)
    assert kept < peer.mine()
    assert not given_up, "those that it had were its own all the time"
    assert place.clock.monotonic() - began >= 1, "before the session's end they were another's"


def test_members_that_nobody_closed_do_not_keep_a_process(kafka_servers: str, group: str) -> None:
    """The client waits for its own callbacks when it is collected, and these for the interpreter, which it holds."""
    subprocess.run([sys.executable, "-c", FORGOTTEN, kafka_servers, group], check=True, timeout=120)


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_members_commit_while_others_come_and_go(place: Place, group: str, guarantee: Guarantee) -> None:
    """Tasks that nobody moves are worked on throughout, and only as many move as must.

    A transaction that meets the moment in which the group is shared anew is refused, as Kafka has it, and done again.
    """
    place.session = timedelta(seconds=10)
    topic, ledger = place.topic(TASKS), Ledger()
    stays = Peer(place, ledger, group, TASKS)
    settle(place, [stays], TASKS)
    writer = place.writer(guarantee)
    given_up: list[int] = []
    stays.last_act = given_up.extend
    commits = 0

    def work() -> None:
        nonlocal commits
        stays.poll()
        positions = {Partition(topic, task): Position(commits + 1) for task in stays.mine()}
        writer.send(topic, numbered(commits, commits + 1), partitions=min(stays.mine()))
        try:
            writer.commit(positions, stays.member)
        except Fenced:
            assert guarantee == "exactly-once"
            writer.abort()
        else:
            commits += 1

    with taking_part(place.topics.member(group, TASKS, session=place.session)) as other:
        place.until(lambda: work() or len(other.tasks) == TASKS // 2)
        assert len(given_up) == TASKS // 2
        assert not other.tasks & stays.mine()
    place.until(lambda: work() or len(stays.mine()) == TASKS)
    assert (len(given_up), ledger.moves) == (TASKS // 2, TASKS + TASKS // 2)
    done = commits
    place.until(lambda: work() or commits > done)
    everything = [Partition(topic, task) for task in range(TASKS)]
    assert place.topics.committed(group, everything) == dict.fromkeys(everything, Position(commits))
    found = read(place, place.reader(dict.fromkeys(everything, 0)), commits)
    sent = [value for one in found.values() for value in one.values]
    assert (len(sent), set(sent)) == (commits, set(numbered(0, commits)))


@contextmanager
def taking_part(member: Member) -> Iterator[Member]:
    """Another member, that takes part in a thread of its own, as a process would; it leaves at the end."""
    leaving = threading.Event()

    def run() -> None:
        while not leaving.is_set():
            member.poll(lambda tasks: None, lambda tasks: None, 0.05)
        member.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield member
    finally:
        leaving.set()
        thread.join()


# -- settings, secrets, and nobody there

#: What a user can do with topics first; each connects.
FIRST_STEPS: Mapping[str, Callable[[KafkaTopics], object]] = {
    "create": lambda topics: topics.create(TopicSpec("t")),
    "describe": lambda topics: topics.describe("t"),
    "names": lambda topics: topics.names(),
    "delete": lambda topics: topics.delete("t"),
    "at": lambda topics: topics.at("t", 0),
    "take": lambda topics: topics.reader().take({Partition("t", 0): 0}),
    "send": lambda topics: topics.writer("w").send("t", [b"a"]),
    "begin": lambda topics: topics.writer("w", "exactly-once"),
    "member": lambda topics: topics.member("g", 1),
    "committed": lambda topics: topics.committed("g", [Partition("t", 0)]),
    "reset": lambda topics: topics.reset("g", {Partition("t", 0): 0}),
}


@pytest.mark.parametrize("step", FIRST_STEPS)
def test_brokers_that_are_not_there_are_told_of_within_the_patience(step: str) -> None:
    options = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "sasl.username": "me", "sasl.password": SECRET}
    topics = KafkaTopics(options, patience=timedelta(seconds=0.5))
    began = CLOCK.monotonic()
    with pytest.raises(Unreachable) as raised, closing(topics):
        FIRST_STEPS[step](topics)
    assert CLOCK.monotonic() - began < 60
    assert options["bootstrap.servers"] in str(raised.value)
    assert SECRET not in everything_of(raised.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "Kafka has no address"),
        ({"bootstrap.servers": ""}, "Kafka has no address"),
        ({"sasl.pasword": SECRET}, 'No such configuration property: "sasl.pasword"'),
        ({"security.protocol": SECRET}, 'Invalid value for configuration property "security.protocol"'),
        ({"socket.timeout.ms": SECRET}, 'Invalid value for configuration property "socket.timeout.ms"'),
        ({"ssl.key.pem": SECRET, "security.protocol": "ssl"}, "ssl.key.pem"),
        ({"sasl.mechanism": SECRET, "security.protocol": "sasl_plaintext"}, "mechanism"),
    ],
)
@pytest.mark.parametrize("step", ["names", "take", "send", "begin", "member"])
def test_options_that_are_wrong_are_told_without_their_values(options: dict[str, str], told: str, step: str) -> None:
    address = {"bootstrap.servers": "127.0.0.1:9"} if options and "bootstrap.servers" not in options else {}
    with pytest.raises(SettingsError) as raised:
        FIRST_STEPS[step](KafkaTopics({**address, **options}, patience=timedelta(seconds=0.5)))
    assert told in str(raised.value)
    assert SECRET not in everything_of(raised.value)


@pytest.mark.parametrize("step", FIRST_STEPS)
def test_a_login_that_fails_shows_no_secret(kafka_servers: str, step: str) -> None:
    """The session's broker knows no logins, and hangs up on whoever tries."""
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "me"}
    options = {"bootstrap.servers": kafka_servers, **login, "sasl.password": SECRET}
    topics = KafkaTopics(options, patience=timedelta(seconds=0.5))
    with pytest.raises(TidemillError) as raised:
        FIRST_STEPS[step](topics)
    assert SECRET not in everything_of(raised.value)
    assert SECRET not in repr(topics)


def everything_of(error: BaseException) -> str:
    """What a log may show of an error, and of what led to it."""
    return "".join(traceback.format_exception(error)) + repr(error)


# -- a broker that is killed, and comes back


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """A cluster of one broker for the two tests that follow; the second one's end is that of the broker."""
    try:
        with kafka.running() as cluster, kafka_place(cluster.servers, 120) as made:
            made.session = timedelta(seconds=45)  # nobody polls while the broker starts
            yield made, cluster.brokers[0], cluster.servers
    except CannotStart as error:
        services.missing("Kafka", str(error))


def test_readers_writers_and_members_outlive_their_broker(own: Own) -> None:
    """Killed with messages on their way: afterwards each is there once, in order, and a transaction is whole."""
    place, broker, _ = own
    topic, careful = place.topic(), place.topic()
    here, there = Partition(topic, 0), Partition(careful, 0)
    peer = Peer(place, Ledger(), "g", 1)
    settle(place, [peer], 1)
    reader = place.reader({here: 0, there: 0})
    writers: dict[str, Writer] = {topic: place.writer(), careful: place.writer("exactly-once")}
    for name, writer in writers.items():
        writer.send(name, numbered(0, 1_000))
        writer.commit({})
    before = read(place, reader, 2_000)
    for name, writer in writers.items():
        writer.send(name, numbered(1_000, 3_000))
    broker.kill()
    given = {one.partition: list(one.values) for one in reader.read(5_000, 0.2)}  # of what came before the end
    broker.start()
    writers[topic].flush()
    positions = {here: Position(1_000), there: Position(1_000)}
    writers[careful].commit(positions, peer.member)
    after = read(place, reader, 4_000 - sum(map(len, given.values())))
    for one in (here, there):
        rest = after[one].values if one in after else []
        assert before[one].values + given.get(one, []) + rest == numbered(0, 3_000)
    settle(place, [peer], 1)
    assert place.topics.committed("g", [here, there]) == positions


def test_a_reader_and_a_writer_whose_broker_goes_for_good_are_told(own: Own) -> None:
    place, broker, servers = own
    topic = place.topic()
    hasty = KafkaTopics({"bootstrap.servers": servers}, patience=timedelta(seconds=2))
    writer, reader = hasty.writer("w"), hasty.reader()
    with closing(reader), closing(writer):
        writer.send(topic, [b"a"])
        writer.flush()
        reader.take({Partition(topic, 0): 0})
        read(place, reader, 1)
        broker.kill()
        began = CLOCK.monotonic()
        with pytest.raises(Unreachable):
            place.until(lambda: reader.read(10, 0.1))
        with pytest.raises(Unreachable):
            writer.send(topic, [b"b"])
            writer.flush()
        with pytest.raises(Unreachable):
            writer.commit({})
        assert CLOCK.monotonic() - began < 100


def numbered(start: int, end: int) -> list[bytes | None]:
    return [b"%d" % number for number in range(start, end)]


# -- compaction


def test_compaction_keeps_the_newest_of_each_key_and_no_tombstones(place: Place) -> None:
    quick = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}
    topic = place.topic(cleanup="compact", options=quick)
    here = Partition(topic, 0)
    place.send(topic, [b"1", b"1", b"2", b"2"], keys=[b"a", b"gone", b"a", b"b"])
    place.send(topic, [None], keys=[b"gone"])
    assert len(kept(place, here)) == 5

    def compacted() -> bool:
        # The newest segment is never compacted: a message later another one begins.
        place.send(topic, [b"filler"], keys=[b"filler"])
        return [pair for pair in kept(place, here) if pair[0] != b"filler"] == [(b"a", b"2"), (b"b", b"2")]

    place.until(compacted)
    late = place.reader({here: 0})
    assert late.lost() == {}, "what compaction removes is no loss"


def kept(place: Place, partition: Partition) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values of a partition from its beginning to its end, as one who begins now is given them."""
    reader = place.reader({partition: 0})
    end = reader.ends()[partition]
    found: list[tuple[bytes | None, bytes | None]] = []
    at = 0

    def step() -> bool:
        nonlocal at
        for one in reader.read(100, 0.1):
            found.extend(zip(one.keys, one.values, strict=True))
            at = one.offsets[-1] + 1
        return at >= end

    place.until(step)
    reader.close()
    return found


def test_what_is_loaded_ends_behind_the_markers_of_transactions(kafka_topics: Place) -> None:
    """Else the last one is told as a message that waits, as long as no other comes."""

    class Counting(Loader):
        upto = 0

        def begin(self) -> int:
            return self.upto

        def publish(self, rows: pl.DataFrame, first: int, after: int) -> None:
            self.upto = after

    place, topic = kafka_topics, kafka_topics.topic()
    writer = place.writer("exactly-once")
    writer.send(topic, [b"1", b"2"])
    writer.commit({})
    loader = Counting(
        "rows", place.topics, topic, lambda found: pl.DataFrame({"v": found}), CLOCK, timedelta(milliseconds=500)
    )
    place.until(lambda: loader.step(0.1) == 2, "for the rows")
    loader.stop()
    info = place.topics.describe(topic)
    assert info is not None
    assert loader.upto == info.end[0] == 3
