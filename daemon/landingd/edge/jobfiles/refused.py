"""The words of a job file that mean something to Databricks and nothing on one box, each with the reason.

Whoever brings a job from there is told of each such key why it has no meaning here and what to write instead, which
is another thing than to be told of a misspelt one. They are keys of Jobs API 2.2, asset bundles and Auto Loader.
What is only not there yet (formats, `refresh: merge`) stands at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a key means nothing here, and what to do instead."""

    reason: str
    hint: str | None = "leave it out"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _all(*groups: tuple[str, Refusal]) -> Mapping[str, Refusal]:
    return {word: refusal for words, refusal in groups for word in words.split()}


# --- the reasons ------------------------------------------------------------------------------------------

_MACHINE = Refusal("one machine runs everything", "`compute:` of the job sets threads and memory")
_LIBRARIES = Refusal(
    "tasks run with the packages that are installed beside the daemon", "install them into its environment"
)
_VARIABLES = Refusal("a task's process has the environment that the daemon gives it", "hand values over as parameters")
_ACCESS = Refusal(
    "one user runs everything, and who may write the job files may change it", "guard the files by their permissions"
)
_BILL = Refusal("nothing is billed")
_TARGET = Refusal("there is one machine, always warm")
_WAREHOUSE = Refusal("there is one warehouse, the daemon's own")
_GIT = Refusal("files are read from beside the job file", "check the repository out there")
_DEPLOYED = Refusal("the job file is the job: nothing is deployed")
_FORMAT = Refusal("a job file has one format")
_QUERIES = Refusal("there is no store of saved queries", "put the statement into a .sql file: `sql: gate.sql`")
_MAINTENANCE = Refusal("there is no platform that maintains itself while jobs run")
_NO_SPARK = Refusal("there is no Spark and no JVM", "SQL (`sql`), Python (`python_task`) or a script of its own")
_WHEEL = Refusal("code is a file beside the job", "`python_task: {file, function}` calls a function")
_PIPELINE = Refusal(
    "tables are made by tasks, each with its SELECT", "a task with `sql` and `table` for each table of the pipeline"
)
_BOARD = Refusal("there are no dashboards", "`landingd query` and the warehouse file serve any tool")
_ALERT = Refusal("there are no saved alerts", "`health.rules`, `expectations` and notifications tell of what is wrong")
_CLOUD = Refusal("it is a service of Databricks' cloud", "`python_task` or `spark_python_task` can call any service")
_MODEL = Refusal("there is no registry of models", "`table_update` and `file_arrival` tell of what is new")
_URL = Refusal("there are no volumes and no external locations", "write 'path', a folder below the landing root")
_BY_NAME = Refusal("jobs are known by their names", "job_name: the name of the job")
_PARAMS = Refusal("a job has job parameters and no others", "put the values into 'job_parameters'")
_DBT = Refusal(
    "dbt opens the warehouse file itself, which DuckDB allows to one process only, and that is the daemon",
    "turn each model into a task with `sql` and `table`",
)
_SHELL = Refusal("no shell is run for a task", "`spark_python_task` runs a Python file in a process of its own")
_CATALOG = Refusal("there is one catalog", "a task says with `table: gold.name` what it makes")
_SERVERLESS = Refusal("no optimizer retries a task on its own", "`max_retries` says how often a task is tried")
_LIFECYCLE = Refusal("a job is there as long as its file is", "`pause_status: PAUSED` keeps it from starting")
_SPILL = Refusal(
    "DuckDB fixes where it spills when the warehouse is opened", "it is temp/ in the configuration's paths.state"
)
_COMMIT = Refusal("each attempt is one transaction, which is committed when it ends")

# --- by where they stand ----------------------------------------------------------------------------------

JOB = _all(
    ("temp_directory", _SPILL),
    ("job_clusters environments", _MACHINE),
    ("environment_variables", _VARIABLES),
    ("access_control_list permissions run_as", _ACCESS),
    ("budget_policy_id usage_policy_id", _BILL),
    ("performance_target duration_target", _TARGET),
    ("git_source", _GIT),
    ("deployment edit_mode parent_path", _DEPLOYED),
    ("lifecycle", _LIFECYCLE),
    ("format", _FORMAT),
    ("commit", _COMMIT),
)
COMPUTE = _all(("temp_directory", _SPILL))
TASK_KINDS = _all(
    ("spark_jar_task spark_submit_task", _NO_SPARK),
    ("python_wheel_task python_operator_task", _WHEEL),
    ("pipeline_task", _PIPELINE),
    ("dashboard_task power_bi_task", _BOARD),
    ("alert_task", _ALERT),
    ("ai_runtime_task clean_rooms_notebook_task gen_ai_compute_task dbt_cloud_task dbt_platform_task", _CLOUD),
    ("compute_task", _MACHINE),
    ("dbt_task", _DBT),
    ("shell_task", _SHELL),
)
TASK = {
    **TASK_KINDS,
    **_all(
        ("new_cluster existing_cluster_id job_cluster_key environment_key compute", _MACHINE),
        ("libraries", _LIBRARIES),
        ("environment_variables_key", _VARIABLES),
        ("disable_auto_optimization", _SERVERLESS),
        ("commit", _COMMIT),
    ),
}
TRIGGER = _all(("model", _MODEL))
FILE_ARRIVAL = _all(("url", _URL))
CONTINUOUS = _all(("maintenance_window", _MAINTENANCE), ("url", _URL))
SQL_CONDITION = _all(("warehouse_id", _WAREHOUSE), ("sql_query_id", _QUERIES))
JOB_COMPLETION = _all(("job_id job_ids", _BY_NAME))
NOTIFICATIONS = _all(("on_maintenance_start on_maintenance_complete", _MAINTENANCE))
SQL_TASK = _all(("warehouse_id", _WAREHOUSE), ("query", _QUERIES), ("alert", _ALERT), ("dashboard", _BOARD))
NOTEBOOK_TASK = _all(("warehouse_id", _WAREHOUSE))
RUN_JOB_TASK = _all(
    ("job_id", _BY_NAME),
    ("dbt_commands jar_params notebook_params pipeline_params", _PARAMS),
    ("python_named_params python_params spark_submit_params sql_params", _PARAMS),
)
GIT = _GIT
"""Why `source: GIT` is refused."""

