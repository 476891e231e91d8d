from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import Mosquitto
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
