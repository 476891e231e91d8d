from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import Mosquitto
from daemons import LandingdProcess


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LandingdProcess]:
    """The job ORDERS, without a broker."""
    with LandingdProcess(tmp_path / "base") as process:
        yield process


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with Mosquitto(folder) as mosquitto:
        yield mosquitto
