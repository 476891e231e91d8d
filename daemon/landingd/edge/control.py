"""The control socket: HTTP on a Unix socket, guarded by the socket's file permissions.

Who may open the socket may command the daemon; nobody else can reach it, and no port is opened. What the requests
mean is not known here: handlers come in, answers go out.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from landingd.errors import AlreadyRunningError, LandingdError, RefusedError
from landingd.model import FileAnswer, Handler, Parameters

log = structlog.get_logger("landingd.control")

BODY_BYTES_MAX = 1 << 20


_STATUS_OF_EXIT_CODE = {65: 409, 66: 404, 69: 503, 75: 503, 78: 422}


class _Server(uvicorn.Server):
    """The daemon stops by its own order of steps: uvicorn must not take SIGTERM for itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ControlSocket:
    """One listening socket. `handlers` maps "GET /v1/runs/{run_id}" to what answers it."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._listener = _listen(path)
        routes = [_route(pattern, handler) for pattern, handler in handlers.items()]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)

    async def serve(self) -> None:
        """Answer requests until `stop`."""
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Let `serve` return once the answers under way are sent."""
        self._server.should_exit = True


def _listen(path: Path) -> socket.socket:
    """Bind the socket for owner and group. A socket that nobody listens on is a dead daemon's: it is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise AlreadyRunningError(f"{path}: another landingd listens here")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise LandingdError(f"{path}: cannot listen: {error.strerror or error}", hint="see paths.socket") from error
    finally:
        os.umask(mask)
    listener.listen(64)
    return listener


def _route(pattern: str, handler: Handler) -> Route:
    method, path = pattern.split(" ", 1)

    async def endpoint(request: Request) -> Response:
        try:
            return _response(await handler(await _parameters(request)))
        except LandingdError as error:
            body = {"error": error.what, "hint": error.hint, "exit_code": error.exit_code}
            return JSONResponse(body, status_code=_STATUS_OF_EXIT_CODE.get(error.exit_code, 400))
        except Exception:
            log.exception("request_failed", request=pattern)
            return JSONResponse({"error": "the daemon failed to answer; its log says why"}, status_code=500)

    return Route(path, endpoint, methods=[method])


async def _parameters(request: Request) -> Parameters:
    parameters: Parameters = {**request.query_params, **request.path_params}
    if request.method == "GET":
        return parameters
    body = await request.body()
    if len(body) > BODY_BYTES_MAX:
        raise LandingdError(f"the request is larger than {BODY_BYTES_MAX} bytes")
    if body:
        try:
            sent = await request.json()
            json.dumps(sent, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # half a character, as "\\ud800": it could be kept, and not be told again
            near = error.object[max(0, error.start - 20) : error.end]
            raise RefusedError(f"the request holds what is no text: {near!r}") from error
        except ValueError as error:
            raise LandingdError(f"the request's body is no JSON: {error}") from error
        if not isinstance(sent, dict):
            raise LandingdError("the request's body is not a JSON object")
        parameters |= sent
    return parameters


def _response(answer: Any) -> Response:
    if isinstance(answer, FileAnswer):
        remove = BackgroundTask(answer.path.unlink, missing_ok=True)
        return FileResponse(answer.path, media_type=answer.media_type, background=remove)
    return _Json(answer)


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:  # what a task has set may hold half a character
            return json.dumps(content, separators=(",", ":")).encode()
