"""Tasks in processes of their own: how they end, what is left of them, and what they are told."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from landingd.edge import processes
from landingd.edge.processes import (
    HEAD_BYTES,
    TAIL_BYTES,
    Processes,
    Reason,
    ScriptCall,
    TaskValuesError,
    notebooks,
    open_exchange,
    run_script,
)
from landingd.errors import LandingdError
from landingd.model import AttemptKey

DEADLINE_S = 30.0
SOURCE = Path(__file__).parents[2] / "daemon"


@pytest.fixture
def script(tmp_path):
    """A call of a script with this source."""

    def make(source, *arguments, **more):
        file = tmp_path / "task.py"
        file.write_text(textwrap.dedent(source))
        given = {"environment": {"PATH": os.environ["PATH"]}, "grace_s": 0.2} | more
        return ScriptCall([sys.executable, str(file), *arguments], tmp_path, tmp_path / "task.log", **given)

    return make


async def until(holds):
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 -- other processes make it so
            await asyncio.sleep(0.01)


def alive(pid):
    """Whether the process runs; one that has ended and is not waited for by whoever inherited it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_in(file, count):
    """As many as were written, each on a line."""
    lines = file.read_text().split() if file.exists() else []
    return [int(line) for line in lines] if len(lines) >= count else []


# --- how it ends ------------------------------------------------------------------------------------------


async def test_a_script_runs_where_it_is_told_with_its_arguments_and_environment(script, tmp_path):
    source = """
        import os, sys
        print(sys.argv[1:], os.getcwd(), os.environ["GIVEN"], sys.stdin.read() == "", flush=True)
        print("to stderr", file=sys.stderr)
        """
    end = await run_script(script(source, "a b", "--c", environment={"GIVEN": "x"}))
    assert (end.reason, end.exit_code) == (Reason.EXITED, 0)
    assert end.tail == f"['a b', '--c'] {tmp_path} x True\nto stderr\n"
    assert (tmp_path / "task.log").read_text() == end.tail


async def test_an_exit_code_and_a_signal_are_told_apart(script):
    end = await run_script(script("import sys; sys.exit(3)"))
    assert (end.reason, end.exit_code, end.signal) == (Reason.EXITED, 3, None)
    end = await run_script(script("import os; os.kill(os.getpid(), 11)"))
    assert (end.reason, end.exit_code, end.signal) == (Reason.SIGNALED, None, signal.SIGSEGV)


async def test_a_python_that_is_not_there_is_said(script, tmp_path):
    call = script("")
    missing = ScriptCall([str(tmp_path / "nopython"), *call.command[1:]], call.cwd, call.log_file, call.environment)
    end = await run_script(missing)
    assert end.reason is Reason.NOT_STARTED
    assert "nopython" in end.tail


async def test_a_script_that_is_to_end_is_asked_and_may_tidy_up(script, tmp_path):
    source = """
        import pathlib, signal, sys, time
        def end(*_):
            pathlib.Path("tidied").touch()
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        pathlib.Path("ready").touch()
        time.sleep(60)
        """
    cancel = asyncio.Event()
    running = asyncio.create_task(run_script(script(source, grace_s=20.0), cancel))
    await until((tmp_path / "ready").exists)
    cancel.set()
    assert (await running).reason is Reason.CANCELED
    assert (tmp_path / "tidied").exists()


async def test_a_script_that_outlives_its_time_is_ended(script):
    assert (await run_script(script("import time; time.sleep(60)", timeout_s=0.1))).reason is Reason.TIMED_OUT


async def test_one_that_will_not_end_is_killed_with_all_that_it_has_started(script, tmp_path):
    source = """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \\
                "open('pids', 'a').write(f'{os.getpid()}\\\\n'); time.sleep(60)"
        subprocess.Popen([sys.executable, "-c", child])
        subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
        with open("pids", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(60)
        """
    cancel = asyncio.Event()
    running = asyncio.create_task(run_script(script(source), cancel))
    await until(lambda: pids_in(tmp_path / "pids", 3))
    pids = pids_in(tmp_path / "pids", 3)
    assert all(map(alive, pids))
    cancel.set()
    assert (await running).reason is Reason.CANCELED
    assert not any(map(alive, pids))


