"""Election datagrams on loopback sockets, and where members are looked for."""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator

import attrs
import pytest

from tests.server.conftest import Play
from wire.peer import NO_CLUSTER, Notification, encode_notification
from zkpy.config import parse_server
from zkpy.server import addresses, sockets
from zkpy.server.addresses import GUESTS_MAX, Directory, places_of
from zkpy.server.sockets import bind_everywhere, close_all
from zkpy.server.votes import DRAIN_MAX, Votes

LOOKING, FOLLOWING = 0, 1


def vote(sid: int, sequence: int = 1, role: int = LOOKING) -> Notification:
    return Notification(role, 0, NO_CLUSTER, sid, 7, sequence, 0, 1, sid, 0, 0)


@attrs.define(eq=False)
class Booth:
    """Server 1 with its socket; `other` stands in for server 2, at 127.0.0.1 too."""

    directory: Directory
    own: socket.socket
    other: socket.socket
    heard: list[tuple[int, Notification]] = attrs.Factory(list)
    news: asyncio.Event = attrs.Factory(asyncio.Event)
    now: int = 1000

    def votes(self, *keys: bytes, takes_unsigned: bool = False) -> Votes:
        now = lambda: self.now  # noqa: E731
        return Votes(
            [self.own], self.directory, self.hear, now, keys=keys, takes_unsigned=takes_unsigned
        )

    def hear(self, sid: int, notification: Notification) -> None:
        self.heard.append((sid, notification))
        self.news.set()

    async def until(self, count: int) -> None:
        while len(self.heard) < count:
            self.news.clear()
            await self.news.wait()

    def tell(self, data: bytes) -> None:
        self.other.sendto(data, self.own.getsockname())


@pytest.fixture
def booth() -> Iterator[Booth]:
    own, other = (bind_everywhere("127.0.0.1", 0, socket.SOCK_DGRAM)[0] for _ in range(2))
    specs = [
        parse_server(1, "127.0.0.1:1:2"),
        parse_server(2, f"127.0.0.1:1:{other.getsockname()[1]}"),
        parse_server(3, "127.0.0.3:1:2"),
    ]
    with own, other:
        yield Booth(Directory(specs, 1), own, other)


def test_votes_go_both_ways(play: Play[object], booth: Booth) -> None:
    async def act() -> None:
        votes = booth.votes()
        votes.start()
        votes.send(2, vote(1))
        assert booth.other.recv(600) == encode_notification(vote(1))
        booth.tell(encode_notification(vote(2)))
        await booth.until(1)
        votes.stop()

    booth.other.setblocking(True)
    play(act)
    assert booth.heard == [(2, vote(2))]


def test_more_than_one_turn_takes(play: Play[object], booth: Booth) -> None:
    count = 2 * DRAIN_MAX + 1

    async def act() -> None:
        votes = booth.votes()
        votes.start()
        for number in range(count):
            booth.tell(encode_notification(vote(2, number)))
        await booth.until(count)
        votes.stop()

    play(act)
    assert [n.sequence for _, n in booth.heard] == list(range(count))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (encode_notification(vote(3)), "server 3 is not there"),
        (encode_notification(vote(9)), "there is no other server 9"),
        (encode_notification(vote(1)), "there is no other server 1"),
        (b"", "datagram of 0 bytes"),
        (bytes(2000), "datagram of 513 bytes"),
        (bytes(len(encode_notification(vote(2)))), "datagram of another protocol"),
    ],
)
def test_what_does_not_count(
    play: Play[object], booth: Booth, caplog: pytest.LogCaptureFixture, data: bytes, text: str
) -> None:
    async def act() -> None:
        votes = booth.votes()
        votes.start()
        for _ in range(5):
            booth.tell(data)
        booth.tell(encode_notification(vote(2)))
        await booth.until(1)
        votes.stop()

    play(act)
    assert booth.heard == [(2, vote(2))]
    (line,) = caplog.messages
    assert line.startswith("ignoring datagrams from 127.0.0.1: ")
    assert line.endswith(text)


def test_a_guest_is_answered_where_it_asked_from(play: Play[object], booth: Booth) -> None:
    """A server that is about to join: nobody has its address, and many come and go."""
    booth.directory = Directory(booth.directory.specs.values(), 1, hosts_guests=True)

    async def act() -> None:
        votes = booth.votes()
        votes.start()
        booth.tell(encode_notification(vote(9)))
        booth.tell(encode_notification(vote(1)))
        await booth.until(1)
        votes.send(9, vote(1))
        assert booth.other.recv(600) == encode_notification(vote(1))
        for sid in range(10, 10 + GUESTS_MAX):
            booth.tell(encode_notification(vote(sid)))
        await booth.until(1 + GUESTS_MAX)
        votes.stop()

    booth.other.setblocking(True)
    play(act)
    assert 1 not in [sid for sid, _ in booth.heard], "nobody else is this server"
    assert booth.directory.election(9) == () != booth.directory.election(10)
    assert booth.directory.quorum(10) == (), "nobody dials a guest"


