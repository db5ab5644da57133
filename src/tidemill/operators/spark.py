"""Spark applications as tasks: `spark-submit` in a process group of its own, its log in the task's."""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import RunFailed, SettingsError, UnknownName
from tidemill.operators.process import Program, code_text, told_environment

#: The xcom with the id under which the cluster knows the application.
APPLICATION = "application_id"
_LAST_LINES = 5
#: How YARN, standalone clusters, local masters and Kubernetes name what was submitted.
_IDS = re.compile(
    r"\b(application_\d+_\d+|app-\d{14}-\d{4}|local-\d{13}|driver-\d{14}-\d{4}|spark-application-\d+|spark-[0-9a-f]{32})\b"
)
#: Arguments of the operator that are options of `spark-submit`, by its words.
_OPTIONS = {
    "master": "--master",
    "deploy_mode": "--deploy-mode",
    "name": "--name",
    "java_class": "--class",
    "queue": "--queue",
    "jars": "--jars",
    "packages": "--packages",
    "repositories": "--repositories",
    "py_files": "--py-files",
    "files": "--files",
    "archives": "--archives",
    "properties_file": "--properties-file",
    "principal": "--principal",
    "keytab": "--keytab",
    "driver_memory": "--driver-memory",
    "driver_cores": "--driver-cores",
    "executor_memory": "--executor-memory",
    "executor_cores": "--executor-cores",
    "total_executor_cores": "--total-executor-cores",
    "num_executors": "--num-executors",
}


class SparkSubmitOperator(BaseOperator):
    """Submits an application by `spark-submit` and waits for its end. The application's id is what the task returns.

    Args:
        application: a `.py` or `.jar`, relative to the project, or an address that the cluster can read.
        application_args: its arguments; templates, as the application, conf and env_vars are.
        conf: settings of Spark. Values of names with `secret`, `password`, `token` in them are not logged.
        conn_id: a connection `spark://host:7077`, `yarn://`, `k8s://host:443`, `local://`; left out, what `master=`
            or Spark's own settings say. Its query: `?deploy-mode=cluster&queue=root`.
        spark_binary: the program; left out, that of SPARK_HOME, or the one in PATH.
        env_vars: for the program, beside the environment as it is here.
        submit_options: options of `spark-submit` by their words with `_`: `master`, `deploy_mode`, `java_class`,
            `jars`, `packages`, `py_files`, `files`, `driver_memory`, `executor_memory`, `executor_cores`,
            `num_executors` and so on; `spark_queue` is its `--queue`.
        verbose: its `--verbose`.
        options: those of every task.
    """

    kind = "spark"
    template_fields: Sequence[str] = ("application", "application_args", "conf", "env_vars", "submit")
    _program: Program | None = None

    def __init__(
        self,
        *,
        application: str,
        application_args: Sequence[Any] = (),
        conf: Mapping[str, Any] | None = None,
        conn_id: str | None = None,
        spark_binary: str | None = None,
        env_vars: Mapping[str, Any] | None = None,
        submit_options: Mapping[str, Any] | None = None,
        verbose: bool = False,
        **options: Any,
    ) -> None:
        # Airflow gives these by themselves; `queue` is that of the workers here as there.
        own = {word: options.pop(word) for word in _OPTIONS if word in options and word != "queue"}
        if "spark_queue" in options:
            own["queue"] = options.pop("spark_queue")
        super().__init__(**options)
        self.application = application
        self.application_args = list(application_args)
        self.conf = dict(conf or {})
        self.conn_id = conn_id
        self.spark_binary = spark_binary
        self.env_vars = dict(env_vars or {})
        self.submit = {**(submit_options or {}), **own}
        if unknown := [word for word in self.submit if word not in _OPTIONS]:
            raise UnknownName.of("option of spark-submit", unknown[0], _OPTIONS, where=self.place)
        self.verbose = verbose

    def execute(self, context: TaskContext) -> Any:
        """Submit it, and follow its log to its end."""
        command = self.command(context)
        self.log.info("%s", " ".join(_shown(command)))
        last: deque[str] = deque(maxlen=_LAST_LINES)
        found: list[str] = []

        def line(text: str) -> None:
            last.append(text)
            self.log.info("%s", text)
            if not found and (seen := _IDS.search(text)):
                found.append(seen[1])
                self.log.info("application %s", seen[1])

        environment = told_environment(os.environ, context["ti"])
        environment |= {str(name): str(value) for name, value in self.env_vars.items()}
        self._program = self._program or Program()
        try:
            code = self._program.run(command, context.services.root, environment, line)
        finally:
            if found:
                context["ti"].xcom_push(APPLICATION, found[0])
        if code:
            shown = "".join(f"\n    {text}" for text in last)
            raise RunFailed(
                f"spark-submit ended with {code_text(code)}.{shown}", where=self.place, hint="its log has all output"
            )
        return found[0] if found else None

    def command(self, context: TaskContext) -> list[str]:
        """The program and its arguments.

        Raises:
            SettingsError: there is no such program. UnknownName: there is no such connection.
        """
        options = {**self._connected(context), **self.submit}
        made = [self._binary()]
        for word, value in options.items():
            if value not in (None, "", ()):
                told = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
                made += [_OPTIONS[word], told]
        for name, value in self.conf.items():
            made += ["--conf", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        if self.verbose:
            made.append("--verbose")
        return [*made, self.application, *map(str, self.application_args)]

    def on_kill(self) -> None:
        """End the whole process group; an application in cluster mode goes on where it is."""
        self._program = self._program or Program()
        self._program.end()

    def _connected(self, context: TaskContext) -> dict[str, Any]:
        """Options that the connection tells."""
        if self.conn_id is None:
            return {}
        connections = context.services.connections
        found = connections.get(self.conn_id) if connections is not None else None
        if found is None:
            error = UnknownName.of("connection", self.conn_id, ())
            error.hint = f"set TIDEMILL_CONN_{self.conn_id.upper()}=spark://host:7077"
            raise error
        kind, host = found["conn_type"], found["host"]
        place = f"{host}:{found['port']}" if found["port"] else host
        masters = {"spark": f"spark://{place}", "k8s": f"k8s://https://{place}", "local": "local[*]"}
        made = {"master": masters.get(kind, kind)}
        return made | {name.replace("-", "_"): value for name, value in found["extra"].items() if _is_option(name)}

    def _binary(self) -> str:
        wanted = self.spark_binary or "spark-submit"
        home = os.environ.get("SPARK_HOME")
        path = os.pathsep.join(filter(None, [f"{home}/bin" if home else "", os.environ.get("PATH", "")]))
        found = shutil.which(wanted, path=path)
        if found is None:
            raise SettingsError(
                f'There is no program "{wanted}".', where=self.place, hint="set SPARK_HOME, or spark_binary="
            )
        return found


def _is_option(name: str) -> bool:
    return name.replace("-", "_") in _OPTIONS


def _shown(command: Sequence[str]) -> list[str]:
    """A command as logs may show it."""
    return [re.sub(r"(?i)^(\S*(?:secret|password|token)[^=]*=).*", r"\1***", word) for word in command]
