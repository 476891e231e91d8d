"""The control socket as programs meet it: HTTP over a real Unix socket."""

import asyncio
import json
import socket
import stat
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from landingd.edge.control import BODY_BYTES_MAX, ControlSocket, FileAnswer
from landingd.errors import (
    AlreadyRunningError,
    ConfigError,
    LandingdError,
    NotFoundError,
    NotRunningError,
    RefusedError,
)


@pytest.fixture
def path():
    """A short one: the address of a Unix socket has room for 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "run" / "control.sock"


@asynccontextmanager
async def serving(path, **handlers):
    """The socket, answering `handlers`: `get_x` is GET /x."""
    routes = {f"{name.split('_')[0].upper()} /{name.split('_', 1)[1]}": handler for name, handler in handlers.items()}
    control = ControlSocket(path, routes)
    task = asyncio.create_task(control.serve())
    try:
        yield control
    finally:
        control.stop()
        await task


async def ask(path, method, target, body=b"", headers=""):
    """The status, the answer's headers and its body."""
    reader, writer = await asyncio.open_unix_connection(path)
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), content


async def echo(asked):
    return asked


# --- requests and answers ---------------------------------------------------------------------------------


async def test_query_path_and_body_are_one_set_of_parameters(path):
    async with serving(path, get_echo=echo, post_echo=echo) as control:
        assert control is not None
        _, _, answer = await ask(path, "GET", "/echo?job=shop&limit=5")
        assert json.loads(answer) == {"job": "shop", "limit": "5"}
        _, _, answer = await ask(path, "POST", "/echo?job=a", b'{"job": "b", "parameters": {"month": "Oct"}}')
        assert json.loads(answer) == {"job": "b", "parameters": {"month": "Oct"}}
        _, _, answer = await ask(path, "POST", "/echo")
        assert json.loads(answer) == {}


async def test_a_part_of_the_path_can_be_a_parameter(path):
    control = ControlSocket(path, {"GET /runs/{run_id:int}/it": echo})
    task = asyncio.create_task(control.serve())
    assert json.loads((await ask(path, "GET", "/runs/7/it"))[2]) == {"run_id": 7}
    assert (await ask(path, "GET", "/runs/x/it"))[0] == 404
    control.stop()
    await task


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RefusedError("no", hint="do this"), 409),
        (NotFoundError("no"), 404),
        (NotRunningError("no"), 503),
        (AlreadyRunningError("no"), 503),
        (ConfigError("no"), 422),
        (LandingdError("no"), 400),
    ],
)
async def test_a_refusal_is_json_with_its_hint_and_exit_code(path, error, status):
    async def refuse(asked):
        raise error

    async with serving(path, get_it=refuse):
        answered, _, body = await ask(path, "GET", "/it")
    assert answered == status
    assert json.loads(body) == {"error": "no", "hint": error.hint, "exit_code": error.exit_code}


async def test_a_fault_of_ours_is_an_answer_without_its_inner_life_and_the_next_request_is_served(path):
    async def fail(asked):
        raise ZeroDivisionError("secret detail")

    async with serving(path, get_it=fail, get_echo=echo):
        status, _, body = await ask(path, "GET", "/it")
        assert (status, "error" in json.loads(body)) == (500, True)
        assert b"secret" not in body
        assert (await ask(path, "GET", "/echo"))[0] == 200


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[1]", b'"text"', b"null"])
async def test_a_body_that_is_no_json_object_is_refused(path, body):
    async with serving(path, post_echo=echo):
        status, _, answer = await ask(path, "POST", "/echo", body)
    assert (status, json.loads(answer)["exit_code"]) == (400, 1)
    assert "JSON" in json.loads(answer)["error"]


@pytest.mark.parametrize("body", [b'{"job": "a\\udcffb"}', b'{"parameters": {"a": "\\ud800"}}', b'{"\\ud800": 1}'])
async def test_a_body_that_holds_half_a_character_is_refused(path, body):
    async with serving(path, post_echo=echo):
        status, _, answer = await ask(path, "POST", "/echo", body)
        assert (status, json.loads(answer)["exit_code"]) == (409, 65)
        assert "no text" in json.loads(answer)["error"]
        assert (await ask(path, "POST", "/echo", b'{"job": "\\ud83d\\ude00"}'))[0] == 200


async def test_an_answer_that_holds_half_a_character_is_given_all_the_same(path):
    async def told(asked):
        return {"value": "a\ud800", "name": "ä"}

    async with serving(path, get_it=told):
        status, _, answer = await ask(path, "GET", "/it")
    assert (status, json.loads(answer)) == (200, {"value": "a\ud800", "name": "ä"})


async def test_a_body_beyond_the_limit_is_refused(path):
    async with serving(path, post_echo=echo):
        status, _, answer = await ask(path, "POST", "/echo", b'{"a": "' + b"x" * BODY_BYTES_MAX + b'"}')
    assert status == 400
    assert str(BODY_BYTES_MAX) in json.loads(answer)["error"]


async def test_another_method_or_path_is_not_answered(path):
    async with serving(path, get_echo=echo):
        assert (await ask(path, "POST", "/echo"))[0] == 405
        assert (await ask(path, "GET", "/other"))[0] == 404


async def test_an_answer_in_a_file_is_sent_and_the_file_removed(path, tmp_path):
    file = tmp_path / "answer.csv"

    async def answer(asked):
        file.write_bytes(b"a\n" * 100_000)
        return FileAnswer(file, "text/csv")

    async with serving(path, post_it=answer):
        status, head, body = await ask(path, "POST", "/it")
    assert (status, body) == (200, b"a\n" * 100_000)
    assert "content-type: text/csv" in head
    assert not file.exists()


async def test_requests_are_answered_side_by_side(path):
    both = asyncio.Barrier(2)

    async def wait(asked):
        await both.wait()
        return {}

    async with serving(path, get_it=wait):
        answers = await asyncio.gather(ask(path, "GET", "/it"), ask(path, "GET", "/it"))
    assert [status for status, _, _ in answers] == [200, 200]


# --- the socket -------------------------------------------------------------------------------------------


async def test_only_owner_and_group_may_talk_to_it(path):
    async with serving(path, get_echo=echo):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_ISSOCK(path.stat().st_mode)


async def test_the_socket_goes_with_the_daemon(path):
    async with serving(path, get_echo=echo):
        assert path.exists()
    assert not path.exists()


async def test_a_dead_daemons_socket_is_replaced(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with serving(path, get_echo=echo):
        assert (await ask(path, "GET", "/echo"))[0] == 200


async def test_a_living_daemons_socket_is_left_alone(path):
    async with serving(path, get_echo=echo):
        with pytest.raises(AlreadyRunningError):
            ControlSocket(path, {})
        assert (await ask(path, "GET", "/echo"))[0] == 200


def test_what_is_no_socket_is_not_removed(path):
    path.parent.mkdir()
    path.write_text("somebody's file")
    with pytest.raises(LandingdError, match="cannot listen") as refused:
        ControlSocket(path, {})
    assert "paths.socket" in str(refused.value)
    assert path.read_text() == "somebody's file"


def test_an_address_that_is_too_long_is_an_error_that_says_what_to_set(path):
    with pytest.raises(LandingdError, match="cannot listen") as refused:
        ControlSocket(path.parent / ("x" * 120), {})
    assert "paths.socket" in str(refused.value)