_INCLUDED = Refusal("every file that is there when a job begins to watch is taken")
INGEST = _all(
    ("allow_overwrites", Refusal("a changed file is a new version", "`on_change` of the trigger says what follows")),
    ("backfill_interval", Refusal("the landing directories are scanned again and again anyway")),
    ("include_existing_files", _INCLUDED),
    ("partition_columns", Refusal("a table is not cut into directories", "_source_file tells where a row is from")),
    ("rescued_data_column", Refusal("the column is called _rescued_data", "`schema_evolution: rescue` fills it")),
    ("compression", Refusal("what packed a file is told by its bytes")),
    ("commit", _COMMIT),
    (
        "path",
        Refusal("the job's trigger says where files come from", "`file_arrival: {path: ...}`, and here `pattern`"),
    ),
    ("columns", Refusal("columns are given as 'schema', all of them, or 'schema_hints', some", None)),
    ("multiline", Refusal("quoted fields may hold line ends, and JSON may be one array, without being told")),
    ("skip_rows", Refusal("the header is the first line", "`read_options: {header: false}` for a file without one")),
)

# --- bundles ----------------------------------------------------------------------------------------------

DEPLOYMENT = _words("artifacts bundle experimental mode presets scripts sync workspace")
"""How a bundle comes to a workspace: it changes nothing in what a job does."""
BUNDLE = _all(
    (" ".join(DEPLOYMENT), _DEPLOYED),
    ("permissions run_as", _ACCESS),
    ("environments", Refusal("it is the old name of 'targets'", "write 'targets'")),
    ("python", Refusal("jobs are read from YAML only", "write the job as YAML")),
    ("include targets", Refusal("a job folder has one job file", "`landingd validate --bundle FILE` reads a bundle")),
)
TARGET = _all(
    (
        "resources",
        Refusal("what a target changes in a job is not laid over it", "make a variable of what differs"),
    ),
    ("permissions run_as", _ACCESS),
    ("artifacts git cluster_id compute_id", _MACHINE),
)
VARIABLE = _all(("lookup", Refusal("there is no workspace to look it up in", "give the variable a default")))
RESOURCES = _all(
    ("pipelines", _PIPELINE),
    ("clusters instance_pools", _MACHINE),
    ("sql_warehouses", _WAREHOUSE),
    ("dashboards apps genie_spaces", _BOARD),
    ("alerts", _ALERT),
    ("experiments models registered_models model_serving_endpoints", _MODEL),
    ("catalogs schemas volumes external_locations database_catalogs", _CATALOG),
    ("quality_monitors database_instances synced_database_tables secret_scopes", _CLOUD),
    ("postgres_projects postgres_branches postgres_endpoints", _CLOUD),
    ("vector_search_endpoints vector_search_indexes", _CLOUD),
)

# --- not there yet ----------------------------------------------------------------------------------------

FORMATS_LATER = _words("avro orc xml text binaryfile excel")
SCHEMA_EVOLUTIONS_LATER = _words("add_new_columns_with_type_widening fail_on_new_columns")
REFRESHES_LATER = _words("merge")

# --- right in another place -------------------------------------------------------------------------------

_OF_THE_TRIGGER = dict.fromkeys(
    _words("""
        marker manifest incomplete_after_seconds on_duplicate on_change on_delete cleanup cleanup_after_seconds
        archive_retention_days max_files_per_trigger max_bytes_per_trigger
    """),
    "the trigger's 'file_arrival'",
)
_KINDS_OF_TRIGGER = dict.fromkeys(
    _words("file_arrival periodic table_update job_completion sql_condition"), "the job's 'triggers'"
)
ELSEWHERE = {
    "job": _OF_THE_TRIGGER
    | _KINDS_OF_TRIGGER
    | {
        "expectations": "the task that makes the table",
        "no_success_within_seconds": "'health', beside 'rules'",
        "alert_on_last_attempt": "the task's 'notification_settings'",
        "threads": "'compute'",
        "memory_limit": "'compute'",
        "cron": "'schedule'",
        "quartz_cron_expression": "'schedule'",
        "max_retries": "each task",
        "run_if": "each task",
    },
    "task": _OF_THE_TRIGGER
    | dict.fromkeys(_words("schema schema_hints schema_evolution rename read_options tail"), "the task's 'ingest'")
    | dict.fromkeys(_words("max_concurrent_runs queue priority strict triggers trigger schedule continuous"), "the job")
    | {"outcome": "'depends_on', beside the task_key", "function": "'python_task'", "concurrency": "'for_each_task'"},
    "ingest": _OF_THE_TRIGGER
    | dict.fromkeys(_words("encoding header quote escape dateformat timestampformat"), "'read_options'")
    | {"expectations": "the task, beside 'ingest'", "table": "the task, beside 'ingest'"},
    "trigger": dict.fromkeys(_words("path pattern exclude recursive"), "'file_arrival'")
    | dict.fromkeys(_words("cron quartz_cron_expression timezone_id misfire"), "'schedule'"),
}
"""Keys that are right in another place, by where they were found."""
