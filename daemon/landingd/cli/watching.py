"""The daemon's topics as they come: one line per message."""

import asyncio
import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from landingd.edge.broker import Incoming, LinkLost, Message, connect
from landingd.errors import NotRunningError
from landingd.settings import Settings
from landingd.supervisor import broker_address

COLOURS = {"run_finished": "bold", "file_quarantined": "red", "file_loaded": "green", "task_finished": "cyan"}


async def follow(settings: Settings, *, count: int = 0, as_json: bool = False) -> None:
    """Print messages until `count` of them came (0: until interrupted)."""
    left = count or -1
    done = asyncio.Event()
    out = Console(highlight=False)

    def hear(message: Incoming) -> None:
        nonlocal left
        topic, payload = message.topic, message.payload
        if done.is_set() or not payload:  # an empty message clears a retained one
            return
        if as_json:
            print(json.dumps({"topic": topic, "payload": json.loads(payload)}), flush=True)
        else:
            out.print(line(topic.removeprefix(f"{settings.topic_root}/"), json.loads(payload)))
        left -= 1
        if left == 0:
            done.set()

    try:
        async with connect(broker_address(settings), will=_no_will(settings), client_id="") as link:
            await link.subscribe([f"{settings.topic_root}/#"])
            listening = asyncio.create_task(link.listen({"#": hear}))
            ended = asyncio.create_task(done.wait())
            await asyncio.wait({listening, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            listening.cancel()
            results = await asyncio.gather(listening, ended, return_exceptions=True)
            if isinstance(results[0], LinkLost):
                raise results[0]
    except LinkLost as error:
        raise NotRunningError(
            f"the broker at {settings.mqtt.host}:{settings.mqtt.port}: {error}",
            hint="see [mqtt] in landingd.toml",
        ) from error
    sys.stdout.flush()


def _no_will(settings: Settings) -> Message:
    """A subscriber has nothing to say when it leaves; the broker wants a will, so it is an empty one."""
    return Message(f"{settings.topic_root}/watchers", b"{}")


def line(topic: str, payload: dict[str, Any]) -> Text:
    """One message as one line."""
    event = payload.get("event", "state")
    text = Text(f"{(payload.get('time') or '')[11:23]:12} ", style="dim")
    text.append(f"{event:18}", style=COLOURS.get(event, ""))
    text.append(f" {topic}", style="dim")
    told = (
        "file",
        "result",
        "state",
        "rows_in",
        "rows_out",
        "rows_loaded",
        "rows_rejected",
        "how",
        "duration_ms",
        "reason",
        "error",
    )
    for key in told:
        if payload.get(key) not in {None, ""}:
            text.append(f"  {key}={payload[key]}")
    return text
