"""The configuration: which place wins, and that no mistake in any of them passes in silence."""

import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.errors import ConfigError
from landingd.settings import load, reading

NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
NO_LOOPBACK = "must be a loopback address, since the embedded broker lets everybody in"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config" / "landingd.toml"
    file.parent.mkdir()
    file.write_text("")
    return file


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    return folder


def refused(config: Path, environ: dict[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config, environ or {}, **overrides)
    assert caught.value.exit_code == 78
    hidden = caught.value.__context__ is None or caught.value.__suppress_context__
    assert hidden, "the library's error shows what was given, and a traceback would show it"
    return str(caught.value)


# --- which place wins -------------------------------------------------------------------------------------


def test_credentials_win_over_the_file_the_environment_over_both_and_the_caller_over_all(
    config: Path, credentials: Path
):
    config.write_text('[mqtt]\nusername = "u"\npassword = "file"\nport = 1\nroot = "file"\nhost = "file"\n')
    for name, text in {"password": "secret\n", "port": "2", "root": "secret"}.items():
        (credentials / f"mqtt__{name}").write_text(text)
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "LANDINGD_MQTT__PORT": "3",
        "LANDINGD_MQTT__ROOT": "variable",
    }

    mqtt = load(config, environ, mqtt={"root": "caller"}).mqtt

    assert (mqtt.host, mqtt.password.get_secret_value(), mqtt.port, mqtt.root) == (
        "file",
        "secret",
        3,
        "caller",
    )


def test_the_environment_of_the_process_is_not_looked_at_when_another_is_passed_in(
    config: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LANDINGD_NODE", "process")
    assert load(config, {"LANDINGD_NODE": "passed"}).node == "passed"
    assert load(config, {}).node != "process"
    assert load(config).node == "process"


def test_a_variable_sets_a_boolean_a_number_and_a_path(config: Path):
    environ = {
        "LANDINGD_MQTT__ENABLED": "false",
        "LANDINGD_LANDING__QUIET_SECONDS": "0.25",
        "LANDINGD_PATHS__LANDING": "/srv/landing",
    }
    settings = load(config, environ)
    assert settings.mqtt.enabled is False
    assert settings.landing.quiet_seconds == 0.25
    assert settings.landing_dir == Path("/srv/landing")


def test_the_file_is_looked_for_in_the_variable_then_here_then_in_etc(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(config.parents[1])
    other = tmp_path / "other.toml"
    other.write_text('node = "other"')
    config.write_text('node = "here"')
    assert load(None, {"LANDINGD_CONFIG": str(other)}).node == "other"
    assert load(None, {}).node == "here"

    etc = tmp_path / "etc.toml"
    monkeypatch.setattr(reading, "CONFIG_PLACES", (Path("gone/landingd.toml"), etc))
    etc.write_text('node = "etc"')
    assert load(None, {}).node == "etc"


def test_without_any_file_the_places_that_were_looked_at_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "CONFIG_PLACES", (tmp_path / "a.toml", tmp_path / "b.toml"))
    with pytest.raises(ConfigError, match=r"neither .*/a\.toml nor .*/b\.toml is there\n  hint: .*LANDINGD_CONFIG"):
        load(None, {})


# --- paths ------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_base_and_the_base_at_the_folder_of_the_file(config: Path, tmp_path: Path):
    settings = load(config, {})
    assert settings.base == tmp_path
    assert settings.landing_dir == tmp_path / "landing"
    assert settings.pipelines_dir == tmp_path / "pipelines"
    assert settings.socket_path == tmp_path / "state/control.sock"
    assert settings.warehouse_file == tmp_path / "state/warehouse.duckdb"
    assert settings.ledger_file == tmp_path / "state/ledger.sqlite"
    assert settings.temp_dir == tmp_path / "state/temp"
    assert load(config, {}, base="sub").landing_dir == config.parent / "sub/landing"


def test_a_landing_root_that_is_a_link_is_followed(config: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "landing").symlink_to("elsewhere")
    assert load(config, {}).landing_dir == tmp_path / "elsewhere"


def test_a_linked_configuration_folder_counts_from_where_it_really_is(config: Path, tmp_path: Path):
    link = tmp_path / "etc" / "landingd"
    link.parent.mkdir()
    link.symlink_to(config.parent)
    assert load(link / config.name, {}).base == tmp_path


def test_a_state_folder_inside_the_landing_root_is_refused(config: Path):
    text = refused(config, {"LANDINGD_PATHS__STATE": "landing/state"})
    assert "paths.state: lies in the landing root" in text


def test_an_archive_inside_the_landing_root_is_refused(config: Path):
    text = refused(config, {"LANDINGD_PATHS__ARCHIVE": "landing/archive"})
    assert "paths.archive: lies in the landing root" in text


def test_a_socket_path_that_the_kernel_would_refuse_is_refused_now(config: Path):
    assert "paths.socket: is longer than the 107 bytes" in refused(config, {"LANDINGD_PATHS__SOCKET": "s" * 108})


# --- every fault, at once ---------------------------------------------------------------------------------


def test_every_fault_is_listed_with_its_place_its_value_and_what_was_meant(config: Path, credentials: Path):
    config.write_text(
        '[mqtt]\nport = 70000\nhots = "5"\n[landing]\nquiet_secs = 1\n[broker]\nhost = "0.0.0.0"\n[web]\nx = 1\n'
    )
    (credentials / "mqtt_password").write_text("x")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "LANDINGD_NDOE": "a",
        "LANDINGD_MQTT__PRT": "1",
        "LANDINGD_RUNS__MAX_CONCURRENT": "many",
    }

    lines = refused(config, environ).splitlines()

    assert lines == [
        "environment: LANDINGD_MQTT__PRT: no setting is called that",
        "  hint: did you mean 'LANDINGD_MQTT__PORT'?",
        "environment: LANDINGD_NDOE: no setting is called that",
        "  hint: did you mean 'LANDINGD_NODE'?",
        f"{credentials}: mqtt_password: no setting is called that",
        "  hint: did you mean 'mqtt__password'?",
        f"{config}:5: landing.quiet_secs: no setting is called that",
        "  hint: did you mean 'landing.quiet_seconds'?",
        f"environment: LANDINGD_RUNS__MAX_CONCURRENT: {NO_INTEGER} (got 'many')",
        f"{config}:2: mqtt.port: Input should be less than or equal to 65535 (got 70000)",
        f"{config}:3: mqtt.hots: no setting is called that",
        "  hint: did you mean 'mqtt.host'?",
        f"{config}:7: broker.host: {NO_LOOPBACK} (got '0.0.0.0')",
        f"{config}:8: web: no setting is called that",
    ]


