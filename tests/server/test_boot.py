"""What the server makes of its configuration before it starts."""

import errno
import os
import random
import socket
from pathlib import Path

import attrs
import pytest

from zkpy.config import Config, parse, read_properties
from zkpy.effects import DiskBatch, Identity, Recovered, WriteIdentity
from zkpy.errors import ConfigError
from zkpy.limits import Limits
from zkpy.pipeline.digest_md5 import secret_of
from zkpy.server import boot
from zkpy.server.boot import (
    WINDOW_ALONE_BYTES,
    build_authenticator,
    build_replica,
    cannot_listen,
    limits_of,
    open_storage,
    refuse_hopeless,
    refuse_without_room,
)
from zkpy.server.clock import entropy
from zkpy.zab.quorum import VoterSet

ALONE = "dataDir=/data\nclientPort=2181"
SECURE = "secureClientPort=1\nssl.clientAuth=none\nssl.keyStore.location=/k.pem"
MEMBER = f"{ALONE}\nreconfigEnabled=true\nserver.1=a:2888:3888"
MEMBERS = f"{MEMBER}\nserver.2=b:2888:3888\nserver.3=c:2888:3888"


@pytest.mark.parametrize(
    ("text", "window_bytes"),
    [(ALONE, WINDOW_ALONE_BYTES), (MEMBER, None), (MEMBERS, None)],
    ids=["alone", "one member", "three members"],
)
def test_a_server_alone_keeps_no_entries_for_others(text: str, window_bytes: int | None) -> None:
    """One that is a member may be given learners while it runs."""
    config = parse(read_properties(text, "zoo.cfg"), "zoo.cfg", 1)
    expected = Limits().window_bytes_max if window_bytes is None else window_bytes
    assert limits_of(config).window_bytes_max == expected


BLANK = Recovered()
KNOWN = Recovered(Identity(bytes(16), 1, False, 0, b"", b"", 1))


def test_a_first_start_without_room_for_a_log_file_names_bytes_and_key() -> None:
    config = parse(read_properties(f"{ALONE}\npreAllocSize=1024", "zoo.cfg"), "zoo.cfg", 1)
    refuse_without_room(config, BLANK, lambda directories: 1024 * 1024)
    refuse_without_room(config, BLANK, lambda directories: None)
    refuse_without_room(config, KNOWN, lambda directories: 0)  # it has its file
    with pytest.raises(ConfigError, match=r"^/data: .* needs 1048576 bytes, and 9 .*preAllocSize"):
        refuse_without_room(config, BLANK, lambda directories: 9)


def test_a_port_that_this_user_may_not_have_is_not_said_to_be_taken() -> None:
    config = parse(read_properties("dataDir=/data\nclientPort=81", "zoo.cfg"), "zoo.cfg", 1)
    assert config.client is not None
    why = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    said = cannot_listen(config, config.client, why)
    assert said.startswith("cannot listen on *:81: Permission denied; ports below 1024")
    assert "is a server running there" not in said


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "does not resolve"),
        (OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)), "has no such address"),
    ],
)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{ALONE}\nclientPortAddress=256.1.1.1", "zoo.cfg:3: clientPortAddress=256.1.1.1: "),
        ("dataDir=/data\nserver.1=a:1:2;256.1.1.1:3", "zoo.cfg:2: server.1=a:1:2;256.1.1.1:3: "),
        (
            f"{ALONE}\n{SECURE}\nsecureClientPortAddress=256.1.1.1",
            "zoo.cfg:6: secureClientPortAddress=256.1.1.1: ",
        ),
    ],
)
def test_an_address_that_is_not_ours_is_named_with_file_line_and_key(
    text: str, line: str, why: OSError, reason: str
) -> None:
    config = parse(read_properties(text, "zoo.cfg"), "zoo.cfg", 1)
    address = config.secure or config.client
    assert address is not None
    said = cannot_listen(config, address, why)
    assert said.startswith(line) and reason in said and said.endswith("0.0.0.0 for all of them")


@pytest.mark.parametrize("me", [1, 4], ids=["voter", "observer"])
@pytest.mark.parametrize(
    ("lines", "has"),
    [("", "no server lines"), ("\nserver.{me}=127.0.0.1:2888:3888", "one server line")],
    ids=["no lines", "one line"],
)
def test_the_data_of_a_member_is_not_that_of_a_server_alone(
    tmp_path: Path, me: int, lines: str, has: str
) -> None:
    config = alone_with(tmp_path, me, lines.format(me=me))
    leave_data_of(config, me, VoterSet.of([1, 2, 3], [4]).at(7))
    storage, recovered = open_storage(config)
    storage.close()
    with pytest.raises(ConfigError) as refused:
        refuse_hopeless(config, recovered)
    assert str(refused.value).startswith(
        f"{tmp_path}: the data is that of server {me}, of an ensemble of voters 1 2 3, but "
        f"zoo.cfg has {has}: it needs a server.N line for each of them"
    )


def alone_with(data: Path, me: int, more: str) -> Config:
    text = f"dataDir={data}\nclientPort=0\nclientPortAddress=127.0.0.1{more}"
    return parse(read_properties(text, "zoo.cfg"), "zoo.cfg", me)


def leave_data_of(config: Config, me: int, voters: VoterSet) -> None:
    """What a member that has stopped leaves behind."""
    storage, _ = open_storage(config)
    encoded = voters.encode()
    identity = Identity(bytes(range(16)), me, False, 1, encoded, encoded)
    storage.execute(DiskBatch(1, [WriteIdentity(identity)]))
    storage.close()


@pytest.mark.parametrize("keeps_failed", [False, True])
def test_users_of_sasl(keeps_failed: bool) -> None:
    config = parse(read_properties(ALONE, "zoo.cfg"), "zoo.cfg", 1)
    assert build_authenticator(config).sasl is None
    config = attrs.evolve(
        config,
        sasl_users={"bob": "open-sesame"},
        sasl_super_users=("bob",),
        sasl_keeps_failed=keeps_failed,
    )
    sasl = build_authenticator(config).sasl
    assert sasl is not None
    assert sasl.secrets == {"bob": secret_of("bob", "open-sesame")}
    assert (sasl.super_users, sasl.keeps_failed) == (("bob",), keeps_failed)


def test_nonces_and_session_passwords_are_the_operating_systems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Python's own generator draws can be told from what it has drawn."""
    assert isinstance(entropy(), random.SystemRandom)

    class Source(random.SystemRandom):
        def getrandbits(self, bits: int) -> int:
            return 42 if bits == 63 else super().getrandbits(bits)

    monkeypatch.setattr(boot, "entropy", Source)
    config = parse(read_properties(ALONE, "zoo.cfg"), "zoo.cfg", 1)
    assert build_replica(config, BLANK).incarnation == 42
