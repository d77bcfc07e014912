"""Links between members over TLS: who is let in, and that nobody else is listened to (T-sec-1)."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

import attrs
import pytest

from tests.server.authority import Authority, Issued, lines_of, read_tls
from tests.server.conftest import Play
from tests.server.fakes import LIMIT_S
from tests.server.test_driver import is_cut
from tests.server.test_peers import INFO, Recorder
from wire.peer import NO_CLUSTER, Hello, LeaderInfo, encode_message
from zkpy.config import parse_server
from zkpy.config.tls import MEMBERS
from zkpy.limits import Limits
from zkpy.server import peer_tls
from zkpy.server.addresses import Directory
from zkpy.server.peer_tls import SHOWN_MAX, PeerSecurity, show
from zkpy.server.peers import STRANGERS_MAX, Peers
from zkpy.server.sockets import bind_everywhere
from zkpy.server.tls import Certificates

HOSTS = {1: "127.0.0.1", 2: "127.0.0.2", 3: "127.0.0.3"}


@pytest.fixture(name="authority", scope="module")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(name="stranger", scope="module")
def make_stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("other"))


@attrs.define
class Setting:
    """How one member is set up."""

    issued: Issued
    lines: tuple[str, ...] = ()
    dials_tls: bool = True
    takes_plain: bool = False
    guests: bool = False


class Member:
    def __init__(self, number: int, ports: dict[int, int], setting: Setting, trusts: Authority):
        specs = [parse_server(n, f"{HOSTS[n]}:{port}:{port ^ 1}") for n, port in ports.items()]
        self.inputs = Recorder()
        self.target: int | None = None
        directory = Directory(specs, number, hosts_guests=setting.guests)
        tls = read_tls(*lines_of(trusts, setting.issued, MEMBERS), *setting.lines, prefix=MEMBERS)
        security = PeerSecurity(
            Certificates(tls),
            directory,
            dials_tls=setting.dials_tls,
            takes_plain=setting.takes_plain,
        )
        self.hello = Hello(1, NO_CLUSTER, number, 7)
        self.peers = Peers(
            self.inputs,
            directory,
            Limits(),
            dial=lambda: self.target,
            greeting=lambda: self.hello,
            enter=security.enter,
        )

    def dial(self, target: int | None) -> None:
        self.target = target
        self.peers.keep()


class Complaints(logging.Handler):
    """What the log says; each of the members says one thing in these tests."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.news.set()

    async def until(self, why: str) -> None:
        while not any(why in text for text in self.texts):
            self.news.clear()
            await self.news.wait()


