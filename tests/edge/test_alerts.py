"""Alerts against a real mail server and a real HTTP server, well and unwell; and what they say of their addresses."""

import asyncio
import logging
import threading
import warnings

import pytest

from destinations import free_port, mail_server, web_server
from landingd.edge.alerts import Alert, DeliveryError, MailServer, Sender, SenderOptions, unreadable
from landingd.edge.alerts.delivery import WHY_CHARS_MAX, without_secrets

TOKEN = "s3cr3t-T0ken-8f2k"  # noqa: S105 -- what must never be seen anywhere
PAYLOAD = {"event_id": "e" * 32, "event_type": "jobs.on_failure", "run": {"run_id": 17}, "rows": {"rows_in": 3}}

with warnings.catch_warnings():
    # Plugins that are not ours import modules of the standard library that will go.
    warnings.simplefilter("ignore", DeprecationWarning)
    from apprise import Apprise

    Apprise.instantiate("form://127.0.0.1")


def alert(destination="ops", channel="webhook", **more):
    return Alert(channel, destination, "shop: run 17 failed", "shop: run 17 failed.\n\nmore\n", PAYLOAD | more)


def mail(destination="on-call@example.com"):
    return alert(destination, "email")


def hooks(timeout_s=10.0, **destinations):
    return Sender(SenderOptions(None, destinations, timeout_s))


def mails(mailbox, timeout_s=10.0, **more):
    return Sender(SenderOptions(MailServer("127.0.0.1", "landingd@box", mailbox.port, **more), {}, timeout_s))


async def failure(sender, sent):
    with pytest.raises(DeliveryError) as error:
        await sender.send(sent)
    return error.value


# --- web hooks ------------------------------------------------------------------------------------------------


async def test_a_generic_web_hook_gets_our_json_as_the_whole_body():
    with web_server() as server:
        await hooks(ops=f"json://127.0.0.1:{server.port}/in/{TOKEN}").send(alert())
    ((path, headers, _),) = server.requests
    assert server.bodies == [PAYLOAD]
    assert path == f"/in/{TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "e" * 32
    assert headers["User-Agent"] == "landingd"


async def test_a_plain_http_address_will_do():
    with web_server() as server:
        await hooks(ops=f"http://127.0.0.1:{server.port}/in?key={TOKEN}").send(alert())
    assert server.bodies == [PAYLOAD]


async def test_what_an_address_adds_to_the_body_and_the_headers_is_sent_too():
    with web_server() as server:
        url = f"json://user:word@127.0.0.1:{server.port}/?:message=text&:team=data&+X-Key={TOKEN}"
        await hooks(ops=url).send(alert())
    assert server.bodies == [PAYLOAD | {"text": "shop: run 17 failed.\n\nmore", "team": "data"}]
    assert server.requests[0][1]["X-Key"] == TOKEN
    assert server.requests[0][1]["Authorization"].startswith("Basic ")


async def test_one_alert_after_another_is_sent_as_it_is():
    with web_server() as server:
        sender = hooks(ops=f"json://127.0.0.1:{server.port}")
        await sender.send(alert(one=1))
        await sender.send(alert(event_id="f" * 32))
    assert server.bodies == [PAYLOAD | {"one": 1}, PAYLOAD | {"event_id": "f" * 32}]
    assert [headers["Idempotency-Key"][0] for _, headers, _ in server.requests] == ["e", "f"]


async def test_a_chat_gets_the_text():
    with web_server() as server:
        server.answer = b"ok"
        sender = hooks(chat="slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops")
        slack = sender._hooks._made_for("chat", sender._options.destinations["chat"])[0]
        slack.webhook_url = f"http://127.0.0.1:{server.port}/services"  # the one thing of Slack that is not its own
        await sender.send(alert("chat"))
    (body,) = server.bodies
    written = str(body)
    assert "shop: run 17 failed" in written
    assert "#A32037" in written, "a failure is red"
    assert "http" not in written, "no picture is fetched from somewhere else"