async def test_what_a_script_leaves_running_ends_with_it(script, tmp_path):
    source = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        open("pids", "w").write(f"{child.pid}\\n")
        print("done")
        """
    end = await run_script(script(source))
    assert (end.exit_code, end.tail) == (0, "done\n")
    assert not alive(*pids_in(tmp_path / "pids", 1))


async def test_one_that_takes_too_much_memory_is_told_from_one_that_fails(script):
    source = "x = bytearray(512 << 20)\nprint(len(x))"
    end = await run_script(script(source, memory_limit_bytes=256 << 20))
    assert end.reason is Reason.OUT_OF_MEMORY
    assert "MemoryError" in end.tail
    assert (await run_script(script(source))).exit_code == 0


async def test_no_zombie_is_left(script):
    def children():
        return {path.name for path in Path("/proc/self/task").glob("*/children") if path.read_text().strip()}

    await asyncio.gather(*(run_script(script("print(1)")) for _ in range(3)))
    assert not children()


PARENT = """
    import asyncio, os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from landingd.edge.processes import ScriptCall, run_script
    here = Path.cwd()
    call = ScriptCall([sys.executable, str(here / "child.py")], here, here / "child.log", dict(os.environ))
    asyncio.run(run_script(call))
    """
CHILD = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    open("pids", "w").write(f"{os.getpid()}\\n{child.pid}\\n{os.getppid()}\\n")
    time.sleep(60)
    """


@pytest.mark.parametrize("victim", ["daemon", "keeper"])
async def test_nothing_outlives_a_daemon_that_is_killed(tmp_path, victim):
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    (tmp_path / "child.py").write_text(textwrap.dedent(CHILD))
    parent = subprocess.Popen([sys.executable, "parent.py", str(SOURCE)], cwd=tmp_path)  # noqa: ASYNC220 -- is killed
    try:
        await until(lambda: pids_in(tmp_path / "pids", 3))
        task, grandchild, keeper = pids_in(tmp_path / "pids", 3)
        os.kill(parent.pid if victim == "daemon" else keeper, signal.SIGKILL)
        await until(lambda: not alive(task) and not alive(keeper))
        if victim == "daemon":
            await until(lambda: not alive(grandchild))
    finally:
        parent.kill()
        parent.wait()
        for pid in pids_in(tmp_path / "pids", 3)[1:2]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# --- what it prints ---------------------------------------------------------------------------------------


async def test_of_much_output_the_first_and_the_last_part_are_kept(script, tmp_path):
    lines = 200_000
    end = await run_script(script(f"for n in range({lines}): print(f'line {{n:06}}')"))
    text = (tmp_path / "task.log").read_text()
    assert text.startswith("line 000000\nline 000001\n")
    assert text.endswith(f"line {lines - 1:06}\n")
    assert "bytes are left out here" in text
    assert HEAD_BYTES + TAIL_BYTES <= len(text) < HEAD_BYTES + TAIL_BYTES + 100
    assert end.tail.startswith("line ")
    assert end.tail.endswith(f"line {lines - 1:06}\n")


async def test_what_it_prints_can_be_read_while_it_runs_and_stays_when_it_is_killed(script, tmp_path):
    cancel = asyncio.Event()
    running = asyncio.create_task(run_script(script("import time; print('early', flush=True); time.sleep(60)"), cancel))
    await until(lambda: (tmp_path / "task.log").exists() and "early" in (tmp_path / "task.log").read_text())
    cancel.set()
    assert (await running).tail == "early\n"


async def test_a_process_that_prints_without_end_does_not_hold_up_the_loop(script):
    cancel = asyncio.Event()
    running = asyncio.create_task(run_script(script("while True: print('y' * 1000)"), cancel))
    for _ in range(200):
        await asyncio.sleep(0.001)
    cancel.set()
    assert (await running).reason is Reason.CANCELED


# --- so many at a time ------------------------------------------------------------------------------------


