"""Run kazoo's own tests, unmodified, against one zkpy.

kazoo's test harness starts its servers with `java`; the script of that name
beside this file stands first on PATH and starts zkpy instead.  `known.py` is
loaded into pytest there: tests listed in known_failures.txt must fail, all others
must pass.

    python tests/conformance/run.py [--out DIR] [pytest arguments]

Leaves junit.xml and server.log in DIR.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("lock", "election", "barrier", "counter", "party", "queue", "watchers", "sasl")
OTHERS = ("test_client.py::TestSSLClient",)
PORTS_PER_SERVER = 5
SECONDS_PER_TEST = 90
SECONDS_IN_ALL = 600
UNEXPECTED_MAX = 3
"""A server that does not work at all costs a minute for every test (`--maxfail=0`: see all)."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options, extra = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out.resolve() / "server.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="zkpy-conformance-") as scratch:
        command = pytest_command(options.out.resolve() / "junit.xml", extra)
        status = run_group(command, environment(Path(scratch), log))
    if status:
        print(f"what the server printed: {log}")
    return status


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description="kazoo's own tests against one zkpy")
    parser.add_argument("--out", type=Path, default=Path("build/conformance"), metavar="DIR")
    return parser.parse_known_args()


def pytest_command(junit: Path, extra: list[str]) -> list[str]:
    """pytest on the installed files, with no configuration of a project around it."""
    site, tests = installed_tests()
    fixed = ["-c", os.devnull, "--rootdir", str(site), "-p", "no:cacheprovider", "-p", "known"]
    bounds = [f"--timeout={SECONDS_PER_TEST}", f"--maxfail={UNEXPECTED_MAX}"]
    shown = ["-q", "-rfEX", "--tb=short", "--disable-warnings", f"--junitxml={junit}"]
    return [sys.executable, "-m", "pytest", *fixed, *bounds, *shown, *extra, *map(str, tests)]


def installed_tests() -> tuple[Path, list[Path]]:
    spec = find_spec("kazoo")
    assert spec is not None and spec.origin is not None, "kazoo is not installed"
    package = Path(spec.origin).parent
    names = [*(f"test_{name}.py" for name in FILES), *OTHERS]
    return package.parent, [package / "tests" / name for name in names]


def environment(scratch: Path, log: Path) -> dict[str, str]:
    """What kazoo's harness and the shim read; CI makes kazoo believe the version it is told."""
    ours = {
        "PATH": f"{HERE}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(HERE),
        "TMPDIR": str(scratch),
        "CI": "1",
        "ZOOKEEPER_VERSION": "3.9.5",
        "ZOOKEEPER_CLASSPATH": "unused",
        "ZOOKEEPER_PORT_OFFSET": str(free_block()),
        "ZOOKEEPER_CLUSTER_SIZE": "1",
        "CONFORMANCE_PYTHON": sys.executable,
        "CONFORMANCE_LOG": str(log),
    }
    return {**os.environ, **ours}


def free_block() -> int:
    """The first of five neighbouring ports that nobody listens on."""
    for first in range(21000, 30000, 2 * PORTS_PER_SERVER):
        if all(is_free(first + number) for number in range(PORTS_PER_SERVER)):
            return first
    sys.exit("no block of free ports between 21000 and 30000")


def is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def run_group(command: list[str], env: dict[str, str]) -> int:
    """Run in a process group of its own, so that no server outlives the run."""
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        return process.wait(SECONDS_IN_ALL)
    except subprocess.TimeoutExpired:
        print(f"not done within {SECONDS_IN_ALL} s: ended")
        return 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