@pytest.mark.parametrize(("status", "retry"), [(400, False), (413, False), (401, True), (404, True), (500, True)])
async def test_a_refusal_of_the_alert_is_final_and_a_refusal_of_the_call_is_not(status, retry):
    with web_server() as server:
        server.status, server.answer = status, b"no, because of the moon"
        error = await failure(hooks(ops=f"json://127.0.0.1:{server.port}/in"), alert())
    assert error.retry is retry
    assert not error.server
    assert str(status) in error.what
    assert "because of the moon" in error.what


async def test_a_server_that_is_away_is_named_with_the_cause():
    error = await failure(hooks(ops=f"json://127.0.0.1:{free_port()}/{TOKEN}"), alert())
    assert error.retry
    assert "127.0.0.1" in error.what
    assert "Connection refused" in error.what


async def test_an_id_that_is_not_configured_may_be_configured_later():
    error = await failure(hooks(), alert("nowhere"))
    assert error.retry
    assert "[alerts.destinations]" in error.what


async def test_a_server_that_does_not_answer_holds_nobody_up():
    with web_server() as dead, web_server() as well:
        dead.hold = threading.Event()
        sender = hooks(0.3, ops=f"json://127.0.0.1:{dead.port}", other=f"json://127.0.0.1:{well.port}")
        late = asyncio.create_task(failure(sender, alert()))
        await asyncio.to_thread(dead.arrived.wait, 10)
        await sender.send(alert("other"))
        assert not late.done() or late.result().retry
        assert (await late).retry
        assert len(well.requests) == 1


