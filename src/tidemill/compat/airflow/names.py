"""Which module of Airflow serves which names here, and where each is: `module -> name -> "our.module:name"`.

Modules of Airflow 2 and 3, of the standard provider and of its bridge to both are there.
"""

from __future__ import annotations

_OWN = "tidemill.compat.airflow"


def _of(module: str, *names: str) -> dict[str, str]:
    """Names by where they are; `Theirs=ours` for one that is called otherwise here."""
    made = {}
    for one in names:
        theirs, _, ours = one.partition("=")
        made[theirs] = f"{module}:{ours or theirs}"
    return made


_EDGES = _of("tidemill.authoring.edges", "Label", "chain", "cross_downstream")
_LINEAR = _of(f"{_OWN}.edges", "chain_linear")
_BASE = _of(f"{_OWN}.task", "BaseOperator")
_BRANCH = _of(f"{_OWN}.task", "BaseBranchOperator")
_DAG = _of(f"{_OWN}.dag", "DAG", "dag")
_GROUP = _of(f"{_OWN}.dag", "TaskGroup")
_PARAM = _of(f"{_OWN}.dag", "Param")
_XCOM_ARG = _of("tidemill.authoring.xcom_arg", "XComArg=PlainArg")
_RULE = _of("tidemill.model.graph", "TriggerRule")
_CONTEXT = _of("tidemill.authoring.task_context", "get_current_context")
_TASK = _of(f"{_OWN}.operators", "task")
_DECORATORS = {
    **_of(f"{_OWN}.dag", "dag", "task_group"),
    **_TASK,
    **_of("tidemill.authoring.decorators", "setup", "teardown"),
}
_EXCEPTIONS = _of(
    f"{_OWN}.exceptions",
    "AirflowException", "AirflowSkipException", "AirflowFailException", "AirflowSensorTimeout", "AirflowTaskTimeout",
    "AirflowNotFoundException", "AirflowConfigException", "AirflowBadRequest", "DagNotFound",
    "AirflowOptionalProviderFeatureException", "AirflowProviderDeprecationWarning",
)  # fmt: skip
_DEFERRED = _of(f"{_OWN}.deferring", "TaskDeferred", "TaskDeferralError", "TaskDeferralTimeout")
_EXCEPTIONS |= _DEFERRED
_ASSETS = _of(
    f"{_OWN}.assets", "Asset", "AssetAlias", "AssetAll", "AssetAny", "AssetAccessControl"
)  # fmt: skip
_WATCHER = _of(f"{_OWN}.watching", "AssetWatcher")
_METADATA = _of(f"{_OWN}.events", "Metadata")
_ASSET_DAG = _of(f"{_OWN}.asset_dags", "asset")
_DATASETS = _of(
    f"{_OWN}.assets", "Dataset=Asset", "DatasetAlias=AssetAlias", "DatasetAll=AssetAll", "DatasetAny=AssetAny"
)  # fmt: skip
_CRON = _of(
    f"{_OWN}.timetables", "CronTriggerTimetable=CronTimetable", "DeltaTriggerTimetable=DeltaTimetable",
    "MultipleCronTriggerTimetable=CronsTimetable",
)  # fmt: skip
_INTERVALS = _of(
    f"{_OWN}.timetables", "CronDataIntervalTimetable=CronTimetable", "DeltaDataIntervalTimetable=DeltaTimetable"
)  # fmt: skip
_EVENTS = _of(f"{_OWN}.timetables", "EventsTimetable")
_MAPPERS = _of(
    f"{_OWN}.partitions", "AllowedKeyMapper", "ChainMapper", "DayWindow", "FanOutMapper", "FixedKeyMapper",
    "HourWindow", "IdentityMapper", "MinimumCount", "MonthWindow", "ProductMapper", "QuarterWindow", "RollupMapper",
    "SegmentWindow", "StartOfDayMapper", "StartOfHourMapper", "StartOfMonthMapper", "StartOfQuarterMapper",
    "StartOfWeekMapper", "StartOfYearMapper", "WaitForAll", "WeekWindow", "Window", "YearWindow",
)  # fmt: skip
_PARTITIONED = _of(
    f"{_OWN}.timetables", "CronPartitionTimetable", "PartitionedAssetTimetable", "PartitionedAtRuntime"
)  # fmt: skip
_DEADLINES = _of(
    f"{_OWN}.deadlines", "AsyncCallback=Callback", "DeadlineAlert", "DeadlineReference", "SyncCallback=Callback"
)  # fmt: skip
_OR_TIME = _of(f"{_OWN}.timetables", "AssetOrTimeSchedule")
_STATES = _of(f"{_OWN}.values", "TaskInstanceState", "DagRunState")
_WEEKDAY = _of(f"{_OWN}.values", "WeekDay")
_NOTIFIER = _of(f"{_OWN}.values", "BaseNotifier")
_MOMENTS = _of(f"{_OWN}.moments", "utc", "utcnow", "datetime", "parse", "make_aware", "is_localized")
#: A module as a name of another one.
_TIMEZONE = {"timezone": f"{_OWN}.moments:"}
_CONNECTION = _of(f"{_OWN}.connections", "Connection")
_VARIABLE = _of(f"{_OWN}.connections", "Variable")
_HOOK = _of(f"{_OWN}.connections", "BaseHook")
#: What packages of providers ask for.
_PROVIDERS = f"{_OWN}.providers"
_NOTSET = _of(_PROVIDERS, "NOTSET", "ArgNotSet", "SET_DURING_EXECUTION", "is_arg_set")
_DECORATED = {
    **_of(f"{_OWN}.decorated", "DecoratedOperator", "task_decorator_factory"), **_of("typing", "TaskDecorator=Any"),
}  # fmt: skip
_PLUGIN = _of(f"{_OWN}.plugins", "AirflowPlugin")
_HOOKIMPL = _of(f"{_OWN}.listeners", "hookimpl")
_MERGE = _of(f"{_OWN}.decorated", "context_merge")
_MASK = _of(_PROVIDERS, "mask_secret")
_LOADING = _of(_PROVIDERS, "import_string", "iter_namespace", "qualname")
_MANAGER = _of(_PROVIDERS, "ProvidersManager")
_DETERMINE = _of(_PROVIDERS, "determine_kwargs")
_LINK = _of(_PROVIDERS, "BaseOperatorLink")
_TRIGGER = _of(f"{_OWN}.deferring", "BaseTrigger", "BaseEventTrigger=BaseTrigger", "TriggerEvent")
_MOMENT_TRIGGERS = _of(f"{_OWN}.deferring", "DateTimeTrigger", "TimeDeltaTrigger")
_RETRIES = _of(
    f"{_OWN}.retries", "ExceptionRetryPolicy", "RetryAction", "RetryDecision", "RetryPolicy", "RetryRule"
)  # fmt: skip
_HELPERS = _of(_PROVIDERS, "merge_dicts", "exactly_one", "at_most_one", "chunks", "prune_dict")
_LOGGING = _of(f"{_OWN}.connections", "LoggingMixin")
_LINEAGE = _of(_PROVIDERS, "get_hook_lineage_collector")
_SENSOR = {**_of(f"{_OWN}.sensors", "BaseSensorOperator"), **_of("tidemill.operators.sensors", "PokeReturnValue")}
#: Rows of Airflow's database, of which some have a meaning without it.
_ROWS = f"{_OWN}.models"
_MODELS = _of(_ROWS, "DagRun", "Pool", "TaskInstance", "XCom")
_XCOM_KEY = _of("tidemill.ports.xcoms", "XCOM_RETURN_KEY=RETURNED")
#: Names that stand in annotations alone.
_TYPES = _of("typing", "Context=Any")
_STORAGE = _of(f"{_OWN}.storage", "ObjectStoragePath")
_PARSING = _of(f"{_OWN}.values", "AirflowParsingContext", "get_parsing_context")
_LITERAL = _of("tidemill.plan.fields", "literal=Literal", "LiteralValue=Literal")