def test_a_setting_in_the_wrong_section_is_pointed_to_the_right_one(config: Path):
    config.write_text("[mqtt]\nquiet_seconds = 1\n")
    assert refused(config).endswith("hint: did you mean 'landing.quiet_seconds'?")


def test_the_variable_that_names_the_file_is_no_misspelt_setting(config: Path):
    load(None, {"LANDINGD_CONFIG": str(config)})


def test_a_value_from_the_caller_is_not_blamed_on_the_file(config: Path):
    assert refused(config, mqtt={"port": 0}).startswith("command line: mqtt.port: ")


def test_a_section_that_is_a_value_is_called_one(config: Path):
    config.write_text('mqtt = "mqtt://me:hunter2@broker"\n')
    assert refused(config) == f"{config}:1: mqtt: is a section, not a value"


def test_a_missing_file_is_an_error_and_not_an_empty_one(tmp_path: Path):
    gone = tmp_path / "gone.toml"
    assert refused(gone) == f"{gone}: no such configuration file"
    assert refused(tmp_path) == f"{tmp_path}: no such configuration file"


def test_a_fault_of_syntax_is_told_with_file_and_line(config: Path):
    config.write_text("[mqtt]\nport = \n")
    assert refused(config) == f"{config}:2: is no valid TOML: Invalid value"


def test_a_file_that_is_no_text_is_told_by_name(config: Path):
    config.write_bytes(b"node = '\xff'")
    assert refused(config).startswith(f"{config}: the configuration cannot be read: ")


def test_a_credentials_directory_that_is_missing_is_an_error(config: Path, tmp_path: Path):
    text = refused(config, {"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")})
    assert text.endswith("CREDENTIALS_DIRECTORY names it, and there is no such directory")


