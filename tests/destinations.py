"""For tests of alerts: a mail server and an HTTP server on loopback ports, which can be slow, refuse, or be away."""

import json
import socket
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult


def free_port():
    """A port where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Mailbox:
    """What a mail server has taken; `refuse` maps an address to what is answered instead."""

    def __init__(self):
        self.mails = []
        self.refuse = {}
        self.arrived = threading.Event()

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 -- aiosmtpd's name
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 -- aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.arrived.set()
        return "250 OK"


class _Controller(Controller):
    def factory(self):
        return SMTP(self.handler, **self.SMTP_kwargs)


@contextmanager
def mail_server(port=0, *, password=None, **more):
    """A mail server; with `password` only who knows it may send."""
    if password is not None:

        def authenticate(server, session, envelope, mechanism, login):
            return AuthResult(success=login.password == password.encode(), handled=False)

        more |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": False}
    mailbox = Mailbox()
    controller = _Controller(mailbox, hostname="127.0.0.1", port=port or free_port(), **more)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


class Hook(ThreadingHTTPServer):
    """An HTTP server that keeps what it was sent; `status` is what it answers, and `hold` makes it wait first."""

    daemon_threads = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.status = 200
        self.answer = b""
        self.requests = []
        self.hold = None
        self.arrived = threading.Event()

    @property
    def port(self):
        return self.server_address[1]

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.requests]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.arrived.set()
        if self.server.hold is not None:
            self.server.hold.wait(30)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        pass


@contextmanager
def web_server(port=0):
    server = Hook(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        if server.hold is not None:
            server.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