_SDK = {
    **_DAG, **_DECORATORS, **_BASE, **_BRANCH, **_GROUP, **_EDGES, **_LINEAR, **_PARAM, **_XCOM_ARG, **_RULE,
    **_CONTEXT, **_ASSETS, **_CRON, **_INTERVALS, **_EVENTS, **_OR_TIME, **_STATES, **_NOTIFIER, **_SENSOR, **_TYPES,
    **_TIMEZONE, **_CONNECTION, **_VARIABLE, **_HOOK, **_of(f"{_OWN}.values", "WeightRule",),
    **_METADATA, **_ASSET_DAG, **_WATCHER, **_DEADLINES, **_STORAGE, **_RETRIES, **_MAPPERS, **_PARTITIONED,
    **_PARSING, **_LITERAL, **_LINK, **_of(f"{_OWN}.values", "conf"), **_of(_PROVIDERS, "SkipMixin"),
    **_of("typing", "TaskInstance=Any", "BaseXCom=Any"),
}  # fmt: skip

_PYTHON = {
    **_of(
        f"{_OWN}.operators", "PythonOperator", "BranchPythonOperator", "ShortCircuitOperator",
        "PythonVirtualenvOperator", "BranchPythonVirtualenvOperator", "ExternalPythonOperator",
        "BranchExternalPythonOperator",
    ),
    **_CONTEXT,
}  # fmt: skip
_OPERATORS = {
    "bash": _of(f"{_OWN}.operators", "BashOperator"),
    "branch": _BRANCH,
    "datetime": _of(f"{_OWN}.operators", "BranchDateTimeOperator"),
    "email": _of(f"{_OWN}.operators", "EmailOperator"),
    "empty": _of(f"{_OWN}.operators", "EmptyOperator"),
    "hitl": _of(f"{_OWN}.hitl", "ApprovalOperator", "HITLBranchOperator", "HITLEntryOperator", "HITLOperator"),
    "latest_only": _of(f"{_OWN}.operators", "LatestOnlyOperator"),
    "python": _PYTHON,
    "trigger_dagrun": _of(f"{_OWN}.operators", "TriggerDagRunOperator"),
    "weekday": _of(f"{_OWN}.operators", "BranchDayOfWeekOperator"),
}
_EXTERNAL = _of(f"{_OWN}.sensors", "ExternalTaskSensor", "ExternalTaskMarker")
_SENSORS = {
    "bash": _of(f"{_OWN}.sensors", "BashSensor"),
    "date_time": _of(f"{_OWN}.sensors", "DateTimeSensor", "DateTimeSensorAsync=DateTimeSensor"),
    "external_task": _EXTERNAL,
    "filesystem": _of(f"{_OWN}.sensors", "FileSensor"),
    "python": _of(f"{_OWN}.sensors", "PythonSensor"),
    "time": _of(f"{_OWN}.sensors", "TimeSensor", "TimeSensorAsync=TimeSensor"),
    "time_delta": _of(
        f"{_OWN}.sensors", "TimeDeltaSensor", "TimeDeltaSensorAsync=TimeDeltaSensor", "WaitSensor"
    ),
    "weekday": _of(f"{_OWN}.sensors", "DayOfWeekSensor"),
}  # fmt: skip
_HOOKS = {
    "filesystem": _of(f"{_OWN}.hooks", "FSHook"),
    "package_index": _of(f"{_OWN}.hooks", "PackageIndexHook"),
    "subprocess": _of(f"{_OWN}.hooks", "SubprocessHook", "SubprocessResult"),
}
_STANDARD = "airflow.providers.standard"
_DUMMY = _of(f"{_OWN}.operators", "DummyOperator=EmptyOperator")
#: Modules of before Airflow 2, which it kept until 3.
_OLD = {
    "operators.bash_operator": _OPERATORS["bash"],
    "operators.branch_operator": _BRANCH,
    "operators.dagrun_operator": _OPERATORS["trigger_dagrun"],
    "operators.dummy_operator": _DUMMY,
    "operators.email_operator": _OPERATORS["email"],
    "operators.latest_only_operator": _OPERATORS["latest_only"],
    "operators.python_operator": _PYTHON,
    "sensors.base_sensor_operator": _SENSOR,
    "sensors.external_task_sensor": _EXTERNAL,
}

