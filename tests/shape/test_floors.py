"""Who may know whom. What is told apart here is what can be tested, read and changed apart."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "daemon"
PACKAGE = SOURCE / "landingd"
NOUNS = {"landingd.model", "landingd.errors"}
ROOF = {"landingd.cli", "landingd.supervisor", "landingd.settings", "landingd.__main__"}

NOT_FOR_CORE = {
    "asyncio", "concurrent", "fcntl", "glob", "http", "io.open", "logging", "os", "pathlib", "random",
    "secrets", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
"""Clocks, chance, files, threads: what makes a decision give another answer for the same values."""

ONLY_IN = {
    "aiomqtt": {"landingd.edge.broker"},
    "apprise": {"landingd.edge.alerts"},
    "charset_normalizer": {"landingd.edge.landing"},
    "amqtt": {"landingd.edge.embedded_broker"},
    "duckdb": {"landingd.edge.engine"},
    "starlette": {"landingd.edge.control"},
    "uvicorn": {"landingd.edge.control"},
    "watchdog": {"landingd.edge.watch"},
    "yaml": {"landingd.edge.jobfiles"},
    "zstandard": {"landingd.edge.landing"},
    # The last two open nothing: they name the type of the connection that `edge.ledger.views` gave them.
    "sqlite3": {"landingd.edge.ledger"},
}
LINES_MAX = 450


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules that a file imports anywhere, as dotted names; `from a import b` is `a.b` where that is one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which floor it goes to"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return frozenset(found)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "landingd"}


def foreign(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] not in {"landingd", *sys.stdlib_module_names}}


def below(name: str, floors: set[str]) -> bool:
    return any(name == floor or name.startswith(f"{floor}.") for floor in floors)


def on(floor: str) -> list[str]:
    return [name for name in MODULES if below(name, {f"landingd.{floor}"})]


def edge_of(name: str) -> str:
    """The edge that a module belongs to: a package below edge/ is one edge."""
    return ".".join(name.split(".")[:3])


def test_the_source_root_is_not_a_package():
    assert not (SOURCE / "__init__.py").exists()


def test_there_is_nothing_between_the_floors():
    floors = ("core", "edge", "flow", "cli", "supervisor", "settings")
    loose = set(MODULES) - {name for floor in floors for name in on(floor)}
    assert {name for name in loose if not below(name, NOUNS)} == {
        "landingd",
        "landingd.__main__",
    }


@pytest.mark.parametrize("name", [name for name in MODULES if below(name, NOUNS)])
def test_the_nouns_know_nothing_but_the_standard_library_and_each_other(name):
    assert foreign(MODULES[name]) == set()
    assert {other for other in ours(MODULES[name]) if not below(other, NOUNS)} == set()


@pytest.mark.parametrize("name", on("core"))
def test_core_decides_and_does_nothing_else(name):
    assert foreign(MODULES[name]) == set()
    assert {other for other in ours(MODULES[name]) if not below(other, {*NOUNS, "landingd.core"})} == set()
    assert {other for other in imports(MODULES[name]) if below(other, NOT_FOR_CORE)} == set()


@pytest.mark.parametrize("name", on("core"))
def test_core_reads_no_clock(name):
    asked = {node.attr for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Attribute)}
    assert asked.isdisjoint({"now", "today", "utcnow"})


@pytest.mark.parametrize("name", on("core"))
def test_core_opens_and_prints_nothing(name):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(MODULES[name].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"open", "print", "input", "exec", "eval"})


@pytest.mark.parametrize("name", on("edge"))
def test_an_edge_knows_the_nouns_and_itself(name):
    strangers = {other for other in ours(MODULES[name]) if not below(other, {*NOUNS, edge_of(name)})}
    assert strangers - {"landingd.edge"} == set()


@pytest.mark.parametrize("name", on("flow"))
def test_flow_knows_everything_below_it_and_nothing_above(name):
    assert {other for other in ours(MODULES[name]) if below(other, ROOF)} == set()


@pytest.mark.parametrize("name", on("settings"))
def test_settings_know_the_nouns_only(name):
    assert {o for o in ours(MODULES[name]) if not below(o, {*NOUNS, "landingd.settings"})} == set()


@pytest.mark.parametrize("name", [name for floor in ("core", "edge", "flow") for name in on(floor)])
def test_nobody_reaches_through_to_the_settings(name):
    assert {other for other in ours(MODULES[name]) if below(other, ROOF)} == set()


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_is_known_in_one_place(library):
    users = {name for name, path in MODULES.items() if library in {i.split(".")[0] for i in imports(path)}}
    assert users, f"nobody uses {library}"
    assert {name for name in users if not below(name, ONLY_IN[library])} == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_file_stays_short(name):
    path = MODULES[name]
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX, f"{lines} lines: time for a package"
