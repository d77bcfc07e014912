"""Whose data may be that of which ensemble."""

from pathlib import Path

import pytest

from zkpy.config import Config, parse, read_properties
from zkpy.effects import Identity, Recovered
from zkpy.errors import ConfigError
from zkpy.server.founding import forget, mark_seed, refuse_standalone_past
from zkpy.zab.quorum import VoterSet

ALONE = VoterSet.of([1])
THREE = VoterSet.of([1, 2, 3])
LINES = ("server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2")


def read(directory: Path, *lines: str) -> Config:
    text = "\n".join((f"dataDir={directory}", "clientPort=2181", *lines))
    return parse(read_properties(text, "zoo.cfg"), "zoo.cfg", 1)


def held(voters: VoterSet, founding: bool = False) -> Recovered:
    encoded = voters.encode()
    identity = Identity(bytes(16), 1, founding, 0, encoded, encoded)
    return Recovered(identity)


def test_a_server_that_was_alone_is_no_member_by_lines(tmp_path: Path) -> None:
    """The others, empty, would found an ensemble without it."""
    config = read(tmp_path, *LINES)
    with pytest.raises(ConfigError, match=r"^zoo.cfg: server.2, server.3: .*`zkpy reconfig`"):
        refuse_standalone_past(config, held(ALONE))
    mark_seed(config)
    refuse_standalone_past(config, held(ALONE))
    forget(config, held(ALONE))
    refuse_standalone_past(config, held(ALONE))
    forget(config, held(THREE))
    with pytest.raises(ConfigError):
        refuse_standalone_past(config, held(ALONE))


def test_one_that_is_to_observe_others_is_none_either(tmp_path: Path) -> None:
    config = read(tmp_path, f"{LINES[0]}:observer", LINES[1])
    with pytest.raises(ConfigError, match="server.2: "):
        refuse_standalone_past(config, held(ALONE))


DECIDED = ALONE.join(THREE.members, b"").at(7).leave().join(ALONE.members, b"").at(8).leave()


@pytest.mark.parametrize(
    ("lines", "recovered"),
    [
        (LINES, Recovered()),
        (LINES, held(ALONE, founding=True)),
        (LINES, held(THREE)),
        (LINES, held(ALONE.join(THREE.members, b""))),
        (LINES, held(DECIDED)),
        (LINES[:1], held(ALONE)),
        ((LINES[0], f"{LINES[1]}:observer"), held(ALONE)),
        ((), held(ALONE)),
    ],
    ids=["empty", "founding", "grown", "growing", "shrunk", "own line", "observers", "alone"],
)
def test_others_start(tmp_path: Path, lines: tuple[str, ...], recovered: Recovered) -> None:
    refuse_standalone_past(read(tmp_path, *lines), recovered)