@attrs.define
class Scene:
    members: dict[int, Member]
    ports: dict[int, int]
    log: Complaints
    writers: list[asyncio.StreamWriter] = attrs.Factory(list)

    async def knock(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """At server 1's port, by hand."""
        reader, writer = await asyncio.open_connection(HOSTS[1], self.ports[1], ssl=context)
        self.writers.append(writer)
        return reader, writer


@asynccontextmanager
async def scene(authority: Authority, one: Setting, two: Setting) -> AsyncIterator[Scene]:
    """Servers 1 and 2 of a configuration that has three."""
    sockets = {n: bind_everywhere(HOSTS[n], 0, socket.SOCK_STREAM)[0] for n in HOSTS}
    ports = {n: int(opened.getsockname()[1]) for n, opened in sockets.items()}
    members = {n: Member(n, ports, setting, authority) for n, setting in ((1, one), (2, two))}
    for n, member in members.items():
        await member.peers.listen([sockets[n]])
    it = Scene(members, ports, Complaints())
    logging.getLogger("zkpy.server").addHandler(it.log)
    try:
        yield it
    finally:
        logging.getLogger("zkpy.server").removeHandler(it.log)
        for writer in it.writers:
            writer.close()
        for member in members.values():
            member.peers.stop()
            assert member.inputs.halted is None
        for opened in sockets.values():
            opened.close()


def member_of(authority: Authority, number: int) -> Issued:
    return authority.issue(f"CN=server {number}", hosts=(HOSTS[number],))


# --- who is let in ---------------------------------------------------------------------------


def test_messages_pass_both_ways(play: Play[object], authority: Authority) -> None:
    one, two = (Setting(member_of(authority, n)) for n in (1, 2))

    async def act() -> None:
        async with scene(authority, one, two) as it:
            learner, leader = it.members[1], it.members[2]
            learner.dial(2)
            await learner.inputs.until(("up", 2))
            await leader.inputs.until(("up", 1))
            learner.peers.send([(2, INFO), (2, INFO)])
            await leader.inputs.until(("up", 1), (1, [INFO, INFO]))
            info = LeaderInfo(4, bytes(16), True)
            leader.peers.send([(1, info)])
            await learner.inputs.until(("up", 2), (2, [info]))
            leader.peers.close(1)
            await learner.inputs.until(("up", 2), (2, [info]), ("down", 2), ("up", 2))
            assert not (learner.peers.entering or leader.peers.entering)

    play(act)


@pytest.mark.parametrize(("ssl_quorum", "plain"), [(False, True), (True, True)])
def test_a_change_by_and_by(
    play: Play[object], authority: Authority, ssl_quorum: bool, plain: bool
) -> None:
    """With `portUnification` one that does not dial over TLS yet is let in, as is one that does."""
    one = Setting(member_of(authority, 1), dials_tls=ssl_quorum, takes_plain=plain)
    two = Setting(member_of(authority, 2), takes_plain=True)

    async def act() -> None:
        async with scene(authority, one, two) as it:
            learner, leader = it.members[1], it.members[2]
            learner.dial(2)
            await learner.inputs.until(("up", 2))
            learner.peers.send([(2, INFO)])
            await leader.inputs.until(("up", 1), (1, [INFO]))

    play(act)


def test_without_hostname_verification_the_authority_is_enough(
    play: Play[object], authority: Authority
) -> None:
    lines = ("ssl.quorum.hostnameVerification=false",)
    one, two = (Setting(authority.issue("CN=any"), lines) for _ in (1, 2))

    async def act() -> None:
        async with scene(authority, one, two) as it:
            it.members[1].dial(2)
            await it.members[1].inputs.until(("up", 2))
            await it.members[2].inputs.until(("up", 1))

    play(act)


def test_a_guest_needs_a_certificate_of_the_authority(
    play: Play[object], authority: Authority, stranger: Authority
) -> None:
    one = Setting(member_of(authority, 1), guests=True)

    async def act() -> None:
        async with scene(authority, one, Setting(member_of(authority, 2))) as it:
            reader, writer = await it.knock(as_member(authority, authority.issue("CN=new")))
            writer.write(encode_message(Hello(1, NO_CLUSTER, 9, 7)))
            await it.members[1].inputs.until(("up", 9))
            _, writer = await it.knock(as_member(authority, authority.issue("CN=new")))
            writer.write(encode_message(Hello(1, NO_CLUSTER, 2, 7)))
            await it.log.until("names no host of server 2")
            assert it.members[1].inputs.calls == [("up", 9)]

    play(act)


def as_member(authority: Authority, issued: Issued | None) -> ssl.SSLContext:
    return authority.client(issued)


# --- who is not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("plain", "it does not speak TLS"),
        ("none", "peer did not return a certificate"),
        ("stranger", "certificate verify failed"),
        ("self-signed", "certificate verify failed"),
        ("expired", "certificate has expired"),
        ("nobody", "its certificate, of zk9, names no host of any server"),
        ("wildcard", "names no host of any server"),
        ("doubled", "its certificate, of nobody, names no host of any server"),
        ("other", "its certificate names no host of server 2"),
        ("itself", "names no host of any server"),
        ("no text", r"its certificate, of \xff\xfe, names no host of any server"),
        ("email", "its certificate, of zk9, names no host of any server"),
        ("no address", "its certificate cannot be read: "),
        ("a name", "its certificate, of 127.0.0.2, names no host of any server"),
    ],
)
def test_nobody_else_is_listened_to(
    play: Play[object], authority: Authority, stranger: Authority, kind: str, why: str
) -> None:
    contexts: dict[str, Callable[[], ssl.SSLContext | None]] = {
        "plain": lambda: None,
        "none": lambda: authority.client(),
        "stranger": lambda: authority.client(member_of(stranger, 2)),
        "self-signed": lambda: authority.client(self_signed(authority)),
        "expired": lambda: authority.client(authority.issue(begins=-9, ends=-2, hosts=(HOSTS[2],))),
        "nobody": lambda: authority.client(authority.issue("CN=zk9")),
        "wildcard": lambda: authority.client(authority.issue("CN=*", hosts=("*", "*.0.0.2"))),
        "doubled": lambda: authority.client(authority.issue(f"CN={HOSTS[2]},CN=zk9")),
        "other": lambda: authority.client(member_of(authority, 3)),
        "itself": lambda: authority.client(member_of(authority, 1)),
        "no text": lambda: authority.client(authority.issue(hosts=b"\x30\x04\x82\x02\xff\xfe")),
        "email": lambda: authority.client(
            authority.issue("CN=zk9", hosts=b"\x30\x04\x81\x02\xff\xfe")
        ),
        "no address": lambda: authority.client(authority.issue(hosts=b"\x30\x04\x87\x02\x7f\x00")),
        "a name": lambda: authority.client(
            authority.issue(hosts=b"\x30\x0b\x82\x09" + HOSTS[2].encode())
        ),
    }
    context = contexts[kind]()

    async def act() -> None:
        one, two = (Setting(member_of(authority, n)) for n in (1, 2))
        async with scene(authority, one, two) as it:
            heard = b""
            with suppress(OSError):  # it may learn it in the handshake, or be cut off
                reader, writer = await it.knock(context)
                writer.write(encode_message(Hello(1, NO_CLUSTER, 2, 7)))
                writer.write(encode_message(INFO))
                while piece := await reader.read(1000):
                    heard += piece
            # Whether who is a member hears the greeting before it is cut off is not certain.
            assert heard in {b"", encode_message(it.members[1].hello) if kind == "other" else b""}
            await it.log.until(why)
            peers = it.members[1].peers
            assert not (peers.up or peers.strangers or peers.entering)
            assert it.members[1].inputs.calls == []

    play(act)


