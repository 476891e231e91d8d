"""An asset bundle as it is: what of it would run here, and what would not, and why."""

from textwrap import dedent

import pytest

from landingd.edge import jobfiles
from landingd.edge.jobfiles import tree
from landingd.model import Compute, RunJob, Schedule

BUNDLE = """\
bundle: {name: shop}
include: [resources/*.yml]
workspace: {host: https://example.com}
variables:
  month: {default: Oct, description: Which one}
  retries: {default: 3}
  who: {}
  size: {type: complex, default: {threads: 2, memory_limit: 1GB}}
  label: {default: "${bundle.target}-${var.month}"}
targets:
  dev: {default: true, mode: development, variables: {who: dev@example.com}}
  prod: {variables: {who: prod@example.com, retries: {default: 5}}}
"""
JOB = """\
resources:
  jobs:
    daily:
      name: daily-${bundle.target}
      schedule: {quartz_cron_expression: 0 0 2 * * ?, timezone_id: UTC}
      compute: ${var.size}
      email_notifications: {on_failure: ["${var.who}"]}
      tasks:
        - task_key: a
          sql: ../src/a.sql
          max_retries: ${var.retries}
          parameters: {month: "${var.label}", bundle: "of ${bundle.name}"}
    weekly:
      tasks:
        - task_key: run
          run_job_task: {job_id: "${resources.jobs.daily.id}"}
"""


@pytest.fixture
def bundle(tmp_path):
    """A bundle of two files, with its SQL in a third folder."""
    for folder in ("resources", "src"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "a.sql").write_text("select 1")
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    (tmp_path / "resources" / "jobs.yml").write_text(JOB)
    return tmp_path


def read(bundle, *, target=None, **variables):
    return jobfiles.read_bundle(bundle / "databricks.yml", variables, target, shown_root=bundle)


def told(found):
    return [(problem.file, problem.line, problem.what) for problem in found.problems]


def test_a_bundle_can_be_named_by_its_folder(bundle):
    assert [job.name for job in jobfiles.read_bundle(bundle, {}, None, shown_root=bundle).jobs] == [
        "daily-dev",
        "weekly",
    ]
    found = jobfiles.read_bundle(bundle / "src", {}, None, shown_root=bundle)
    assert told(found) == [("src/databricks.yml", 0, "cannot be read: No such file or directory")]


def test_a_bundle_is_read_with_its_included_files_and_what_stands_for_something_put_in(bundle):
    found = read(bundle)
    assert told(found) == []
    daily, weekly = found.jobs
    (task,) = daily.tasks
    assert (daily.name, daily.compute) == ("daily-dev", Compute(2, "1000000000B"))
    assert isinstance(daily.triggers[0].on, Schedule)
    assert (task.max_retries, task.sql, task.sql_file) == (3, "select 1", "src/a.sql")
    assert task.parameters == {"month": "dev-Oct", "bundle": "of shop"}
    assert task.place.line == 9
    assert weekly.tasks[0].action == RunJob("daily-dev")
    assert found.sound == {"daily-dev", "weekly"}


def test_the_targets_values_are_laid_over_the_defaults_and_the_given_ones_over_both(bundle):
    prod = read(bundle, target="prod").jobs[0]
    assert (prod.name, prod.tasks[0].max_retries) == ("daily-prod", 5)
    assert [list(addresses) for addresses in prod.notifications.email.values()] == [["prod@example.com"]]
    given = read(bundle, target="prod", retries="7", month="Nov").jobs[0]
    assert (given.tasks[0].max_retries, given.tasks[0].parameters["month"]) == (7, "prod-Nov")


def test_what_has_no_value_is_a_problem_where_it_stands(bundle):
    text = """\
        resources:
          jobs:
            a:
              tasks: [{task_key: a, sql: ../src/a.sql}]
              description: ${var.mont}
              tags: {a: "${workspace.user.name}", b: "${resources.jobs.dayly.id}", c: "${bundle.git.commit}"}
              parameters:
                - {name: who, default: "${var.nobody}"}
        """
    (bundle / "resources" / "jobs.yml").write_text(dedent(text))
    (bundle / "databricks.yml").write_text(BUNDLE.replace("who: {}", "who: {}\n  nobody: {}"))
    found = read(bundle)
    assert [(line, what, hint) for _, line, what, hint in map(as_tuple, found.problems)] == [
        (5, "there is no variable 'mont'", "did you mean 'month'?"),
        (6, "${bundle.git.commit} has no value", KNOWN),
        (6, "${resources.jobs.dayly.id} is no job of this bundle", "did you mean 'resources.jobs.a.id'?"),
        (
            6,
            "${workspace.user.name} means nothing here: there is no workspace",
            "write the value itself",
        ),
        (8, "variable 'nobody' has no value", "give it a default, or --var nobody=..."),
    ]
    assert found.sound == set()
    assert len(read(bundle, nobody="x").problems) == 4


KNOWN = "${var.x}, ${bundle.name}, ${bundle.target} and ${resources.jobs.x.id} have a value"


def as_tuple(problem):
    return problem.file, problem.line, problem.what, problem.hint