@pytest.mark.parametrize(
    ("name", "text", "example"),
    [
        ("LANDINGD_MQTT__COMMANDS", "run", '["run", "pause"]'),
        ("LANDINGD_ALERTS__DESTINATIONS", '{oncall = "json://s3cret"}', '{"oncall": "json://host/path"}'),
    ],
)
def test_a_list_or_a_table_in_a_variable_is_json_and_the_variable_is_blamed(
    config: Path, name: str, text: str, example: str
):
    assert refused(config, {name: text}) == f"environment: {name}: is no JSON\n  hint: for example {example}"


def test_a_credential_that_is_no_json_is_blamed_too(config: Path, credentials: Path):
    (credentials / "alerts__destinations").write_text("oncall: json://s3cret")
    said = refused(config, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert said.startswith(f"{credentials}: alerts__destinations: is no JSON")
    assert "s3cret" not in said


def test_a_wrong_item_of_a_list_is_looked_for_where_the_list_came_from(config: Path):
    config.write_text('[mqtt]\nport = 1\ncommands = ["run", "fly"]\n')
    assert refused(config).startswith(f"{config}:3: mqtt.commands.1: ")
    said = refused(config, {"LANDINGD_MQTT__COMMANDS": '["fly"]'})
    assert said.startswith("environment: LANDINGD_MQTT__COMMANDS: ")


def test_a_destination_is_a_secret_even_where_a_table_should_be(config: Path):
    assert "s3cret" not in refused(config, {"LANDINGD_ALERTS__DESTINATIONS": '"json://s3cret"'})


# --- secrets ----------------------------------------------------------------------------------------------


def test_a_password_is_never_shown(config: Path):
    config.write_text('[mqtt]\nusername = "u"\npassword = "hunter2"\n')
    settings = load(config, {})
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    "toml",
    [
        '[mqtt]\npassword = ["hunter2"]\n',
        '[mqtt]\npasword = "hunter2"\n',
        '[mqt]\npassword = "hunter2"\n',
        '[mqtt]\npassword = "hunter2"\n',
        '[mqtt]\nusername = "u"\npassword = "hunter2"\nca_file = "ca.pem"\n',
    ],
)
def test_a_fault_near_a_password_does_not_show_it(config: Path, toml: str):
    config.write_text(toml)
    assert "hunter2" not in refused(config)


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"LANDINGD_MQTT__ROOT": "a//b"}, "must be a topic"),
        ({"LANDINGD_MQTT__ROOT": "$SYS"}, "must be a topic"),
        ({"LANDINGD_NODE": "a/b"}, "must be one topic level"),
        ({"LANDINGD_NODE": "a#"}, "must be a topic"),
        ({"LANDINGD_ENGINE__MEMORY_LIMIT": "80%"}, "must be a size with a unit"),
        ({"LANDINGD_ENGINE__CHECKPOINT_THRESHOLD": ""}, "at least 1 character"),
        ({"LANDINGD_LANDING__QUIET_SECONDS": "nan"}, "finite number"),
        ({"LANDINGD_LANDING__SCAN_INTERVAL_SECONDS": "0"}, "greater than or equal to 0.01"),
        ({"LANDINGD_BROKER__HOST": "localhost.example.org"}, "must be a loopback address"),
        ({"LANDINGD_MQTT__CA_FILE": "ca.pem"}, "ca_file is set while tls = false"),
        (
            {"LANDINGD_MQTT__TLS": "1", "LANDINGD_MQTT__KEY_FILE": "k"},
            "cert_file and key_file need each other",
        ),
        ({"LANDINGD_MQTT__PASSWORD": "p"}, "password is set without a username"),
        ({"LANDINGD_MQTT__RECONNECT_MIN_SECONDS": "60"}, "is less than reconnect_min_seconds"),
        ({"LANDINGD_LOG__LEVEL": "loud"}, "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_value_that_cannot_work_is_refused_at_the_start(config: Path, given: dict[str, str], reason: str):
    assert reason in refused(config, given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_embedded_broker_may_listen_on_a_loopback_address(config: Path, host: str):
    assert load(config, {"LANDINGD_BROKER__HOST": host}).broker.host == host


@given(hostname=st.text(max_size=20))
def test_whatever_the_host_is_called_the_node_is_one_topic_level(hostname: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: hostname)
        node = load(Path(__file__).parents[2] / "config/landingd.toml", {}).node
    assert node
    assert not set(node) & set("/+#\0")
