"""config/landingd.toml is the settings as an operator reads them: it may say nothing else than the code."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from landingd.settings import Settings, load

CONFIG = Path(__file__).parents[2] / "config" / "landingd.toml"


def sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting under its dotted name, in the order of the code."""
    inside = dict(sections(Settings))
    yield from ((name, field) for name, field in Settings.model_fields.items() if name not in inside)
    for section, model in inside.items():
        yield from ((f"{section}.{name}", field) for name, field in model.model_fields.items())


def plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def leaves(table: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield prefix + name, value


def commented() -> dict[str, str]:
    """What the comment right above a line says of the setting, or of the section, that stands on it."""
    meanings: dict[str, str] = {}
    comment: list[str] = []
    section = ""
    for line in CONFIG.read_text().splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if line.startswith("["):
            section = line.strip("[]") + "."
            meanings[section] = " ".join(comment)
        elif "=" in line:
            meanings[section + line.partition(" =")[0]] = " ".join(comment)
        comment = []
    return meanings


def test_the_file_has_every_setting_with_its_default_in_the_order_of_the_code_and_nothing_else():
    expected = [(name, plain(field.default)) for name, field in settings()]
    assert list(leaves(tomllib.loads(CONFIG.read_text()))) == expected


@pytest.mark.parametrize(("name", "field"), list(settings()))
def test_the_comment_above_a_setting_is_its_docstring(name: str, field: FieldInfo):
    assert field.description, f"{name} has no docstring"
    assert commented()[name] == " ".join(field.description.split())


@pytest.mark.parametrize(("name", "model"), list(sections(Settings)))
def test_the_comment_above_a_section_is_its_docstring(name: str, model: type[BaseModel]):
    assert commented()[f"{name}."] == " ".join((model.__doc__ or "").split())


def test_the_file_is_accepted_and_puts_the_base_at_the_folder_above_it():
    loaded = load(CONFIG, {})
    assert loaded.base == CONFIG.parents[1]
    assert loaded.model_copy(update={"base": Path("..")}).model_dump() == Settings().model_dump()
