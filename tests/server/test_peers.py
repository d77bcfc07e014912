"""Learner links on loopback sockets: which of them the core hears of, and when they end."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from tests.server.conftest import Play
from wire.link import PeerConnection
from wire.peer import (
    NO_CLUSTER,
    FollowerInfo,
    Hello,
    LeaderInfo,
    encode_message,
)
from zkpy.config import parse_server
from zkpy.limits import Limits
from zkpy.server import peers as peers_module
from zkpy.server.addresses import Directory
from zkpy.server.peers import Peers
from zkpy.server.sockets import bind_everywhere

INFO = FollowerInfo(3, 0, NO_CLUSTER)


class Recorder:
    """What the core would hear."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.changed = asyncio.Event()
        self.halted: str | None = None

    def _note(self, call: object) -> None:
        self.calls.append(call)
        self.changed.set()

    def link_up(self, sid: int) -> None:
        self._note(("up", sid))

    def link_down(self, sid: int) -> None:
        self._note(("down", sid))

    def receive_peer(self, sid: int, messages: list[object]) -> None:
        self._note((sid, messages))

    def halt(self, why: str) -> None:
        self.halted = why

    async def until(self, *calls: object) -> None:
        """Wait until exactly these calls were made."""
        while len(self.calls) < len(calls):
            self.changed.clear()
            await self.changed.wait()
        assert self.calls == list(calls)


class Member:
    """One `Peers` with its socket; `target` is what its core wants to dial."""

    def __init__(self, number: int, ports: dict[int, int], limits: Limits) -> None:
        specs = [parse_server(n, f"127.0.0.1:{port}:{port ^ 1}") for n, port in ports.items()]
        self.inputs = Recorder()
        self.target: int | None = None
        self.hello = Hello(1, NO_CLUSTER, number, 7)
        self.peers = Peers(
            self.inputs,
            Directory(specs, number),
            limits,
            dial=lambda: self.target,
            greeting=lambda: self.hello,
        )

    def dial(self, target: int | None) -> None:
        self.target = target
        self.peers.keep()


