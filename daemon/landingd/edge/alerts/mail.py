"""Mail, by SMTP (RFC 5321).

The library that carries the web hooks can mail too, but keeps to itself what the server answered; and the answer tells
whether another try can help.
"""

import hashlib
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate

from landingd.edge.alerts.delivery import Alert, DeliveryError, without_secrets


@dataclass(frozen=True, slots=True)
class MailServer:
    """How to reach the mail server."""

    host: str
    sender: str
    """The address that mail comes from."""
    port: int = 25
    encryption: str = "none"
    """none, starttls or tls."""
    username: str = ""
    password: str = field(default="", repr=False)


def send_mail(server: MailServer, alert: Alert, *, timeout_s: float) -> None:
    """Send the alert to its address, in one connection. Raises DeliveryError."""
    try:
        message = _message(server, alert)
        with _connected(server, timeout_s) as smtp:
            smtp.send_message(message, server.sender, [alert.destination])
    except smtplib.SMTPRecipientsRefused as error:
        code, answer = next(iter(error.recipients.values()))
        # 5.7: a rule of the server, such as for whom it relays (RFC 3463); that can be mended.
        retry = code < 500 or b" 5.7." in b" " + answer
        raise _failure(server, f"the address is refused: {code} {_text(answer)}", retry=retry) from None
    except smtplib.SMTPDataError as error:
        why = f"the mail is refused: {error.smtp_code} {_text(error.smtp_error)}"
        raise _failure(server, why, retry=error.smtp_code < 500) from None
    except smtplib.SMTPResponseException as error:
        # Greeting, login or sender: whatever is sent meets the same, until somebody changes a setting.
        raise _failure(server, f"{error.smtp_code} {_text(error.smtp_error)}", retry=True, server_wide=True) from None
    except (OSError, smtplib.SMTPException) as error:
        why = str(error) or type(error).__name__
        raise _failure(server, f"{server.host}:{server.port}: {why}", retry=True, server_wide=True) from None
    except ValueError as error:
        raise _failure(server, f"no mail can be made for it: {error}", retry=False) from None


def _connected(server: MailServer, timeout_s: float) -> smtplib.SMTP:
    if server.encryption == "tls":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=timeout_s, context=ssl.create_default_context()
        )
    else:
        smtp = smtplib.SMTP(server.host, server.port, timeout=timeout_s)
    try:
        if server.encryption == "starttls":
            smtp.starttls(context=ssl.create_default_context())
        if server.username:
            smtp.login(server.username, server.password)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _message(server: MailServer, alert: Alert) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = alert.subject
    message["From"] = server.sender
    message["To"] = alert.destination
    message["Date"] = formatdate(usegmt=True)
    # The same alert sent twice is the same mail: most mailboxes show it once.
    whom = hashlib.sha256(alert.destination.encode()).hexdigest()[:8]
    message["Message-ID"] = f"<{alert.payload['event_id']}.{whom}@{server.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: holiday notices are not sent back
    message["X-Landingd-Event"] = alert.payload["event_type"]
    message.set_content(alert.text)
    return message


def _failure(server: MailServer, why: str, *, retry: bool, server_wide: bool = False) -> DeliveryError:
    return DeliveryError(without_secrets(why, server.password), retry=retry, server=server_wide)


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
