"""What schedulers and consumers say to each other through a broker, and the Celery application that both have.

    scheduler -> consumers   a Celery task in the queue of the job's: the job, and who wants it done
    consumer -> scheduler    taken    may I begin this job?
                             left     no answer came in time; I have not begun
                             event    it has started, or ended (told until it is seen)
    scheduler -> consumer    go, no   the answers
                             renew    these jobs may go on
                             stop     stop this job
                             seen     the end of this job is known
    consumer -> all          alive    its queues, its slots, and the jobs that it has

Celery brings jobs to consumers: it connects again, delivers again what a dead consumer had (`acks_late`), and a
consumer takes no more than it can begin. What it cannot give is that a job is begun once: brokers deliver twice, and
late. So nobody begins a job that the scheduler has not granted to him just then.

Nor are the machines' clocks compared. A consumer's messages carry its monotonic time; what the scheduler grants counts
from the last one that it has received, so that the consumer's lease ends before the scheduler's.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from tidemill.model.errors import SettingsError

#: The task's name.
TASK = "tidemill.perform"
#: Seconds after which a reply queue goes whose scheduler never came back (RabbitMQ).
_REPLIES_KEPT = 3600
#: Seconds after which Redis delivers again what was not acknowledged. Jobs may take long, and the scheduler notices
#: earlier than that what was lost.
_VISIBILITY = 12 * 3600

logging.getLogger("kombu").setLevel(logging.WARNING)


def make_app(url: str) -> Celery:
    """The Celery application for a broker.

    Raises:
        SettingsError: no such kind of broker.
    """
    kind = url.partition("://")[0]
    if kind not in ("amqp", "amqps", "pyamqp", "redis", "rediss"):
        raise SettingsError(
            f'"{kind}" is no broker that workers can be reached through.',
            hint="executor.url: amqp://user:password@host:5672// (RabbitMQ) or redis://:password@host:6379/0",
        )
    app = Celery("tidemill", broker=url, set_as_current=False)
    options: dict[str, Any] = {"socket_connect_timeout": 5, "visibility_timeout": _VISIBILITY}
    if kind.startswith(("amqp", "pyamqp")):
        options = {"confirm_publish": True, "confirm_timeout": 10, "read_timeout": 30, "write_timeout": 10}
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=5,
        broker_transport_options=options,
        task_acks_late=True,
        task_ignore_result=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        # It would wait for what was under way when the connection broke, before it takes anything else.
        worker_enable_prefetch_count_reduction=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


class Names:
    """What a project's queues are called in a broker that others may use too."""

    def __init__(self, project: str) -> None:
        self._prefix = f"tidemill.{project}"
        self.alive = Exchange(f"{self._prefix}.alive", type="fanout", durable=False)

    def jobs(self, queue: str) -> str:
        """A queue of tasks."""
        return f"{self._prefix}.jobs.{queue}"

    def replies(self, scheduler: str) -> Queue:
        """Where a scheduler hears; it stays while the scheduler has no connection."""
        return Queue(f"{self._prefix}.scheduler.{scheduler}", durable=True, expires=_REPLIES_KEPT)

    def signs(self, scheduler: str) -> Queue:
        """Where a scheduler hears that consumers live."""
        name = f"{self._prefix}.signs.{scheduler}"
        return Queue(name, exchange=self.alive, durable=False, exclusive=True, auto_delete=True)

    def orders(self, consumer: str) -> Queue:
        """Where a consumer hears; what was said while it had no connection is said again, or is no longer true."""
        return Queue(f"{self._prefix}.consumer.{consumer}", durable=False, exclusive=True, auto_delete=True)