@attrs.define
class Scene:
    members: dict[int, Member]
    ports: dict[int, int]
    sockets: dict[int, list[socket.socket]]
    writers: list[asyncio.StreamWriter] = attrs.Factory(list)

    async def knock(
        self, hello: Hello | None, to: int = 1
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection by hand, as a learner's."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[to])
        self.writers.append(writer)
        if hello is not None:
            writer.write(encode_message(hello))
        return reader, writer


@asynccontextmanager
async def scene(listening: tuple[int, ...] = (1, 2), **limits: int) -> AsyncIterator[Scene]:
    """Servers 1 and 2 of a configuration that has three."""
    sockets = {n: bind_everywhere("127.0.0.1", 0, socket.SOCK_STREAM) for n in (1, 2, 3)}
    ports = {n: int(opened[0].getsockname()[1]) for n, opened in sockets.items()}
    members = {n: Member(n, ports, Limits(**limits)) for n in (1, 2)}
    for n in listening:
        await members[n].peers.listen(sockets[n])
    it = Scene(members, ports, sockets)
    try:
        yield it
    finally:
        for writer in it.writers:
            writer.close()
        for member in members.values():
            member.peers.stop()
            assert member.inputs.halted is None
        for opened in sockets.values():
            opened[0].close()


def test_link_carries_messages_both_ways_in_one_write_each(play: Play[object]) -> None:
    async def act() -> None:
        async with scene() as it:
            learner, leader = it.members[1], it.members[2]
            learner.dial(2)
            await learner.inputs.until(("up", 2))
            await leader.inputs.until(("up", 1))
            learner.peers.send([(2, INFO), (3, INFO), (2, INFO)])
            await leader.inputs.until(("up", 1), (1, [INFO, INFO]))
            info = LeaderInfo(4, bytes(16), True)
            leader.peers.send([(1, info)])
            await learner.inputs.until(("up", 2), (2, [info]))

    play(act)


def test_link_that_the_core_closes_is_dialled_again(play: Play[object]) -> None:
    async def act() -> None:
        async with scene() as it:
            learner, leader = it.members[1], it.members[2]
            learner.dial(2)
            await leader.inputs.until(("up", 1))
            leader.peers.close(1)
            assert leader.inputs.calls == [("up", 1), ("down", 1)]
            await learner.inputs.until(("up", 2), ("down", 2), ("up", 2))
            await leader.inputs.until(("up", 1), ("down", 1), ("up", 1))
            learner.dial(None)
            learner.peers.close(2)
            await leader.inputs.until(("up", 1), ("down", 1), ("up", 1), ("down", 1))
            assert learner.inputs.calls[3:] == [("down", 2)]

    play(act)


def test_dialled_until_somebody_listens(play: Play[object]) -> None:
    async def act() -> None:
        async with scene(listening=(1,)) as it:
            learner, leader = it.members[1], it.members[2]
            refused = asyncio.Event()
            learner.peers.directory.look_again = refused.set  # type: ignore[method-assign]
            learner.dial(2)
            await refused.wait()
            await leader.peers.listen(it.sockets[2])
            await learner.inputs.until(("up", 2))

    play(act)


def test_an_address_without_a_socket_is_one_that_does_not_answer(
    play: Play[object], caplog: pytest.LogCaptureFixture
) -> None:
    """IPv6 switched off in the kernel, or no descriptor left: the others are tried, and again."""

    async def act() -> None:
        async with scene() as it:
            learner = it.members[1]
            places = learner.peers.directory.quorum(2)
            none = (socket.AF_APPLETALK, ("192.0.2.1", 1))
            learner.peers.directory.quorum = (  # type: ignore[method-assign]
                lambda sid: (none, *places)
            )
            learner.dial(2)
            await learner.inputs.until(("up", 2))

    play(act)
    assert "192.0.2.1 cannot be dialled" in caplog.text


def test_two_that_each_take_the_other_for_the_leader(play: Play[object]) -> None:
    """Only links that their own core asked for may carry a learner's words."""

    async def act() -> None:
        async with scene() as it:
            one, two = it.members[1], it.members[2]
            two.target = 1  # though it has not dialled yet
            one.dial(2)
            reader, _ = await it.knock(Hello(1, NO_CLUSTER, 1, 7), to=2)
            await reader.readexactly(len(encode_message(two.hello)))
            assert await reader.read() == b""
            assert two.inputs.calls == []
            two.target = None
            await two.inputs.until(("up", 1))
            assert one.inputs.calls[-1] == ("up", 2)

    play(act)


def test_newest_link_of_a_server_wins(play: Play[object]) -> None:
    async def act() -> None:
        async with scene() as it:
            inputs = it.members[1].inputs
            first, _ = await it.knock(Hello(1, NO_CLUSTER, 3, 7))
            await inputs.until(("up", 3))
            _, second = await it.knock(Hello(1, NO_CLUSTER, 3, 8))
            await inputs.until(("up", 3), ("down", 3), ("up", 3))
            assert (await first.read())[4:5] == b"\x01"
            second.write(encode_message(INFO))
            await inputs.until(("up", 3), ("down", 3), ("up", 3), (3, [INFO]))
            second.close()
            await inputs.until(("up", 3), ("down", 3), ("up", 3), (3, [INFO]), ("down", 3))

    play(act)


STRANGERS = {
    "no such server": (encode_message(Hello(1, NO_CLUSTER, 9, 7)), "there is no server.9"),
    "our own id": (encode_message(Hello(1, NO_CLUSTER, 1, 7)), "is a myid wrong?"),
    "another version": (encode_message(Hello(2, NO_CLUSTER, 3, 7)), "protocol version 2"),
    "no Hello": (encode_message(INFO), "FollowerInfo to the leader in hello"),
    "garbage": (b"GET / HTTP/1.0\r\n\r\n", "frame of"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_shown_the_door(
    play: Play[object], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    data, text = STRANGERS[name]

    async def act() -> None:
        async with scene() as it:
            reader, writer = await it.knock(None)
            writer.write(data)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readexactly(1000)
            assert it.members[1].inputs.calls == []
            assert it.members[1].peers.strangers == {}

    play(act)
    assert text in caplog.text


@pytest.mark.patches
def test_what_a_stranger_says_behind_its_hello_is_not_read(
    play: Play[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    plain = PeerConnection.receive_data

    def receive_data(self: PeerConnection, data: bytes) -> list[object]:
        read.append(data)
        return plain(self, data)

    async def act() -> None:
        async with scene() as it:
            monkeypatch.setattr(PeerConnection, "receive_data", receive_data)
            for sid in (9, 3):
                reader, writer = await it.knock(None)
                writer.write(encode_message(Hello(1, NO_CLUSTER, sid, 7)) + encode_message(INFO))
                if sid == 9:
                    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                        await reader.readexactly(1000)
                    assert read == []
            await it.members[1].inputs.until(("up", 3), (3, [INFO]))
            assert read == [b""]

    play(act)


def test_garbage_on_a_link_that_stands(play: Play[object]) -> None:
    async def act() -> None:
        async with scene() as it:
            _, writer = await it.knock(Hello(1, NO_CLUSTER, 3, 7))
            await it.members[1].inputs.until(("up", 3))
            writer.write(b"\0\0\0\2\x07x")  # SnapChunk, which no learner sends
            await it.members[1].inputs.until(("up", 3), ("down", 3))

    play(act)


def test_dialled_server_must_be_the_one(
    play: Play[object], caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        async with scene() as it:
            it.members[2].hello = Hello(1, NO_CLUSTER, 3, 7)
            it.members[1].dial(2)
            await it.members[2].inputs.until(("up", 1))
            await it.members[2].inputs.until(("up", 1), ("down", 1))
            assert it.members[1].inputs.calls == []

    play(act)
    assert "server 3 answers where server 2 should be" in caplog.text


@pytest.mark.parametrize("dials", [False, True], ids=["accepted", "dialled"])
def test_half_open_links_are_given_up(
    play: Play[object],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    dials: bool,
) -> None:
    """One that never says Hello: else a learner waits for its leader for ever."""
    monkeypatch.setattr(peers_module, "GREETING_S", 0.05)

    async def act() -> None:
        async with scene(listening=(1,)) as it:
            if dials:
                it.sockets[2][0].listen()  # the kernel says yes, and nobody says more
                it.members[1].dial(2)
                while "no greeting from server 2" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            else:
                reader, _ = await it.knock(None)
                await reader.readexactly(len(encode_message(it.members[1].hello)))
                assert await reader.read() == b""
            assert it.members[1].inputs.calls == []

    play(act)


def test_member_that_reads_nothing_is_dropped(
    play: Play[object], caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        async with scene(output_bytes_max=1 << 20) as it:
            one = it.members[1]
            await it.knock(Hello(1, NO_CLUSTER, 3, 7))
            await one.inputs.until(("up", 3))
            info = LeaderInfo(4, bytes(1 << 20), True)
            while ("down", 3) not in one.inputs.calls:
                one.peers.send([(3, info)])
                await asyncio.sleep(0)
            assert one.inputs.calls == [("up", 3), ("down", 3)]

    caplog.set_level(logging.WARNING)
    play(act)
    assert "dropping the link with server 3 (127.0.0.1)" in caplog.text


@pytest.mark.patches
def test_frame_for_several_links_is_encoded_once(
    play: Play[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []
    plain = PeerConnection.send

    def send(self: PeerConnection, message: object) -> bytes:
        encoded.append(message)
        return plain(self, message)

    async def act() -> None:
        async with scene() as it:
            links = [await it.knock(Hello(1, NO_CLUSTER, sid, 7)) for sid in (2, 3)]
            one = it.members[1]
            await one.inputs.until(("up", 2), ("up", 3))
            info = LeaderInfo(4, bytes(16), True)
            monkeypatch.setattr(PeerConnection, "send", send)
            one.peers.send([(2, info), (3, info)])
            want = encode_message(one.hello) + encode_message(info)
            for reader, _ in links:
                assert await reader.readexactly(len(want)) == want
            assert encoded == [info]

    play(act)
