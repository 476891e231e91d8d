"""What README.md tells people to type has to be there."""

import re
from pathlib import Path

import typer

from landingd.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CODE = [*re.findall(r"^```[^\n]*\n(.*?)^```", README, re.DOTALL | re.MULTILINE), *re.findall(r"`([^`\n]+)`", README)]
# A command stands at the start of a line, after a prompt, a pipe or && -- else it is prose or a path.
START = r"(?:^|[$|;&(]|sudo)\s*(?:\.venv/bin/)?"


def commands(pattern: str) -> set[str]:
    return {word for text in CODE for word in re.findall(START + pattern, text, re.MULTILINE)}


VERB = r"landingd(?: --?[\w-]+[= ]\S+)* +([a-z][\w-]*)"
TARGET = r"make +([a-z][\w-]*)"


def known_verbs() -> set[str]:
    return set(getattr(typer.main.get_command(app), "commands", {}))


def known_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_tools_can_be_asked_what_they_know():
    assert {"serve", "validate", "run", "status"} <= known_verbs()
    assert {"demo", "test", "bench"} <= known_targets()


def test_landingd_has_every_verb_that_is_named():
    assert commands(VERB) - known_verbs() == set()


def test_make_has_every_target_that_is_named():
    assert commands(TARGET) - known_targets() == set()


def test_a_command_in_a_block_or_a_line_is_found(monkeypatch):
    block = "$ make demo\nlandingd --config x.toml query 'SELECT 1' | head\nsudo landingd serve\n"
    monkeypatch.setitem(globals(), "CODE", [block, "make test", "see landingd elsewhere", "config/landingd.toml is"])
    assert commands(VERB) == {"query", "serve"}
    assert commands(TARGET) == {"demo", "test"}
