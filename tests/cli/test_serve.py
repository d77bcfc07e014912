"""`zkpy serve` and its short forms, up to the Config they make; help, and bad calls."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zkpy import __version__
from zkpy.cli.main import is_short_form, zkpy
from zkpy.cli.serve import build_config
from zkpy.config import ClientAddress
from zkpy.errors import ConfigError


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={tmp_path / 'data'}\nclientPort=2181\n")
    return path


def test_without_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = build_config(None, None, None, ())
    assert found.client == ClientAddress("127.0.0.1", 2181)
    assert found.data_dir == str(tmp_path / "zkpy-data")
    found = build_config(None, 0, "/d", ("snapCount=9",))
    assert found.client == ClientAddress("127.0.0.1", 0)
    assert (found.data_dir, found.limits.snap_entries) == ("/d", 9)


def test_options_over_a_file(zoo: Path) -> None:
    found = build_config(str(zoo), 0, "/d", ("clientPort=5", "zookeeper.tickTime=70"))
    assert (found.client, found.data_dir) == (ClientAddress("", 0), "/d")
    assert found.limits.tick_ms == 70


def test_bad_option() -> None:
    with pytest.raises(ConfigError, match="^-D nonsense: key=value is needed"):
        build_config(None, None, None, ("nonsense",))


@pytest.mark.parametrize(
    ("arguments", "short"),
    [
        (["/etc/zoo.cfg"], True),
        (["-Dkey=value", "/etc/zoo.cfg"], True),
        (["-D", "key=value"], True),
        (["serve", "zoo.cfg"], False),
        (["--help"], False),
        (["frobnicate"], False),
        ([], False),
    ],
)
def test_short_forms(arguments: list[str], short: bool) -> None:
    assert is_short_form(arguments) is short


def test_short_form_with_any_existing_file(zoo: Path) -> None:
    other = zoo.rename(zoo.with_name("settings"))
    assert is_short_form([str(other)])


def test_help_names_the_commands() -> None:
    said = CliRunner().invoke(zkpy, ["--help"])
    assert said.exit_code == 0
    assert "serve" in said.output


def test_help_of_serve() -> None:
    said = CliRunner().invoke(zkpy, ["serve", "--help"])
    assert said.exit_code == 0
    assert all(option in said.output for option in ("--port", "--data-dir", "-D KEY=VALUE"))


def test_version() -> None:
    assert CliRunner().invoke(zkpy, ["--version"]).output == f"zkpy {__version__}\n"


def test_unknown_command() -> None:
    said = CliRunner().invoke(zkpy, ["frobnicate"])
    assert said.exit_code == 2
    assert "No such command 'frobnicate'" in said.output


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zkpy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_bad_configuration_is_one_line_and_exit_code_1(zoo: Path) -> None:
    zoo.write_text("dataDir=/d\nclientPort=many\n")
    done = run(str(zoo))
    assert done.returncode == 1
    assert done.stderr == (
        f"zkpy: {zoo}:2: clientPort=many: a whole number, from 0 to 65535, is needed\n"
    )


def test_help_imports_no_event_loop() -> None:
    """`--help` and mistakes are answered at once; only a server pays for the rest."""
    script = (
        "import sys; from zkpy.cli import main\n"
        "try: main(['serve', '--help'])\n"
        "finally: print(sorted(sys.modules.keys() & {'asyncio', 'uvloop', 'cbor2'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