SERVED: dict[str, dict[str, str]] = {
    "airflow": {
        **_of(_PROVIDERS, "__version__=VERSION"), **_of(f"{_OWN}.dag", "DAG"), **_ASSETS,
        **_of("tidemill.authoring.xcom_arg", "XComArg=PlainArg"), **_of(f"{_OWN}.exceptions", "AirflowException"),
    },
    "airflow.sdk": _SDK,
    "airflow.sdk.exceptions": _EXCEPTIONS,
    "airflow.sdk.bases.hook": _HOOK,
    "airflow.sdk.bases.notifier": _NOTIFIER,
    "airflow.sdk.bases.operator": {**_BASE, **_EDGES, **_LINEAR},
    "airflow.sdk.bases.sensor": _SENSOR,
    "airflow.sdk.definitions.asset": {**_ASSETS, **_WATCHER},
    "airflow.sdk.definitions.asset.decorators": _ASSET_DAG,
    "airflow.sdk.definitions.asset.metadata": _METADATA,
    "airflow.sdk.execution_time.context": _of(f"{_OWN}.states", "NEVER_EXPIRE"),
    "airflow.sdk.definitions.connection": _CONNECTION,
    "airflow.sdk.definitions.variable": _VARIABLE,
    "airflow.sdk.definitions.context": {**_CONTEXT, **_TYPES, **_MERGE},
    "airflow.sdk.definitions.callback": _DEADLINES,
    "airflow.sdk.definitions.dag": _DAG,
    "airflow.sdk.definitions.deadline": _DEADLINES,
    "airflow.sdk.definitions.edges": _of("tidemill.authoring.edges", "Label"),
    "airflow.sdk.definitions.param": _PARAM,
    "airflow.sdk.definitions.taskgroup": _GROUP,
    "airflow.sdk.execution_time.task_runner": _of("typing", "RuntimeTaskInstance=Any"),
    "airflow.sdk.timezone": _MOMENTS,
    "airflow.models": {
        **_of(f"{_OWN}.dag", "DAG"), **_BASE, **_PARAM, **_XCOM_ARG, **_CONNECTION, **_VARIABLE,
        **_MODELS,
    },
    "airflow.models.abstractoperator": _of("typing", "AbstractOperator=Any"),
    "airflow.models.baseoperator": {**_BASE, **_EDGES, **_LINEAR},
    "airflow.models.connection": _CONNECTION,
    "airflow.models.variable": _VARIABLE,
    "airflow.hooks.base": _HOOK,
    "airflow.hooks.base_hook": _HOOK,
    "airflow.models.dag": _DAG,
    "airflow.models.dagrun": _of(_ROWS, "DagRun"),
    "airflow.models.param": _PARAM,
    "airflow.models.pool": _of(_ROWS, "Pool"),
    "airflow.models.taskinstance": _of(_ROWS, "TaskInstance"),
    "airflow.models.xcom": {**_of(_ROWS, "XCom"), **_XCOM_KEY},
    "airflow.utils.xcom": _XCOM_KEY,
    "airflow.models.xcom_arg": _XCOM_ARG,
    "airflow.decorators": _DECORATORS,
    "airflow.decorators.base": {**_TASK, **_DECORATED},
    "airflow.sdk.bases.decorator": _DECORATED,
    "airflow.exceptions": _EXCEPTIONS,
    "airflow.assets": {**_ASSETS},
    "airflow.datasets": {**_DATASETS},
    "airflow.datasets.metadata": _METADATA,
    "airflow.configuration": _of(f"{_OWN}.values", "conf"),
    "airflow.notifications.basenotifier": _NOTIFIER,
    "airflow.listeners": _HOOKIMPL,
    "airflow.listeners.types": _of(f"{_OWN}.events", "AssetEvent"),
    "airflow.plugins_manager": _PLUGIN,
    "airflow.sdk.plugins_manager": _PLUGIN,
    "airflow.settings": _of(f"{_OWN}.settings", "AIRFLOW_HOME", "DAGS_FOLDER", "PLUGINS_FOLDER", "TIMEZONE"),
    "airflow.stats": _of(f"{_OWN}.stats", "Stats"),
    "airflow.utils.email": _of(f"{_OWN}.hooks", "send_email"),
    "airflow.task.priority_strategy": _of(f"{_OWN}.values", "PriorityWeightStrategy"),
    "airflow.task.trigger_rule": _RULE,
    "airflow.task.weight_rule": _of(f"{_OWN}.values", "WeightRule"),
    "airflow.timetables.base": _of(
        f"{_OWN}.timetables", "DagRunInfo", "DataInterval", "TimeRestriction", "Timetable"
    ),
    "airflow.timetables.assets": _OR_TIME,
    "airflow.timetables.datasets": _of(f"{_OWN}.timetables", "DatasetOrTimeSchedule=AssetOrTimeSchedule"),
    "airflow.timetables.events": _EVENTS,
    "airflow.timetables.interval": _INTERVALS,
    "airflow.timetables.simple": _of(
        f"{_OWN}.timetables", "ContinuousTimetable", "NullTimetable", "OnceTimetable"
    ),
    "airflow.timetables.trigger": _CRON,
    "airflow.utils.context": {**_TYPES, **_MERGE},
    "airflow.utils.decorators": _of(f"{_OWN}.values", "apply_defaults"),
    "airflow.utils.dates": _of(f"{_OWN}.moments", "days_ago"),
    "airflow.utils.dag_parsing_context": _PARSING,
    "airflow.utils.template": _LITERAL,
    "airflow.template.templater": _LITERAL,
    "airflow.sdk.definitions.template": _LITERAL,
    "airflow.utils.edgemodifier": _of("tidemill.authoring.edges", "Label"),
    "airflow.utils.helpers": {**_EDGES, **_LINEAR, **_HELPERS},
    "airflow.version": _of(_PROVIDERS, "version=VERSION"),
    "airflow.utils.log.logging_mixin": _LOGGING,
    "airflow.utils.log.secrets_masker": _MASK,
    "airflow.sdk.log": _MASK,
    "airflow.io.path": _STORAGE,
    "airflow.sdk.io": _STORAGE,
    "airflow.sdk.io.path": _STORAGE,
    "airflow.utils.strings": _of(_PROVIDERS, "to_boolean"),
    "airflow.utils.platform": _of(_PROVIDERS, "getuser"),
    "airflow.utils.operator_helpers": _DETERMINE,
    "airflow.utils.types": _NOTSET,
    "airflow.sdk.definitions._internal.types": _NOTSET,
    "airflow.utils.module_loading": _LOADING,
    "airflow.sdk.module_loading": _LOADING,
    "airflow.triggers.base": _TRIGGER,
    "airflow.triggers.temporal": _MOMENT_TRIGGERS,
    f"{_STANDARD}.triggers.temporal": _MOMENT_TRIGGERS,
    f"{_STANDARD}.triggers.file": _of(
        f"{_OWN}.watching", "DirectoryFileDeleteTrigger", "FileDeleteTrigger", "FileTrigger"
    ),
    "airflow.sdk.definitions.retry_policy": _RETRIES,
    "airflow.providers_manager": _MANAGER,
    "airflow.sdk.providers_manager_runtime": _of(_PROVIDERS, "ProvidersManagerTaskRuntime=ProvidersManager"),
    "airflow.providers.common.compat.lineage.hook": _LINEAGE,
    "airflow.utils.state": {**_STATES, **_of(f"{_OWN}.values", "State")},
    "airflow.utils.task_group": _GROUP,
    "airflow.utils.timezone": _MOMENTS,
    "airflow.utils.trigger_rule": _RULE,
    "airflow.utils.weekday": _WEEKDAY,
    "airflow.utils.weight_rule": _of(f"{_OWN}.values", "WeightRule"),
    "airflow.sensors.base": _SENSOR,
    "airflow.operators.dummy": _DUMMY,
    "airflow.macros": _of(f"{_OWN}.moments", "datetime", "ds_add", "ds_format", "timedelta"),
    "airflow.providers.common.compat.sdk": {
        **_SDK, **_EXCEPTIONS, **_of(f"{_OWN}.values", "conf"), **_MASK, **_LINK, **_DETERMINE, **_LINEAGE,
        **_of(_PROVIDERS, "poke_mode_only", "SkipMixin", "AIRFLOW_V_3_0_PLUS", "AIRFLOW_V_3_3_PLUS"),
        **_of("typing", "XCom=Any"), **_DECORATED, **_MERGE, **_PLUGIN, **_HOOKIMPL,
    },
    f"{_STANDARD}.exceptions": _of(
        f"{_OWN}.hitl", "HITLRejectException", "HITLTimeoutError", "HITLTriggerEventError"
    ),
    "airflow.sdk.execution_time.hitl": _of("typing", "HITLUser=Any"),
    f"{_STANDARD}.utils.weekday": _WEEKDAY,
    **{f"{_STANDARD}.operators.{name}": served for name, served in _OPERATORS.items()},
    **{f"{_STANDARD}.sensors.{name}": served for name, served in _SENSORS.items()},
    **{f"{_STANDARD}.hooks.{name}": served for name, served in _HOOKS.items()},
    **{f"airflow.{name}": served for name, served in _OLD.items()},
    **{f"airflow.operators.{name}": served for name, served in _OPERATORS.items()},
    **{f"airflow.sensors.{name}": served for name, served in _SENSORS.items()},
    **{f"airflow.hooks.{name}": served for name, served in _HOOKS.items()},
}  # fmt: skip

