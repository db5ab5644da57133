"""Apache Kafka for tests: brokers in KRaft mode on free loopback ports, in a folder that is thrown away.

The jars come from Maven Central once for each user. A broker can be killed and started again; it keeps its ports and
its data.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.programs import CannotStart, Program, free_port

VERSION = "4.1.1"
#: Other sessions look for free ports too, and may take one before a broker has it.
PORT_TRIES = 3
#: A cluster is known by an id of 16 bytes in base64; that of tests may be any.
_CLUSTER = "dGlkZW1pbGwtdGVzdHMtMQ"
#: Brokers of tests live for minutes, mostly at rest: the second compiler would cost more than its code ever saves, a
#: second of processor time at each start and a third of what one needs at rest.
_JAVA = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True, eq=False)
class Kafka:
    """A running cluster.

    Args:
        servers: `host:port` of each broker, with commas between them.
        brokers: the programs, in the order of their node ids from 1 on.
    """

    servers: str
    brokers: tuple[Program, ...]


@contextlib.contextmanager
def running(
    brokers: int = 1, settings: dict[str, str] | None = None, doors: Mapping[str, int] | None = None
) -> Iterator[Kafka]:
    """Start a cluster: one broker takes 2 s, three that share two cores 6. Raises CannotStart.

    Args:
        brokers: how many.
        settings: more of their settings.
        doors: further listeners of an only broker: protocol (`SASL_SSL` ...) and port.
    """
    java, libraries = _java(), _libraries()
    with tempfile.TemporaryDirectory(prefix="tidemill-kafka-") as folder:
        for attempt in range(PORT_TRIES):
            root = Path(folder, str(attempt))
            root.mkdir()
            nodes = _nodes(root, java, libraries, brokers, settings or {}, doors or {})
            try:
                _start(nodes)
            except CannotStart as error:
                if attempt + 1 < PORT_TRIES and "Address already in use" in str(error):
                    continue
                raise
            try:
                yield Kafka(",".join(f"127.0.0.1:{node.port}" for node in nodes), tuple(node.program for node in nodes))
            finally:
                for node in nodes:
                    node.program.kill()
            return


@dataclass(frozen=True, eq=False)
class _Node:
    port: int
    program: Program


def _nodes(
    root: Path, java: str, libraries: Path, count: int, settings: dict[str, str], doors: Mapping[str, int]
) -> list[_Node]:
    """Brokers that are also controllers, with their storage formatted."""
    ports = [(free_port(), free_port()) for _ in range(count)]
    voters = ",".join(f"{number}@127.0.0.1:{ports[number - 1][1]}" for number in range(1, count + 1))
    classes = ["-cp", f"{libraries}/*"]
    nodes, formatting = [], []
    for number, (port, controller) in enumerate(ports, 1):
        home = root / str(number)
        home.mkdir()
        file = home / "server.properties"
        options = _settings(number, port, controller, voters, count, home) | settings
        for protocol, door in doors.items():
            options["listeners"] += f",{protocol}://127.0.0.1:{door}"
            options["advertised.listeners"] += f",{protocol}://127.0.0.1:{door}"
            options["listener.security.protocol.map"] += f",{protocol}:{protocol}"
        file.write_text("".join(f"{name}={value}\n" for name, value in options.items()))
        quick = [java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *classes]
        with (home / "format.log").open("wb") as log:
            formatting.append(
                subprocess.Popen(
                    [*quick, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(file)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=home,
                )
            )
        command = [java, *_JAVA, *classes, "kafka.Kafka", str(file)]
        nodes.append(_Node(port, Program(f"Kafka {number}", command, home / "log", {}, _Answers(port))))
    for number, process in enumerate(formatting, 1):
        if process.wait(60):
            raise CannotStart(f"formatting failed: {(root / str(number) / 'format.log').read_text()[-2000:]}")
    return nodes


def _settings(number: int, port: int, controller: int, voters: str, count: int, home: Path) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(home / "data"),
        # Few threads: the machine has other things to do.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "log.cleaner.backoff.ms": "200",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": str(count),
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": str(count),
        "transaction.state.log.min.isr": str(min(count, 2)),
        "share.coordinator.state.topic.replication.factor": str(count),
        "share.coordinator.state.topic.min.isr": str(min(count, 2)),
        "default.replication.factor": str(count),
        "min.insync.replicas": str(min(count, 2)),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        # Sessions of tests may be short: what dies is to be missed in seconds.
        "group.min.session.timeout.ms": "1000",
        # A broker that was killed is out after two seconds instead of nine.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "controlled.shutdown.enable": "false",
        # No record of nothing each half second, for as long as the session lasts.
        "metadata.max.idle.interval.ms": "0",
    }


def _start(nodes: list[_Node]) -> None:
    """Start all, and wait for all: a quorum needs more than one."""
    failed: list[CannotStart] = []

    def start(node: _Node) -> None:
        try:
            node.program.start()
        except CannotStart as error:
            failed.append(error)

    threads = [threading.Thread(target=start, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        for node in nodes:
            node.program.kill()
        raise failed[0]


@dataclass(frozen=True)
class _Answers:
    """Asks a broker whether it can be used: it serves, and the cluster knows it."""

    port: int

    def __call__(self) -> None:
        from confluent_kafka.admin import AdminClient

        # A client that is refused tries again and again, and says so each time: it is made when somebody listens.
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": 0})
        known = client.list_topics(timeout=2).brokers.values()
        if self.port not in {broker.port for broker in known}:
            raise ConnectionError("the broker is not registered yet")


def _java() -> str:
    found = shutil.which("java")
    if found is None:
        raise CannotStart("no java on PATH (Debian: apt-get install openjdk-17-jre-headless)")
    return found


def _libraries() -> Path:
    """The folder of the jars; fetched by the first process that needs it, while others wait. Raises CannotStart."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tidemill-tests")
    ready = cache / f"kafka-{VERSION}"
    if ready.is_dir():
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.is_dir():
            _fetch(ready)
    return ready


def _fetch(ready: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise CannotStart("no mvn on PATH to fetch Kafka with (Debian: apt-get install maven)")
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=ready.parent) as folder:
        Path(folder, "pom.xml").write_text(_POM)
        jars = Path(folder, "jars")
        done = subprocess.run(
            [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
        if done.returncode or not any(jars.glob("kafka_*.jar")):
            raise CannotStart(f"mvn cannot fetch Kafka {VERSION}: {(done.stdout + done.stderr).strip()[-1000:]}")
        jars.rename(ready)