def test_what_of_a_bundle_would_not_run_is_listed_with_the_reason_and_what_would_run_is_known(bundle):
    (bundle / "resources" / "more.yml").write_text(
        dedent("""\
            resources:
              pipelines: {p: {}}
              jobs:
                cloudy:
                  job_clusters: [{job_cluster_key: x}]
                  permissions: [{level: CAN_VIEW}]
                  trigger: {file_arrival: {url: /Volumes/x}}
                  tasks:
                    - task_key: a
                      job_cluster_key: x
                      notebook_task: {notebook_path: ../src/report.py}
                      libraries: [{pypi: {package: x}}]
            """)
    )
    found = read(bundle)
    assert told(found) == [
        ("resources/more.yml", 2, "'pipelines' means nothing here: tables are made by tasks, each with its SELECT"),
        ("resources/more.yml", 5, "'job_clusters' means nothing here: one machine runs everything"),
        (
            "resources/more.yml",
            6,
            "'permissions' means nothing here: one user runs everything, and who may write the job files may change it",
        ),
        ("resources/more.yml", 7, "'url' means nothing here: there are no volumes and no external locations"),
        ("resources/more.yml", 10, "'job_cluster_key' means nothing here: one machine runs everything"),
        ("resources/more.yml", 11, "'../src/report.py' is not the name of a .ipynb file"),
        (
            "resources/more.yml",
            12,
            "'libraries' means nothing here: tasks run with the packages that are installed beside the daemon",
        ),
    ]
    assert [job.name for job in found.jobs] == ["cloudy", "daily-dev", "weekly"]
    assert found.sound == {"daily-dev", "weekly"}


WRONG = {
    "a target that is not there": ({"target": "prd"}, ("databricks.yml", 0, "the bundle has no target 'prd'")),
    "a variable that is not there": ({"moth": "x"}, ("databricks.yml", 0, "the bundle declares no variable 'moth'")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_asked_of_a_bundle_must_be_there(bundle, case):
    asked, problem = WRONG[case]
    assert problem in told(read(bundle, **asked))


def test_a_target_that_changes_jobs_is_not_passed_over(bundle):
    text = BUNDLE.replace("mode: development", "resources: {jobs: {daily: {}}}")
    (bundle / "databricks.yml").write_text(text)
    assert told(read(bundle)) == [
        (
            "databricks.yml",
            11,
            "'resources' means nothing here: what a target changes in a job is not laid over it",
        )
    ]
    assert told(read(bundle, target="prod")) == []


def test_variables_that_stand_for_each_other_end(bundle):
    text = BUNDLE.replace("default: Oct", 'default: "${var.label}${var.label}"')
    (bundle / "databricks.yml").write_text(text)
    found = read(bundle)
    assert ("resources/jobs.yml", 12, "variable 'label' stands for itself, through others") in told(found)


def test_variables_that_double_each_other_stop_at_a_limit(bundle):
    more = "".join(f'  v{n}: {{default: "${{var.v{n - 1}}}${{var.v{n - 1}}}"}}\n' for n in range(1, 19))
    text = BUNDLE.replace("variables:\n", f"variables:\n  v0: {{default: {'x' * 100}}}\n{more}", 1)
    (bundle / "databricks.yml").write_text(text.replace("default: Oct", 'default: "${var.v18}"'))
    found = read(bundle)
    assert any("with everything put in" in what for _, _, what in told(found))


@pytest.mark.parametrize("name", ["/etc/hosts", "../x.yml", "nothing/*.yml"])
def test_a_bundle_includes_files_below_its_folder_only(bundle, name):
    (bundle / "databricks.yml").write_text(BUNDLE.replace("resources/*.yml", name))
    ((file, line, what), *_) = told(read(bundle))
    assert (file, line) == ("databricks.yml", 2)
    assert what in {f"{name!r} is not below the bundle's folder", f"no file matches {name!r}"}


def test_files_of_a_bundle_may_not_lie_outside_of_it(bundle):
    (bundle / "resources" / "jobs.yml").write_text(JOB.replace("../src/a.sql", "../../a.sql"))
    assert ("resources/jobs.yml", 10, "'../../a.sql' is not below the bundle's folder") in told(read(bundle))


def test_a_bundle_without_a_job_is_a_problem(tmp_path):
    (tmp_path / "databricks.yml").write_text("bundle: {name: a}\n")
    assert told(read(tmp_path)) == [("databricks.yml", 0, "there is no job in this bundle")]
    (tmp_path / "databricks.yml").write_text("- a\n")
    assert told(read(tmp_path)) == [("databricks.yml", 1, "a bundle must be a mapping, found a list")]
    assert told(jobfiles.read_bundle(tmp_path / "x.yml", {}, None, shown_root=tmp_path)) == [
        ("x.yml", 0, "cannot be read: No such file or directory")
    ]


def test_a_job_file_with_a_bundles_wrapper_has_variables_of_its_own(bundle):
    file = bundle / "src" / "job.yml"
    text = JOB.replace("../src/a.sql", "a.sql").replace("${bundle.target}", "x").replace("${bundle.name}", "x")
    variables = BUNDLE[BUNDLE.index("variables:") : BUNDLE.index("targets:")]
    file.write_text(
        variables.replace("who: {}", "who: {default: a@example.com}").replace("${bundle.target}", "x") + text
    )
    (daily, _), problems = jobfiles.read_job(file, shown_root=bundle)
    assert problems == []
    assert (daily.name, daily.tasks[0].parameters["month"]) == ("daily-x", "x-Oct")


@pytest.mark.parametrize(("word", "value"), [("3", 3), ("true", True), ("x y", "x y"), ("", None), ("1e3", 1000.0)])
def test_a_value_from_the_command_line_means_what_it_would_in_the_file(word, value):
    assert tree.plain(word, 0).value == value
