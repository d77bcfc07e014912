"""What ZooKeeper holds, taken over by zkpy, and handed back: everybody sees the same tree."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.differential import servers
from tests.differential.duel import Difference, Duel

MOVE_S: Final = 120


def move(scratch: Path, data: Path, classes: str, recent: bool) -> str:
    """The first difference, if there is one.  `data`: of a ZooKeeper that was stopped."""
    place = scratch / "moving"
    place.mkdir()
    config = place / "import.cfg"
    config.write_text(f"dataDir={place / 'imported'}\nclientPort=0\n")
    _zkpy("import", str(config), "--from", str(data))
    found = _compare(place, classes, data, place / "imported", recent)
    if found is not None:
        return f"imported: {found}"
    _zkpy("export", str(config), "--to", str(place / "exported"))
    found = _compare(place, classes, place / "exported", place / "imported", recent)
    return "" if found is None else f"exported: {found}"


def _zkpy(*arguments: str) -> None:
    command = [sys.executable, "-m", "zkpy", *arguments]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=servers.environment(),
        timeout=MOVE_S,
        check=False,
    )
    print(done.stdout.splitlines()[0] if done.stdout else f"zkpy {arguments[0]} said nothing")
    if done.returncode:
        sys.exit(f"zkpy {arguments[0]}: {done.stdout}")


def _compare(
    place: Path, classes: str, theirs: Path, ours: Path, recent: bool
) -> Difference | None:
    started = [servers.start_zookeeper(place, classes, theirs)]
    try:
        started.append(servers.start_zkpy(place, ours))
        for server in started:
            server.wait()
        duel = Duel(started[0].port, started[1].port, tells_event_zxids=recent)
        return duel.inspect("/")
    finally:
        for server in started:
            server.stop()
