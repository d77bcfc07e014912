"""Whose data may be that of which ensemble."""

from dataclasses import replace
from pathlib import Path

import pytest

from zkpy.config import Config, parse, read_properties
from zkpy.effects import Entry, EntryKind, Identity, Recovered, WriteIdentity
from zkpy.errors import ConfigError
from zkpy.server.founding import forget, mark_seed, plant, refuse_standalone_past
from zkpy.zab.quorum import VoterSet

ALONE = VoterSet.of([1])
THREE = VoterSet.of([1, 2, 3])
LINES = ("server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2")


def read(directory: Path, *lines: str) -> Config:
    text = "\n".join((f"dataDir={directory}", "clientPort=2181", *lines))
    return parse(read_properties(text, "zoo.cfg"), "zoo.cfg", 1)


def in_log(recovered: Recovered, voters: VoterSet) -> Recovered:
    recovered.entries.append(Entry(voters.version, int(EntryKind.CONFIG), voters.encode(), 0))
    return recovered


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


JOINT = ALONE.join(THREE.members, b"").at(7)
"""Proposed by 1, when it was alone."""


def test_a_change_that_the_log_has_lost_was_none(tmp_path: Path) -> None:
    """The record was ahead of it, at a power cut; what is in force is the set before."""
    known = held(ALONE).identity
    assert known is not None
    identity = replace(known, proposed_voters=JOINT.encode())
    with pytest.raises(ConfigError):
        refuse_standalone_past(read(tmp_path, *LINES), Recovered(identity))
    refuse_standalone_past(read(tmp_path, *LINES), Recovered(identity, image_zxid=7))


def test_a_change_that_the_record_does_not_have_yet_is_one(tmp_path: Path) -> None:
    """The power was cut between the log's write and the record's."""
    refuse_standalone_past(read(tmp_path, *LINES), in_log(held(ALONE), JOINT))
    shrunk = in_log(in_log(held(ALONE), JOINT), DECIDED)
    refuse_standalone_past(read(tmp_path, *LINES), shrunk)


def test_a_copy_of_a_seed_without_its_mark_may_be_marked_again(tmp_path: Path) -> None:
    """So may one whose making was broken off."""
    config, voters = read(tmp_path, *LINES), VoterSet.of([1])
    planted = plant(config, Recovered(), voters, bytes(16))
    assert planted.steps is not None
    (step,) = planted.steps.steps
    assert isinstance(step, WriteIdentity)
    with pytest.raises(ConfigError, match="zkpy init --seed"):
        refuse_standalone_past(config, Recovered(step.identity))
    assert plant(config, Recovered(step.identity), voters, bytes(16)).steps is None
    mark_seed(config)
    refuse_standalone_past(config, Recovered(step.identity))


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
