"""Put the parts together, keep them running, and stop them in order."""

from landingd.supervisor.daemon import Daemon
from landingd.supervisor.stores import (
    Stores,
    abilities,
    actor,
    broker_address,
    open_stores,
    preparer,
    root_options,
    runner,
)

__all__ = [
    "Daemon",
    "Stores",
    "abilities",
    "actor",
    "broker_address",
    "open_stores",
    "preparer",
    "root_options",
    "runner",
]
