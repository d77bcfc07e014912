"""The wheel serves outside the checkout, in a virtual environment with nothing else in it."""

import os
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from zkpy.testing.realserver import free_ports

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "wire", "zkpy", "recipes")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders in the tree that it is given."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy_source(ROOT / name, copy / name)
    into = tmp_path_factory.mktemp("dist")
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(into), str(copy)], check=True, cwd=into)
    (built,) = into.glob("*.whl")
    return built


def copy_source(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment that has the wheel and what it asks for.

    Made without pip, which Debian packages apart; the pip of the tests fills it."""
    directory = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(directory, with_pip=False)
    interpreter = directory / "bin" / "python"
    subprocess.run([*PIP, "--python", str(interpreter), "install", str(wheel)], check=True)
    return interpreter


def test_wheel_holds_the_three_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"wire", "zkpy", "recipes"}
    assert {"wire/py.typed", "zkpy/py.typed", "recipes/py.typed"} <= set(names)
    assert any(name.endswith("/LICENSE") for name in names)


@pytest.fixture
def server(python: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_ports(1)[0]
    command = [str(python.parent / "zkpy"), "serve", "--port", str(port)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "data")],
            cwd=tmp_path,
            env=clean,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield process, port
    process.kill()
    process.wait()


def test_installed_server_answers_and_stops(
    server: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    process, port = server
    client = KazooClient(f"127.0.0.1:{port}")
    try:
        client.start(timeout=30)
        client.create("/packed", b"in a wheel")
        assert client.get("/packed")[0] == b"in a wheel"
    finally:
        client.stop()
        client.close()
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=10)
    assert status == 0, (tmp_path / "log").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "log"]
