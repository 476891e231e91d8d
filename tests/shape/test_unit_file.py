"""The unit file means what it says, exposes no more than it admits, and agrees with the settings."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from brokers import needed
from landingd.settings import load

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "landingd.service"
SETTINGS = ROOT / "systemd" / "landingd.toml"
EXPOSURE_MAX = 1.2


@pytest.fixture
def analyze() -> str:
    return needed("systemd-analyze")


def said(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def values(key: str) -> list[str]:
    """All that the unit sets a key to, top to bottom."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_systemd_understands_every_line(analyze: str, tmp_path: Path):
    """A key that it does not know makes it print a line and exit with 0, so what counts is silence."""
    copy = tmp_path / UNIT.name
    installed = values("ExecStart")[0].split()[0]
    copy.write_text(UNIT.read_text().replace(installed, shutil.which("true") or "/bin/true"))
    result = said(analyze, "verify", str(copy))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_line_that_systemd_does_not_understand_would_be_noticed(analyze: str, tmp_path: Path):
    copy = tmp_path / UNIT.name
    copy.write_text("[Service]\nExecStart=/bin/true\nProtectSytem=strict\n")
    assert "ProtectSytem" in said(analyze, "verify", str(copy)).stderr


def test_the_exposure_is_what_the_unit_says_it_is(analyze: str):
    limit = f"--threshold={EXPOSURE_MAX * 10:.0f}"
    result = said(analyze, "security", "--offline=true", "--no-pager", limit, str(UNIT))
    assert result.returncode == 0, result.stdout + result.stderr
    score = re.search(r"Overall exposure level for landingd\.service: ([\d.]+)", result.stdout)
    assert score
    assert f"systemd/landingd.service`: {score[1]}, where" in UNIT.read_text()


def test_the_settings_of_the_service_are_in_its_file_alone_where_operators_read_them_too():
    assert values("Environment") == []
    settings = load(SETTINGS, {})
    assert settings.base == Path(values("WorkingDirectory")[0])
    assert settings.state_dir == Path("/var/lib") / values("StateDirectory")[0]
    assert settings.socket_path.parent == Path(os.path.realpath("/run")) / values("RuntimeDirectory")[0]
    assert all(path.is_absolute() for path in settings.paths.model_dump().values())
    assert f"/etc/landingd/{SETTINGS.name}" in values("ExecStart")[0]


def test_the_landing_root_of_the_settings_is_the_one_that_the_service_may_write():
    assert str(load(SETTINGS, {}).paths.landing) == values("ReadWritePaths")[0].removeprefix("-")


def test_the_group_may_write_into_what_the_daemon_makes_in_the_landing_root_in_spite_of_its_umask():
    """Its umask keeps the ledger from the group; without the default ACL it would keep producers out as well."""
    lines = [line.split() for line in (ROOT / "systemd" / "landingd.tmpfiles").read_text().splitlines()]
    root = values("ReadWritePaths")[0].removeprefix("-")
    [acl] = [line[-1] for line in lines if line[:2] == ["a+", root]]
    assert acl == f"default:group:{values('SupplementaryGroups')[0]}:rwx"


def test_a_stop_leaves_more_time_than_the_runs_are_given_to_finish():
    drain_s = load(ROOT / "config" / "landingd.toml", {}).runs.drain_seconds
    assert float(values("TimeoutStopSec")[0]) >= 2 * drain_s


def test_the_credential_that_is_offered_is_a_setting(tmp_path: Path):
    [offered] = re.findall(r"^#LoadCredential=(\w+):", UNIT.read_text(), re.MULTILINE)
    (tmp_path / offered).write_text("hunter2")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "LANDINGD_MQTT__USERNAME": "landingd"}
    loaded = load(ROOT / "config" / "landingd.toml", environ)
    assert loaded.mqtt.password.get_secret_value() == "hunter2"


def test_users_and_groups_of_the_unit_are_those_that_are_created():
    created = (ROOT / "systemd" / "landingd.sysusers").read_text().split()
    for name in {*values("User"), *values("Group"), *values("SupplementaryGroups")}:
        assert name in created