def test_silence_is_told_once(
    play: Play[object], booth: Booth, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        votes = booth.votes()
        votes.start()
        for _ in range(21):
            votes.send(2, vote(1))
            votes.send(3, vote(1))
            if booth.now == 6000:  # half-way server 2 answers
                booth.tell(encode_notification(vote(2)))
                await booth.until(1)
            booth.now += 1000
        votes.stop()

    caplog.set_level(logging.WARNING)
    play(act)
    silent_3, silent_2 = caplog.messages
    assert silent_3.startswith("no answer from server 3 (127.0.0.3:2) for 10 s: ")
    assert "is UDP open" in silent_3
    assert silent_2.startswith("no answer from server 2 ")


def test_nobody_waits_for_a_guest(booth: Booth) -> None:
    """Anybody can claim to be one, under any number."""
    booth.directory = Directory(booth.directory.specs.values(), 1, hosts_guests=True)
    votes = booth.votes()
    for sid in (2, *range(1000, 1100)):
        booth.directory.meet(sid, socket.AF_INET, booth.other.getsockname())
        votes.send(sid, vote(1))
    assert list(votes._searches) == [2]


def test_a_member_without_address_is_not_said_to_be_silent(
    booth: Booth, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name cannot be looked up: nobody was asked, and UDP has nothing to do with it."""
    booth.directory = Directory([parse_server(2, "zk2.invalid:1:2")], 1)
    votes = booth.votes()
    for _ in range(12):
        votes.send(2, vote(1))
        booth.now += 1000
    assert caplog.messages == ["the name of server 2 (zk2.invalid) cannot be looked up"]


def test_answers_of_a_settled_member_ask_for_nothing(
    booth: Booth, caplog: pytest.LogCaptureFixture
) -> None:
    votes = booth.votes()
    for role in (LOOKING, FOLLOWING, FOLLOWING, LOOKING):
        votes.send(2, vote(1, role=role))
        booth.now += 20_000
    assert caplog.messages == []


# --- addresses ------------------------------------------------------------------------


def test_addresses_need_no_look_up() -> None:
    spec = parse_server(1, "10.0.0.1:2888:3888|[fd00::1]:2889:3889")
    places = places_of(spec)
    assert places.quorum == (
        (socket.AF_INET, ("10.0.0.1", 2888)),
        (socket.AF_INET6, ("fd00::1", 2889, 0, 0)),
    )
    assert [place[1][1] for place in places.election] == [3888, 3889]
    assert places.hosts == {"10.0.0.1", "fd00::1"}


def test_another_membership() -> None:
    lines = [parse_server(n, f"10.0.0.{n}:2888:3888") for n in (1, 2, 3)]
    directory = Directory(lines, 1, hosts_guests=True)
    directory.meet(4, socket.AF_INET, ("10.9.9.9", 5))
    directory.meet(5, socket.AF_INET, ("10.9.9.9", 6))
    directory.update([lines[0], parse_server(2, "10.0.0.7:2888:3888"), parse_server(4, "h:1:2")])
    assert directory.is_at(2, "10.0.0.7") and not directory.is_at(2, "10.0.0.2")
    assert (2 in directory, 3 in directory, 4 in directory) == (True, False, True)
    assert directory.admits(3) and not directory.admits(1)
    assert directory.quorum(3) == directory.election(3) == ()
    assert directory.election(4) == (), "no guest any more, and its name is not looked up yet"
    assert directory.election(5) == ((socket.AF_INET, ("10.9.9.9", 6)),)


def test_what_comes_of_a_look_up_for_another_membership(
    play: Play[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "look_up", {"a": ["10.0.0.1"], "b": ["10.0.0.2"]}.get)

    async def act() -> None:
        before = [parse_server(2, "a:1:2"), parse_server(3, "a:1:2")]
        directory = Directory(before, 1)
        await directory.start(10)
        found = {2: places_of(before[0], lambda host: ["10.0.0.9"])}
        directory.update([parse_server(2, "b:1:2")])
        directory._note(dict.fromkeys((2,), before[0]), found)
        assert not directory.is_at(2, "10.0.0.9")
        while not directory.is_at(2, "10.0.0.2"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        directory.stop()

    play(act)


def test_name_for_several_addresses() -> None:
    spec = parse_server(1, "zk1:2888:3888")
    places = places_of(spec, {"zk1": ["10.0.0.1", "10.0.0.2"]}.__getitem__)
    assert [place[1][0] for place in places.quorum] == ["10.0.0.1", "10.0.0.2"]
    assert places.hosts == {"10.0.0.1", "10.0.0.2"}


def test_name_that_moves_and_goes(
    play: Play[object], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another address when somebody asks again; no address is no reason to forget the last."""
    answers = [["10.0.0.1"], ["10.0.0.2"], [], ["10.0.0.3"]]
    monkeypatch.setattr(addresses, "look_up", lambda host: answers.pop(0))
    monkeypatch.setattr(addresses, "LOOK_UP_MIN_S", 0.0)

    async def until_at(directory: Directory, host: str) -> None:
        while not directory.is_at(2, host):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def act() -> None:
        directory = Directory([parse_server(2, "zk2:2888:3888")], 1)
        assert directory.quorum(2) == ()
        await directory.start(10)
        assert directory.is_at(2, "10.0.0.1")
        directory.look_again()
        await until_at(directory, "10.0.0.2")
        directory.look_again()
        while len(answers) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert directory.is_at(2, "10.0.0.2")
        directory.look_again()
        await until_at(directory, "10.0.0.3")
        directory.stop()

    caplog.set_level(logging.INFO)
    play(act)
    assert caplog.messages == ["server 2 is now at 10.0.0.2", "server 2 is now at 10.0.0.3"]


def test_names_that_take_long_do_not_keep_a_start_waiting(
    play: Play[object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    gate = threading.Event()
    monkeypatch.setattr(addresses, "look_up", lambda host: [] if gate.wait() else [])

    async def act() -> None:
        directory = Directory([parse_server(2, "zk2:2888:3888")], 1)
        await directory.start(0.01)
        directory.stop()

    play(act)
    gate.set()
    assert "takes long" in caplog.text


def test_own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = bind_everywhere("127.0.0.1", 0, socket.SOCK_DGRAM)
    with first, pytest.raises(OSError, match="in use") as raised:
        bind_everywhere("127.0.0.1", first.getsockname()[1], socket.SOCK_DGRAM)
    assert raised.value.errno == errno.EADDRINUSE
    monkeypatch.setattr(sockets, "look_up", lambda host: ["192.0.2.1", "127.0.0.1"])
    (own,) = bind_everywhere("zk1", 0, socket.SOCK_STREAM)
    with own:
        assert own.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="assign"):
        bind_everywhere("192.0.2.1", 0, socket.SOCK_STREAM)
    monkeypatch.setattr(sockets, "look_up", lambda host: [])
    with pytest.raises(OSError, match="the name zk1 cannot be looked up"):
        bind_everywhere("zk1", 0, socket.SOCK_STREAM)
    wild = bind_everywhere("0.0.0.0", 0, socket.SOCK_DGRAM)
    assert wild[0].getsockname()[0] == "0.0.0.0"
    close_all(wild)


KEY, OLD_KEY = b"k" * 32, b"o" * 32


@pytest.mark.parametrize("key", [KEY, OLD_KEY])
def test_with_keys_a_datagram_has_to_be_signed_with_one(
    play: Play[object], booth: Booth, caplog: pytest.LogCaptureFixture, key: bytes
) -> None:
    """While a key is changed there are two, and the first signs."""

    async def act() -> None:
        votes = booth.votes(KEY, OLD_KEY)
        votes.start()
        booth.tell(encode_notification(vote(2)))
        booth.tell(encode_notification(vote(2), b"x" * 32))
        booth.tell(encode_notification(vote(2, 3), key))
        await booth.until(1)
        assert booth.heard == [(2, vote(2, 3))]
        votes.send(2, vote(1))
        assert booth.other.recv(1000) == encode_notification(vote(1), KEY)
        votes.stop()

    play(act)
    assert "datagram without a valid signature" in caplog.text


def test_keys_come_by_and_by(play: Play[object], booth: Booth) -> None:
    """With `portUnification` unsigned ones are taken, too; what is sent is signed."""

    async def act() -> None:
        votes = booth.votes(KEY, takes_unsigned=True)
        votes.start()
        booth.tell(encode_notification(vote(2)))
        booth.tell(encode_notification(vote(2, 2), KEY))
        await booth.until(2)
        votes.send(2, vote(1))
        assert booth.other.recv(1000) == encode_notification(vote(1), KEY)
        votes.stop()

    play(act)


def test_a_signature_is_nothing_to_who_has_no_key(play: Play[object], booth: Booth) -> None:
    async def act() -> None:
        votes = booth.votes()
        votes.start()
        booth.tell(encode_notification(vote(2), KEY))
        await booth.until(1)
        votes.stop()

    play(act)
