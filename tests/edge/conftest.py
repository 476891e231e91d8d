"""Fixtures for whatever stands on a warehouse."""

import pytest

from landingd.edge.engine import EngineOptions, open_engine
from warehouses import Warehouse


@pytest.fixture
def options(tmp_path):
    (tmp_path / "landing").mkdir()
    return EngineOptions(tmp_path / "state" / "warehouse.duckdb", tmp_path / "scratch", tmp_path / "landing", threads=2)


@pytest.fixture
def engine(options):
    engine = open_engine(options)
    yield engine
    engine.close()


@pytest.fixture
def warehouse(engine, options):
    return Warehouse(engine, options)