_SQL = 'from tidemill.operators import SqlOperator: SqlOperator(conn_id="shop", sql=...)'
_NO_DATABASE = (
    "there is no database of Airflow's: tasks find values of their run in the context; tidemill runs ls --json and the "
    "API (docs/api.md) tell of all runs"
)
#: What to use in place of names that are asked for often and are not served.
INSTEAD = {
    "airflow.settings.Session": _NO_DATABASE,
    "airflow.settings.engine": _NO_DATABASE,
    "airflow.utils.session": _NO_DATABASE,
    "airflow.utils.db": _NO_DATABASE,
    "DagModel": _NO_DATABASE,
    "airflow.operators.subdag": 'a TaskGroup stands for it: with TaskGroup("name"): and the tasks of the inner DAG',
    "DagBag": "tidemill pipelines ls tells of files that cannot be read; a test imports a file within serving()",
    "airflow.api": "TriggerDagRunOperator in a task, or POST /runs of the API (docs/api.md)",
    "KubernetesPodOperator": "from tidemill.operators import DockerOperator, or BashOperator with kubectl",
    "EmailOperator": "from tidemill.operators import EmailOperator",
    "HttpOperator": "from tidemill.operators import HttpOperator",
    "HttpSensor": "from tidemill.operators import HttpSensor",
    "DockerOperator": "from tidemill.operators import DockerOperator",
    "SparkSubmitOperator": "from tidemill.operators import SparkSubmitOperator",
    "GlueJobOperator": "from tidemill.operators import GlueJobOperator",
    "SQLExecuteQueryOperator": _SQL,
    "PostgresOperator": _SQL,
    "SqliteOperator": _SQL,
    "SqlSensor": "from tidemill.operators import SqlSensor",
}
