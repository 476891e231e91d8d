"""Carry out what is asked for over MQTT, and answer.

A command is one of the requests of the control socket in another envelope. Messages come in on the link, which must
not wait; commands may take seconds, and many may come at once. So they wait in a bounded queue and are carried out
sixteen at a time, those for one job in the order in which they came. They belong to the daemon and not to the link: a
command goes on when its link breaks, and its answer is kept for the next one. An answer that the daemon takes down with
it, or that finds a thousand others waiting, is lost: who misses one sends the command again, with the same transaction.
"""

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import structlog

from landingd.core import commands
from landingd.core.commands import Command, Fault
from landingd.edge.broker import Incoming, Link, LinkLost, Message
from landingd.errors import LandingdError
from landingd.model import Handler

log = structlog.get_logger("landingd.commands")

AT_ONCE_MAX = 16
WAITING_MAX = 1000
ANSWERS_MAX = 1000
REMEMBERED_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Waiting:
    command: Command
    message: Incoming


class Commands:
    """Takes messages, carries out what they ask for (`run`), answers over each link (`serve`)."""

    def __init__(self, handlers: Mapping[str, Handler], *, prefix: str, allowed: frozenset[str]) -> None:
        """`handlers`: by route, as `Requests.handlers` gives them; `allowed`: the verbs that are carried out."""
        self._handlers = handlers
        self._prefix = prefix
        self._allowed = allowed
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING_MAX)
        self._answers: deque[Message] = deque(maxlen=ANSWERS_MAX)
        self._answered = asyncio.Event()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._done_once: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @property
    def topics(self) -> str:
        """The filter of the topics that commands come in on."""
        return f"{self._prefix}/command/+"

    def take(self, message: Incoming) -> None:
        """A message of one of these topics. It is answered, unless the broker has kept it from before."""
        verb = message.topic.rpartition("/")[2]
        if message.retained:
            # It would be carried out again at each reconnect, for as long as it lies there.
            log.warning("retained_command_ignored", verb=verb, topic=message.topic)
            return
        read = commands.parse(verb, message.payload, self._allowed)
        if isinstance(read, Command):
            try:
                self._waiting.put_nowait(_Waiting(read, message))
            except asyncio.QueueFull:
                busy = Fault(f"{WAITING_MAX} commands wait already", "send it again later", "busy")
                self._refuse(message, verb, read.transaction, busy)
        else:
            self._refuse(message, verb, read.transaction, read.fault)

    async def run(self) -> None:
        """Carry out what was taken, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE_MAX):
                group.create_task(self._work())

    async def serve(self, link: Link) -> None:
        """Send the answers, for as long as the link holds; what it has not taken goes over the next one."""
        while True:
            self._answered.clear()
            while messages := list(self._answers):
                count = await link.publish_all(messages)
                for message in messages[:count]:
                    if self._answers and self._answers[0] is message:  # else it was pushed out meanwhile
                        self._answers.popleft()
                if count < len(messages):
                    raise LinkLost("the link broke while answers were sent")
            await self._answered.wait()

    async def _work(self) -> None:
        while True:
            waiting = await self._waiting.get()
            answer = await self._in_turn(waiting.command)
            self._answer(waiting.message, waiting.command.verb, answer)

    async def _in_turn(self, command: Command) -> dict[str, Any]:
        if command.turn is None:
            return await self._carry_out(command)
        # A lock that nobody holds or waits for any more is forgotten with its last user.
        lock = self._turns.setdefault(command.turn, asyncio.Lock())
        async with lock:
            return await self._carry_out(command)

    async def _carry_out(self, command: Command) -> dict[str, Any]:
        if command.once is not None and command.once in self._done_once:
            return self._done_once[command.once]
        asked = {"verb": command.verb, "transaction": command.transaction}
        try:
            result = await self._handlers[command.route](dict(command.body))
        except LandingdError as error:
            log.warning("command_refused", error=error.what, **asked)
            fault = Fault(error.what, error.hint, commands.code_of(error.exit_code))
            return commands.answer(command.transaction, fault=fault)
        except Exception:
            log.exception("command_failed", **asked)
            fault = Fault("the daemon failed to answer; its log says why", code="failed")
            return commands.answer(command.transaction, fault=fault)
        log.info(
            "command_done", **asked, **{name: command.body[name] for name in command.body.keys() & {"job", "run_id"}}
        )
        answer = commands.answer(command.transaction, result=result)
        if command.once is not None:
            self._done_once[command.once] = answer
            if len(self._done_once) > REMEMBERED_MAX:
                self._done_once.popitem(last=False)
        return answer

    def _refuse(self, message: Incoming, verb: str, transaction: commands.Transaction, fault: Fault) -> None:
        log.warning("command_refused", verb=verb, code=fault.code, error=fault.what)
        self._answer(message, verb, commands.answer(transaction, fault=fault))

    def _answer(self, message: Incoming, verb: str, answer: Mapping[str, Any]) -> None:
        payload = json.dumps(answer, separators=(",", ":"), default=str).encode()
        usual = f"{self._prefix}/response/{verb}"
        wanted = message.response_topic
        if wanted is not None and not commands.may_answer_on(wanted, prefix=self._prefix):
            log.warning("response_topic_refused", verb=verb, response_topic=wanted)
            wanted = None
        if wanted != usual:
            self._say(Message(usual, payload))
        if wanted is not None:
            self._say(Message(wanted, payload, correlation=message.correlation))
        self._answered.set()

    def _say(self, answer: Message) -> None:
        if len(self._answers) == ANSWERS_MAX:
            log.error("answer_given_up", topic=self._answers[0].topic)
        self._answers.append(answer)