def test_who_calls_has_to_show_its_certificate(play: Play[object], authority: Authority) -> None:
    """It may not be valid any more where only its session is resumed."""
    context = authority.client(member_of(authority, 2))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def act() -> None:
        one, two = (Setting(member_of(authority, n)) for n in (1, 2))
        async with scene(authority, one, two) as it:

            def call(session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
                opened = socket.create_connection((HOSTS[1], it.ports[1]), LIMIT_S)
                return context.wrap_socket(opened, session=session)

            first = await asyncio.to_thread(call)
            second = await asyncio.to_thread(call, first.session)
            assert second.session_reused
            assert await asyncio.to_thread(second.recv, 1) == b""
            await it.log.until("it resumes a session")
            first.close()
            second.close()

    play(act)


def self_signed(authority: Authority) -> Issued:
    """By a key that says it is the authority."""
    directory = authority.directory / "again"
    directory.mkdir(exist_ok=True)
    return Authority(directory).issue("CN=server 2", hosts=(HOSTS[2],))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("stranger", "certificate verify failed"),
        ("other", "its certificate, of 127.0.0.3, names no host of server 2"),
        ("no text", r"its certificate, of \xff\xfe, names no host of server 2"),
        ("no address", "its certificate cannot be read: "),
    ],
)
def test_who_answers_must_be_who_was_called(
    play: Play[object], authority: Authority, stranger: Authority, kind: str, why: str
) -> None:
    issued = {
        "stranger": member_of(stranger, 2),
        "other": member_of(authority, 3),
        "no text": authority.issue(hosts=b"\x30\x04\x82\x02\xff\xfe"),
        "no address": authority.issue(hosts=b"\x30\x04\x87\x02\x7f\x00"),
    }[kind]

    async def act() -> None:
        one, two = Setting(member_of(authority, 1)), Setting(issued)
        async with scene(authority, one, two) as it:
            it.members[1].dial(2)
            await it.log.until(why)
            assert it.members[1].inputs.calls == it.members[2].inputs.calls == []

    play(act)


def test_who_is_called_must_speak_tls(play: Play[object], authority: Authority) -> None:
    async def act() -> None:
        one, two = (Setting(member_of(authority, n)) for n in (1, 2))
        async with scene(authority, one, two) as it:
            it.members[2].peers.stop()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert (await reader.read(1)) == b"\x16"
                writer.write(encode_message(Hello(1, NO_CLUSTER, 2, 7)))
                writer.close()

            server = await asyncio.start_server(answer, HOSTS[2], 0)
            places = [(socket.AF_INET, server.sockets[0].getsockname())]
            it.members[1].peers.directory.quorum = (  # type: ignore[method-assign]
                lambda sid: tuple(places)
            )
            it.members[1].dial(2)
            await it.log.until("over TLS: ")
            assert it.members[1].inputs.calls == []
            it.members[1].dial(None)
            server.close()

    play(act)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_who_does_not_go_on_is_dropped(
    play: Play[object], authority: Authority, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(peer_tls, "GREETING_S", 0.05)

    async def act() -> None:
        one, two = (Setting(member_of(authority, n)) for n in (1, 2))
        async with scene(authority, one, two) as it:
            reader, writer = await it.knock()
            writer.write(said)
            assert await reader.read() == b""
            await it.log.until("it was not secured in 0.05 s")

    play(act)


def test_strangers_are_bounded(play: Play[object], authority: Authority) -> None:
    async def act() -> None:
        one, two = (Setting(member_of(authority, n)) for n in (1, 2))
        async with scene(authority, one, two) as it:
            peers = it.members[1].peers
            for _ in range(STRANGERS_MAX):
                await it.knock()
            reader, _ = await it.knock()
            assert await is_cut(reader)
            assert len(peers.entering) <= STRANGERS_MAX
            it.members[2].dial(1)  # who is let in is not who calls, and waits for its turn
            peers.stop()
            assert all(each.is_closing() for each in peers.entering)

    play(act)


# --- names -------------------------------------------------------------------------------------


def test_names_are_shown_in_one_line_that_ends() -> None:
    assert show(frozenset()) == "nobody"
    assert show(frozenset({"b", "a\nb", ip_address("10.0.0.1")})) == r"10.0.0.1, a\nb, b"
    assert len(show(frozenset({"x" * 9000}))) == SHOWN_MAX + 3
