"""Conditions, scripts and notebooks as attempts: what each outcome is, with real processes."""

import asyncio
import json
import textwrap

import pytest

from landingd.core.references import RunContext, TaskContext
from landingd.flow.acting import ActingOptions, Actor
from landingd.model import (
    AttemptKey,
    Canceled,
    Committed,
    Condition,
    ConditionOp,
    Failed,
    Interrupted,
    Job,
    Notebook,
    Output,
    Place,
    RunJob,
    Script,
    Task,
    TimedOut,
)

DEADLINE_S = 60.0
PLACE = Place("shop/job.yml", 1)
KEY = AttemptKey(7, "act", 2)


class Acting:
    """One job's folder, and the attempts of its one task."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.tasks_dir = folder / "state" / "tasks"
        self.actor = Actor(ActingOptions(self.tasks_dir, folder / "control.sock", **options))

    def script(self, source, *arguments, **more):
        file = self.folder / "clean.py"
        file.write_text(textwrap.dedent(source))
        return Script(file, "shop/clean.py", arguments, **more)

    def notebook(self, *cells, **parameters):
        file = self.folder / "look.ipynb"
        tagged = [(source, ["parameters"] if n == 0 else []) for n, source in enumerate(cells)]
        file.write_text(
            json.dumps(
                {
                    "nbformat": 4,
                    "nbformat_minor": 5,
                    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
                    "cells": [
                        {
                            "id": f"c{n}",
                            "cell_type": "code",
                            "execution_count": None,
                            "metadata": {"tags": tags},
                            "outputs": [],
                            "source": textwrap.dedent(source),
                        }
                        for n, (source, tags) in enumerate(tagged)
                    ],
                }
            )
        )
        return Notebook(file, "shop/look.ipynb", parameters)

    async def act(self, action, *, cancel=None, timeout_s=0.0, files=(), **parameters):
        task = Task("act", PLACE, action=action, timeout_s=timeout_s)
        run = RunContext("shop", 7, 0, parameters, "ONE_TIME", None, {}, 0.0, files)
        return await self.actor.act(
            task,
            action,
            job=Job("shop", PLACE, (task,), folder=self.folder),
            key=KEY,
            parameters=parameters,
            contexts=(run, TaskContext("act", 2)),
            cancel=cancel or asyncio.Event(),
        )

    async def until(self, name):
        async with asyncio.timeout(DEADLINE_S):
            while not (self.folder / name).exists():  # noqa: ASYNC110 -- another process makes it
                await asyncio.sleep(0.01)


@pytest.fixture
def acting(tmp_path):
    return Acting(tmp_path)


# --- conditions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "answer"), [("10", "true"), ("9", "false")])
async def test_a_condition_commits_its_answer_and_changes_nothing(acting, left, answer):
    outcome = await acting.act(Condition(ConditionOp.GREATER_THAN, left, "9"))
    assert outcome.stats.output == Output(condition=answer)
    assert outcome.stats.how == f"'{left}' GREATER_THAN '9'"
    assert not outcome.stats.changed


async def test_a_condition_that_makes_no_sense_fails_for_good(acting):
    outcome = await acting.act(Condition(ConditionOp.LESS_THAN, "few", "9"))
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert "'few'" in outcome.error


async def test_what_others_carry_out_is_refused(acting):
    assert (await acting.act(RunJob("other"))).permanent


# --- scripts ----------------------------------------------------------------------------------------------


async def test_a_script_gets_parameters_and_files_and_leaves_values(acting):
    source = """
        import json, os, sys
        files = json.load(open(os.environ["LANDINGD_FILES"]))
        values = {"month": os.environ["LANDINGD_PARAM_MONTH"], "arguments": sys.argv[1:], "files": files}
        json.dump(values, open(os.environ["LANDINGD_VALUES"], "w"))
        print("looked at", len(files))
        """
    outcome = await acting.act(acting.script(source, "--n", "3"), files=lambda: ["/landing/a.csv"], month="Oct")
    assert isinstance(outcome, Committed), outcome
    output = outcome.stats.output
    assert output.values == {"month": "Oct", "arguments": ["--n", "3"], "files": ["/landing/a.csv"]}
    log_file = acting.tasks_dir / "7" / "act-2.log"
    assert output.text == f"looked at 1\nlog: {log_file}"
    assert log_file.read_text() == "looked at 1\n"
    assert list(log_file.parent.iterdir()) == [log_file]
    assert not outcome.stats.changed


async def test_a_script_that_fails_says_with_what_and_where_its_log_is(acting):
    outcome = await acting.act(acting.script("print('begun')\nraise ValueError('no rows')"))
    assert isinstance(outcome, Failed)
    assert not outcome.permanent
    lines = outcome.error.splitlines()
    assert lines[0] == "shop/clean.py: exit code 1: ValueError: no rows"
    assert "    begun" in lines
    assert lines[-1] == f"  log: {acting.tasks_dir / '7' / 'act-2.log'}"


async def test_what_a_script_said_in_one_line_is_not_said_twice(acting):
    outcome = await acting.act(acting.script("import sys; sys.exit('no rows')"))
    log_file = acting.tasks_dir / "7" / "act-2.log"
    assert outcome.error == f"shop/clean.py: exit code 1: no rows\n  log: {log_file}"


async def test_a_folder_where_values_should_be_is_told_and_taken_away(acting):
    outcome = await acting.act(acting.script("import os; os.mkdir(os.environ['LANDINGD_VALUES'])"))
    assert outcome.error == "shop/clean.py: the file in LANDINGD_VALUES cannot be read: Is a directory"
    assert [path.name for path in (acting.tasks_dir / "7").iterdir()] == ["act-2.log"]


async def test_values_that_are_none_fail_it_for_good(acting):
    outcome = await acting.act(acting.script("import os; open(os.environ['LANDINGD_VALUES'], 'w').write('[1]')"))
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert "shop/clean.py: what it wrote to LANDINGD_VALUES is no JSON object" in outcome.error


async def test_memory_and_signals_are_told(acting):
    hungry = acting.script("x = bytearray(512 << 20)", memory_limit_bytes=256 << 20)
    assert "ran out of the 256 MiB" in (await acting.act(hungry)).error
    killed = acting.script("import os; os.kill(os.getpid(), 9)")
    assert "was ended by signal 9; the kernel does that where memory runs out" in (await acting.act(killed)).error


async def test_an_interpreter_that_is_not_there_fails_it_for_good(tmp_path):
    acting = Acting(tmp_path, python=str(tmp_path / "nopython"))
    outcome = await acting.act(acting.script(""))
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert "nopython" in outcome.error


async def test_a_folder_that_cannot_be_made_is_a_failure_and_no_crash(acting):
    acting.tasks_dir.parent.write_text("a file in the way")
    outcome = await acting.act(acting.script(""))
    assert isinstance(outcome, Failed)
    assert "no process could be started" in outcome.error


SLEEPING = "import pathlib, time; pathlib.Path('began').touch(); time.sleep(60)"


async def test_a_script_is_late_or_canceled_or_stopped(acting):
    assert await acting.act(acting.script(SLEEPING), timeout_s=0.1) == TimedOut(after_s=0.1)
    (acting.folder / "began").unlink(missing_ok=True)
    cancel = asyncio.Event()
    running = asyncio.create_task(acting.act(acting.script(SLEEPING), cancel=cancel))
    await acting.until("began")
    cancel.set()
    assert await running == Canceled()
    (acting.folder / "began").unlink()
    running = asyncio.create_task(acting.act(acting.script(SLEEPING)))
    await acting.until("began")
    acting.actor.interrupt_all()
    assert await running == Interrupted(crashed=False)
    assert await acting.act(acting.script("")) == Interrupted(crashed=False)
    assert list((acting.tasks_dir / "7").iterdir()) == [acting.tasks_dir / "7" / "act-2.log"]


async def test_one_that_is_canceled_before_it_is_its_turn_is_never_started(tmp_path):
    acting = Acting(tmp_path, processes_max=1)
    stop, cancel = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(acting.act(acting.script(SLEEPING), cancel=stop))
    await acting.until("began")
    second = asyncio.create_task(acting.act(Script(acting.folder / "clean.py", "shop/clean.py"), cancel=cancel))
    await asyncio.sleep(0)
    cancel.set()
    assert await second == Canceled()
    stop.set()
    assert await first == Canceled()


async def test_what_is_canceled_already_is_not_started(acting):
    cancel = asyncio.Event()
    cancel.set()
    assert await acting.act(acting.script(SLEEPING), cancel=cancel) == Canceled()
    assert not (acting.folder / "began").exists()


# --- notebooks --------------------------------------------------------------------------------------------


async def test_a_notebook_is_executed_with_its_parameters_as_text_and_kept(acting):
    notebook = acting.notebook(
        "month = 'unset'\nn = 1",
        """
        import json, os
        from pathlib import Path
        json.dump({"month": month, "n": n, "here": Path.cwd().name}, open(os.environ["LANDINGD_VALUES"], "w"))
        print("seen", month)
        """,
        month="Oct",
        n="007",
    )
    outcome = await acting.act(notebook, timeout_s=DEADLINE_S)
    assert isinstance(outcome, Committed), outcome
    assert outcome.stats.output.values == {"month": "Oct", "n": "007", "here": acting.folder.name}
    executed = acting.tasks_dir / "7" / "act-2.ipynb"
    assert outcome.stats.output.text.endswith(f"log: {executed}")
    assert "seen Oct" in executed.read_text()


async def test_a_notebook_that_fails_says_in_which_cell_and_is_kept(acting):
    outcome = await acting.act(acting.notebook("a = 1", "raise ValueError('no rows')", month="Oct"))
    assert isinstance(outcome, Failed), outcome
    executed = acting.tasks_dir / "7" / "act-2.ipynb"
    assert outcome.error == f"shop/look.ipynb: cell 2: ValueError: no rows\n  log: {executed}"
    assert executed in set(executed.parent.iterdir())


async def test_what_is_no_notebook_is_told_in_one_line(acting):
    notebook = acting.notebook("a = 1")
    notebook.file.write_text("hello")
    outcome = await acting.act(notebook)
    said = "nbformat.reader.NotJSONError: Notebook does not appear to be JSON: 'hello'"
    log_file = acting.tasks_dir / "7" / "act-2.log"
    assert outcome.error == f"shop/look.ipynb: exit code 1: {said}\n  log: {log_file}"
