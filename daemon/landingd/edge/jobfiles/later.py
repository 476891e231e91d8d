"""The words of a job file that mean something to Databricks, or to a later version, and nothing here yet.

Whoever brings a job from there is told of each such key that it is not supported yet, which is another thing
than a misspelt one. They are keys of Jobs API 2.2, asset bundles and Auto Loader, and some of our own.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BUNDLE = _words("""
    artifacts bundle environments experimental include permissions presets python run_as scripts sync
    targets variables workspace
""")
RESOURCES = _words("""
    alerts apps catalogs clusters dashboards database_catalogs database_instances experiments
    model_serving_endpoints models pipelines quality_monitors registered_models schemas secret_scopes
    sql_warehouses synced_database_tables volumes
""")
JOB = _words("""
    access_control_list budget_policy_id commit compute continuous deployment edit_mode
    email_notifications environment_variables environments format git_source health
    job_clusters lifecycle max_concurrent_runs notification_settings parent_path
    performance_target permissions queue run_as schedule timeout_seconds usage_policy_id
    webhook_notifications
""")
TRIGGER = _words("""
    continuous cron job_completion model pause_status periodic schedule sql_condition table table_update
""")
TASK_KINDS = _words("""
    alert_task ai_runtime_task clean_rooms_notebook_task compute_task condition_task dashboard_task
    dbt_cloud_task dbt_platform_task dbt_task for_each_task gen_ai_compute_task notebook_task
    pipeline_task power_bi_task python_operator_task python_task python_wheel_task run_job_task shell_task
    spark_jar_task spark_python_task spark_submit_task sql_task
""")
TASK = TASK_KINDS | _words("""
    commit compute disable_auto_optimization disabled email_notifications environment_key
    existing_cluster_id health job_cluster_key libraries max_concurrent_runs new_cluster
    notification_settings retry_on_timeout run_if webhook_notifications
""")
DEPENDENCY = _words("outcome")
INGEST = _words("""
    allow_overwrites backfill_interval columns commit compression include_existing_files multiline
    partition_columns path rescued_data_column skip_rows
""")
FORMATS = _words("avro orc xml text binaryfile excel")
SCHEMA_EVOLUTIONS = _words("add_new_columns_with_type_widening fail_on_new_columns")
REFRESHES = _words("merge")

_OF_THE_TRIGGER = dict.fromkeys(
    _words("marker manifest incomplete_after_seconds on_duplicate on_change on_delete cleanup cleanup_after_seconds"),
    "the trigger's 'file_arrival'",
)
ELSEWHERE = {
    "job": _OF_THE_TRIGGER | {"expectations": "the task that makes the table"},
    "task": _OF_THE_TRIGGER
    | dict.fromkeys(_words("schema schema_hints schema_evolution rename read_options"), "the task's 'ingest'"),
    "ingest": _OF_THE_TRIGGER
    | dict.fromkeys(_words("encoding header quote escape dateformat timestampformat"), "'read_options'")
    | {"expectations": "the task, beside 'ingest'", "table": "the task, beside 'ingest'"},
}
"""Keys that are right in another place, by where they were found."""