async def test_so_many_run_at_a_time_and_one_that_is_canceled_while_it_waits_is_never_started(script, tmp_path):
    both = Processes(1)
    first_cancel, second_cancel = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(both.run(script("open('began', 'w'); import time; time.sleep(60)"), first_cancel))
    await until((tmp_path / "began").exists)
    call = ScriptCall([sys.executable, "-c", "open('second', 'w')"], tmp_path, tmp_path / "2.log")
    second = asyncio.create_task(both.run(call, second_cancel))
    await asyncio.sleep(0)
    second_cancel.set()
    assert (await second).reason is Reason.CANCELED
    assert not (tmp_path / "2.log").exists()
    first_cancel.set()
    assert (await first).reason is Reason.CANCELED
    assert (await both.run(call, asyncio.Event())).exit_code == 0
    assert (tmp_path / "second").exists()


# --- what it is told, and leaves --------------------------------------------------------------------------

KEY = AttemptKey(12, "clean", 3)


def test_a_process_is_told_its_parameters_and_none_of_the_daemons_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDINGD_MQTT__PASSWORD", "secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("OF_THE_USER", "kept")
    exchange = open_exchange(tmp_path, KEY, ["/landing/ä.csv"])
    told = processes.environment(exchange, KEY, "shop", {"month": "Oct", "min-price": "3"}, Path("/run/c.sock"))
    assert not {"LANDINGD_MQTT__PASSWORD", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"} & set(told)
    assert told["OF_THE_USER"] == "kept"
    assert {name: value for name, value in told.items() if name.startswith("LANDINGD_")} == {
        "LANDINGD_PARAM_MONTH": "Oct",
        "LANDINGD_PARAM_MIN_PRICE": "3",
        "LANDINGD_RUN_ID": "12",
        "LANDINGD_TASK_KEY": "clean",
        "LANDINGD_ATTEMPT": "3",
        "LANDINGD_JOB": "shop",
        "LANDINGD_FILES": str(exchange.files_file),
        "LANDINGD_VALUES": str(exchange.values_file),
        "LANDINGD_SOCKET": "/run/c.sock",
    }
    assert json.loads(exchange.files_file.read_text()) == ["/landing/ä.csv"]


def test_values_are_read_once_they_are_written(tmp_path):
    exchange = open_exchange(tmp_path, KEY, [])
    assert exchange.read_values() == {}
    exchange.values_file.write_text('{"rows": 3}')
    assert exchange.read_values() == {"rows": 3}
    exchange.clear()
    assert list(exchange.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [("[1]", "a list"), ("{", "is no JSON"), ('{"a": NaN}', "NaN"), (json.dumps({"a": "x" * 50_000}), "49,152")],
)
def test_values_that_are_none_are_an_error(tmp_path, text, says):
    exchange = open_exchange(tmp_path, KEY, [])
    exchange.values_file.write_text(text)
    with pytest.raises(TaskValuesError, match=says):
        exchange.read_values()
    assert issubclass(TaskValuesError, LandingdError)


def test_logs_of_old_runs_are_forgotten(tmp_path):
    for run_id in (1, 2, 3):
        open_exchange(tmp_path, AttemptKey(run_id, "t", 1), [])
    (tmp_path / "of somebody else").mkdir()
    assert processes.forget_logs(tmp_path, 3, keep=[1]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"1", "3", "of somebody else"}
    assert processes.forget_logs(tmp_path / "nowhere", 3) == 0


# --- notebooks --------------------------------------------------------------------------------------------


def test_what_notebooks_need_is_there_or_named(monkeypatch):
    assert processes.notebook_available() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "papermill" else object())
    assert processes.notebook_available() == "notebook_task needs papermill: install landingd[notebook]"


def test_an_executed_notebook_says_where_it_failed_counted_without_what_papermill_adds(tmp_path):
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no rows"}
    cells = [
        {"metadata": {"tags": ["papermill-error-cell-tag"]}},
        {"metadata": {"tags": ["parameters"]}, "outputs": []},
        {"metadata": {"tags": ["injected-parameters"]}, "outputs": []},
        {"metadata": {}, "outputs": [failed]},
    ]
    (tmp_path / "out.ipynb").write_text(json.dumps({"cells": cells}))
    assert notebooks.failure(tmp_path / "out.ipynb") == "cell 2: ValueError: no rows"
    assert notebooks.failure(tmp_path / "nothing.ipynb") is None