async def test_a_call_that_hangs_for_ever_is_not_made_twice(monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(Apprise, "notify", lambda *_, **__: held.wait(30))
    sender = hooks(0.05, ops="json://127.0.0.1:9")
    assert "no answer within" in (await failure(sender, alert())).what
    assert "earlier call" in (await failure(sender, alert())).what
    held.set()
    async with asyncio.timeout(10):
        while sender._calls:  # noqa: ASYNC110 -- the thread that comes back tells nobody
            await asyncio.sleep(0.01)


# --- mail -----------------------------------------------------------------------------------------------------


async def test_a_mail_arrives_with_subject_text_and_an_id_that_stays_the_same():
    with mail_server() as mailbox:
        await mails(mailbox).send(mail())
        await mails(mailbox).send(mail())
    first, second = mailbox.mails
    assert first["Subject"] == "shop: run 17 failed"
    assert first["From"] == "landingd@box"
    assert first["To"] == "on-call@example.com"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Message-ID"].endswith("@box>")
    assert first.get_content().replace("\r\n", "\n") == "shop: run 17 failed.\n\nmore\n"


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
async def test_a_mail_server_that_asks_for_a_password_gets_it():
    with mail_server(password=TOKEN) as mailbox:
        await mails(mailbox, username="me", password=TOKEN).send(mail())
        error = await failure(mails(mailbox, username="me", password="wrong"), mail())  # noqa: S106 -- it is wrong
    assert len(mailbox.mails) == 1
    assert error.retry
    assert error.server
    assert "535" in error.what


@pytest.mark.parametrize(
    ("answer", "retry"),
    [("550 5.1.1 no such user", False), ("451 try later", True), ("554 5.7.1 relay access denied", True)],
)
async def test_an_address_that_is_refused_says_nothing_about_others(answer, retry):
    with mail_server() as mailbox:
        mailbox.refuse["gone@example.com"] = answer
        error = await failure(mails(mailbox), mail("gone@example.com"))
        await mails(mailbox).send(mail())
    assert error.retry is retry
    assert not error.server
    assert answer[4:] in error.what
    assert len(mailbox.mails) == 1


async def test_a_mail_server_that_is_away_is_away_for_everybody():
    sender = Sender(SenderOptions(MailServer("127.0.0.1", "landingd@box", free_port())))
    error = await failure(sender, mail())
    assert error.retry
    assert error.server
    assert "Connection refused" in error.what


async def test_a_mail_server_that_is_silent_is_given_up_after_a_while():
    with web_server() as never_speaks_smtp:
        server = MailServer("127.0.0.1", "landingd@box", never_speaks_smtp.port)
        error = await failure(Sender(SenderOptions(server, timeout_s=0.2)), mail())
    assert error.retry
    assert error.server


async def test_encryption_that_the_server_does_not_speak_is_an_error_and_nothing_is_sent():
    with mail_server() as mailbox:
        for encryption in ("starttls", "tls"):
            error = await failure(mails(mailbox, 2.0, encryption=encryption, username="me", password=TOKEN), mail())
            assert error.retry
            assert error.server
    assert mailbox.mails == []


async def test_an_address_cannot_bring_headers_of_its_own():
    with mail_server() as mailbox:
        error = await failure(mails(mailbox), mail("a@b.c\r\nBcc: x@y.z"))
    assert not error.retry
    assert mailbox.mails == []


async def test_without_a_mail_server_a_mail_waits_for_one():
    error = await failure(hooks(), mail())
    assert error.retry
    assert error.server


def test_what_can_be_reached_is_known():
    sender = Sender(SenderOptions(MailServer("h", "s@h"), {"ops": "json://h"}))
    assert sender.channel_of("ops") == "webhook"
    assert sender.channel_of("a@b.c") == "email"
    assert sender.channel_of("nobody") is None
    assert hooks().channel_of("a@b.c") is None


# --- what is said of addresses --------------------------------------------------------------------------------


@pytest.fixture
def everything_logged():
    """What reaches the log of the process, at its loudest; the handlers of pytest hear what nobody else does."""
    said = []
    root, handler = logging.getLogger(), logging.Handler(1)
    handler.emit = lambda record: said.append(record.getMessage())
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(1)
    logging.getLogger("landingd.test").debug("heard")
    yield said
    root.removeHandler(handler)
    root.setLevel(before)
    assert "heard" in said


@pytest.mark.parametrize(
    "url",
    [
        f"json://user:{TOKEN}@127.0.0.1:{{port}}/{TOKEN}?:a={TOKEN}&-q={TOKEN}",
        f"https://127.0.0.1:{{port}}/{TOKEN}",
        f"form://127.0.0.1:{{port}}/{TOKEN}",
        f"xml://127.0.0.1:{{port}}/{TOKEN}",
        f"gotify://127.0.0.1:{{port}}/{TOKEN}",
        f"ntfy://user:{TOKEN}@127.0.0.1:{{port}}/{TOKEN}",
        f"slack://{TOKEN}/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        f"workflows://{TOKEN}",
        f"nosuch://{TOKEN}@h/{TOKEN}",
        f"{TOKEN}",
    ],
)
@pytest.mark.parametrize("status", [None, 403, 500])
async def test_no_error_and_no_log_ever_holds_a_part_of_an_address(url, status, capsys, everything_logged):
    with web_server() as server:
        server.status, server.answer = status or 200, f"bad token {TOKEN}".encode()
        address = url.format(port=server.port if status else free_port())
        faults = unreadable({"ops": address})
        assert faults or "127.0.0.1" in address, "no server is called that is not ours"
        error = await failure(hooks(ops=address), alert())
    said = [str(error), repr(error), *faults.values(), *everything_logged, *capsys.readouterr()]
    assert TOKEN.lower() not in "\n".join(said).lower()


def test_addresses_that_nobody_can_read_are_known_before_anything_happens():
    faults = unreadable(
        {
            "well": "json://127.0.0.1/x",
            "plain": "https://127.0.0.1/x",
            "slack": "slack://not-a-token",
            "typo": f"jsno://127.0.0.1/{TOKEN}",
            "empty": "",
        }
    )
    assert faults.keys() == {"slack", "typo", "empty"}
    assert "jsno" in faults["typo"]
    assert TOKEN not in "".join(faults.values())


def test_nothing_shows_the_addresses_or_the_password():
    options = SenderOptions(MailServer("h", "s@h", password=TOKEN), {"ops": f"json://h/{TOKEN}"})
    assert TOKEN not in repr(options)


def test_what_is_blacked_out_is_blacked_out_however_it_is_written():
    text = f"POST /{TOKEN.upper()} a%2Fb a/b x: ab"
    shown = without_secrets(text, f"json://h/{TOKEN}", "a%2Fb", "x")
    assert shown == "POST /*** *** *** ***: ab"
    assert len(without_secrets("word " * 1000)) == WHY_CHARS_MAX
