from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from brokers import Mosquitto
from crash.victim import Victim
from listening import Subscriber

pytest.register_assert_rewrite("crash.truth")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with Mosquitto(folder) as mosquitto:
        yield mosquitto


@pytest.fixture
def ear(broker: Mosquitto) -> Iterator[Subscriber]:
    """Hears everything from before the first start to after the last end."""
    with Subscriber(broker.port) as subscriber:
        yield subscriber


@pytest.fixture
def victim_with(tmp_path: Path, broker: Mosquitto) -> Iterator[Callable[..., Victim]]:
    """Makes the daemon with a job, and settings by their names in the environment."""
    made: list[Victim] = []

    def make(job: Mapping[str, str], **env: str) -> Victim:
        made.append(Victim(tmp_path / "base", broker.port, job, env=env))
        return made[-1]

    yield make
    for victim in made:
        victim.kill()
