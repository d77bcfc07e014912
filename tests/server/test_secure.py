"""Client connections over TLS, on a scripted core."""

import asyncio
import os
import random
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from tests.server.authority import DAY, Authority, Issued, lines_of, read_tls
from tests.server.fakes import LIMIT_S, Bench, Reader, Writer
from tests.server.test_driver import is_cut
from zkpy.config import ClientAddress
from zkpy.limits import Limits
from zkpy.server import secure

Play = Callable[[Callable[[], Awaitable[object]]], object]
HERE = ClientAddress("127.0.0.1", 0)
MEGABYTE = 1 << 20
REFUSED = b"ruok is not executed because it is not in the whitelist.\n"


@pytest.fixture(name="authority", scope="module")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(name="ann", scope="module")
def issue(authority: Authority) -> Issued:
    return authority.issue("CN=ann")


@pytest.fixture(name="bench")
def make_bench(authority: Authority) -> Callable[..., "SecureBench"]:
    def make(*lines: str, unified: bool = False, **settings: object) -> SecureBench:
        tls = read_tls(*lines_of(authority, authority.issue()), *lines)
        where = {"client": HERE, "port_unification": True} if unified else {"client": None}
        secure = None if unified else HERE
        return SecureBench(tls=tls, secure=secure, **where, **settings)

    return make


class SecureBench(Bench):
    """One port, for TLS alone or for both."""

    async def dial(self, context: ssl.SSLContext) -> tuple[Reader, Writer]:
        """Raises OSError where the client learns in the handshake that it is refused."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.address.port, ssl=context
        )
        self._writers.append(writer)
        return reader, writer

    async def refuses(self, context: ssl.SSLContext) -> None:
        """Return once a client was refused: with TLS 1.3 it learns so only from its first read."""
        failed = self.server.metrics.handshakes_failed
        with suppress(OSError):
            reader, _ = await self.dial(context)
            assert await reader.read() == b""
        assert self.server.metrics.handshakes_failed == failed + 1
        assert "up" not in self.core.names()

    def is_empty(self) -> bool:
        clients = self.server.clients
        gate = self.server.gate
        assert gate is not None
        return not (clients.links or clients.entering or clients._by_host or gate.handshakes)


MakeBench = Callable[..., SecureBench]


# --- what passes --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_pass(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued, version: ssl.TLSVersion
) -> None:
    async def scene() -> None:
        async with bench() as server:
            context = authority.client(ann)
            context.maximum_version = version
            reader, writer = await server.dial(context)
            for size in (1, 100, 5 * MEGABYTE):
                # Of pieces that begin with a `w` or `4` the core does something else.
                asked = b"x" + random.randbytes(size).translate(None, b"w4")
                writer.write(asked)
                assert await reader.readexactly(len(asked)) == asked
            (link,) = server.server.clients.links.values()
            assert ("up", 1, link.address, "CN=ann") in server.core.calls
            writer.close()
            await server.core.until_called("down", 1)
            assert server.is_empty()

    play(scene)


def test_who_may_and_does_not_show_a_certificate(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    async def scene() -> None:
        async with bench("ssl.clientAuth=want") as server:
            for context, shown in ((authority.client(), ()), (authority.client(ann), ("CN=ann",))):
                reader, writer = await server.dial(context)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                ups = [call[3:] for call in server.core.calls if call[0] == "up"]
                assert ups[-1] == shown

    play(scene)


def test_who_is_not_asked_shows_none(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    async def scene() -> None:
        async with bench("ssl.clientAuth=none") as server:
            await server.dial(authority.client(ann))
            await server.core.until_called("up", 1)
            assert [call[3:] for call in server.core.calls if call[0] == "up"] == [()]

    play(scene)


def test_the_server_ends_a_connection_in_order(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    """An answer is read in full, and its end is no error."""

    async def scene() -> None:
        async with bench() as server:
            reader, writer = await server.dial(authority.client(ann))
            writer.write(b"4ruok")
            assert await reader.read() == REFUSED
            await server.core.until_called("down", 1)
            assert server.is_empty()

    play(scene)


def test_a_client_that_does_not_read_is_not_read_from(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    async def scene() -> None:
        async with bench() as server:
            reader, writer = await server.dial(authority.client(ann))
            asked = b"x" + bytes(MEGABYTE)
            for _ in range(64):
                writer.write(asked)
            await server.core.until_called("choke", 1)
            (link,) = server.server.clients.links.values()
            assert not link.reading
            for _ in range(64):
                assert await reader.readexactly(len(asked)) == asked
            await server.core.until_called("choke", 2)

    play(scene)


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("none", "peer did not return a certificate"),
        ("stranger", "certificate verify failed"),
        ("expired", "certificate verify failed: certificate has expired"),
        ("early", "certificate verify failed: certificate is not yet valid"),
        ("old", "unsupported protocol"),
        ("long", "the subject of the client's certificate is longer than 8192 bytes"),
    ],
)
def test_who_is_refused(
    play: Play,
    bench: MakeBench,
    authority: Authority,
    ann: Issued,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    why: str,
) -> None:
    context = {
        "none": lambda: authority.client(),
        "stranger": lambda: authority.client(Authority(tmp_path_factory.mktemp("b")).issue()),
        "expired": lambda: authority.client(authority.issue(begins=-9, ends=-2)),
        "early": lambda: authority.client(authority.issue(begins=2, ends=9)),
        "old": lambda: old_client(authority, ann),
        "long": lambda: authority.client(authority.issue(",".join(["O=" + 60 * "x"] * 140))),
    }[kind]()

    async def scene() -> None:
        async with bench() as server:
            await server.refuses(context)
            assert server.is_empty()

    play(scene)
    (said,) = [each for each in caplog.messages if "TLS" in each]
    assert said.startswith("TLS handshake with 127.0.0.1:") and why in said


def old_client(authority: Authority, issued: Issued) -> ssl.SSLContext:
    context = authority.client(issued)
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def test_a_plain_client_is_refused(
    play: Play, bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with bench() as server:
            reader, writer = await server.connect_raw()
            writer.write(b"ruok")
            await reader.read()
            await gone(server)
            assert server.server.metrics.handshakes_failed == 1

    play(scene)
    assert "it does not speak TLS" in caplog.text


async def gone(server: SecureBench) -> None:
    """Wait until nothing of a connection is left."""
    await until(server.is_empty)


async def until(condition: Callable[[], object]) -> None:
    """Of what is told to nobody, and so is looked at after each turn of the loop."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_who_only_looks_is_not_told_of(
    play: Play, bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with bench() as server:
            _, writer = await server.connect_raw()
            await until(lambda: server.server.clients.entering)
            writer.close()
            await gone(server)
            assert server.server.metrics.handshakes_failed == 0

    play(scene)
    assert "TLS handshake" not in caplog.text


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a little"])
def test_who_does_not_go_on_is_dropped(
    play: Play, bench: MakeBench, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with bench(limits=Limits(handshake_ms=50)) as server:
            reader, writer = await server.connect_raw()
            writer.write(said)
            assert await reader.read() == b""
            await gone(server)

    play(scene)
    assert "for 50 ms" in caplog.text


def test_connections_count_before_their_handshake_is_done(play: Play, bench: MakeBench) -> None:
    async def scene() -> None:
        for limits in (Limits(connections_per_address_max=2), Limits(connections_max=2)):
            async with bench(limits=limits) as server:
                waiting = [await server.connect_raw() for _ in range(2)]
                refused, _ = await server.connect_raw()
                assert await is_cut(refused)
                assert server.server.metrics.connections_rejected == 1
                for _, writer in waiting:
                    writer.close()
                await gone(server)

    play(scene)


def test_handshakes_at_a_time_are_bounded(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    async def scene() -> None:
        async with bench(limits=Limits(tls_handshakes_max=1)) as server:
            gate = server.server.gate
            assert gate is not None
            _, writer = await server.connect_raw()
            writer.write(b"\x16")
            await until(lambda: gate.handshakes)
            with pytest.raises(OSError):  # noqa: PT011 - the server closes
                await server.dial(authority.client(ann))
            assert server.server.metrics.handshakes_exceeded == 1
            writer.close()
            await gone(server)
            await server.dial(authority.client(ann))
            await server.core.until_called("up", 1)

    play(scene)


def test_whatever_is_said_ends_one_connection_at_most(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    dice = random.Random(7)

    async def scene() -> None:
        async with bench() as server:
            for round_ in range(100):
                _, writer = await server.connect_raw()
                head = b"\x16\x03\x01" if round_ % 2 else b""
                writer.write(head + dice.randbytes(dice.randrange(1, 2000)))
                writer.close()
            await gone(server)
            assert not server.server.driver.stopped
            reader, writer = await server.dial(authority.client(ann))
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"

    play(scene)


def test_damage_after_the_handshake(
    play: Play,
    bench: MakeBench,
    authority: Authority,
    ann: Issued,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        async with bench() as server:
            _, writer = await server.dial(authority.client(ann))
            await server.core.until_called("up", 1)
            below = writer.get_extra_info("socket")
            os.write(below.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            await server.core.until_called("down", 1)
            await gone(server)

    play(scene)
    assert "dropping 127.0.0.1:" in caplog.text


# --- sessions of TLS 1.2 --------------------------------------------------------------------


def older(authority: Authority, issued: Issued) -> ssl.SSLContext:
    context = authority.client(issued)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def open_by_hand(
    server: SecureBench, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """A connection that may resume a session, which asyncio cannot; blocks."""
    opened = socket.create_connection(("127.0.0.1", server.server.address.port), LIMIT_S)
    return context.wrap_socket(opened, session=session)


@pytest.mark.parametrize("tickets", [True, False])
def test_sessions_are_resumed_until_their_certificate_ends(
    play: Play,
    bench: MakeBench,
    authority: Authority,
    ann: Issued,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tickets: bool,
) -> None:
    """OpenSSL asks for no certificate then, and does not look at the one that it knows."""
    context = older(authority, ann)
    context.options |= 0 if tickets else ssl.OP_NO_TICKET

    async def scene() -> None:
        async with bench() as server:
            first = await asyncio.to_thread(open_by_hand, server, context)
            second = await asyncio.to_thread(open_by_hand, server, context, first.session)
            assert second.session_reused
            await server.core.until_called("up", 2)
            assert [call[3:] for call in server.core.calls if call[0] == "up"] == 2 * [("CN=ann",)]
            monkeypatch.setattr(secure, "now", lambda: datetime.now(UTC) + 40 * DAY)
            third = await asyncio.to_thread(open_by_hand, server, context, first.session)
            assert third.session_reused
            assert await asyncio.to_thread(third.recv, 1) == b""
            assert server.core.names().count("up") == 2
            for each in (first, second, third):
                each.close()

    play(scene)
    assert "the certificate of the session that it resumes has expired" in caplog.text


@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("server_ends", [True, False])
def test_sessions_are_not_kept(
    play: Play,
    bench: MakeBench,
    authority: Authority,
    ann: Issued,
    server_ends: bool,
    tickets: bool,
) -> None:
    """OpenSSL would keep 20480 of them, of some kilobytes each, for two hours."""
    context = older(authority, ann)
    context.options |= 0 if tickets else ssl.OP_NO_TICKET

    async def scene() -> None:
        async with bench() as server:
            gate = server.server.gate
            assert gate is not None
            kept = gate.certificates.context.session_stats
            for _ in range(3):
                opened = await asyncio.to_thread(open_by_hand, server, context)
                assert kept()["number"] == 1
                if server_ends:
                    opened.sendall(b"4ruok")
                    answer = await asyncio.to_thread(opened.makefile("rb").read)
                    assert answer == REFUSED
                else:
                    await asyncio.to_thread(say_the_end, opened)
                await gone(server)
                opened.close()
                await until(lambda: kept()["number"] == 0)

    play(scene)


def say_the_end(opened: ssl.SSLSocket) -> None:
    with suppress(OSError):  # what the other end says to it is of no interest
        opened.unwrap()


# --- one port for both ------------------------------------------------------------------------


def test_one_port_takes_both(
    play: Play, bench: MakeBench, authority: Authority, ann: Issued
) -> None:
    async def scene() -> None:
        async with bench(unified=True) as server:
            plain = await server.connect_raw()
            secure = await server.dial(authority.client(ann))
            for reader, writer in (secure, plain):
                for asked in (b"x1", b"x" * MEGABYTE):
                    writer.write(asked)
                    assert await reader.readexactly(len(asked)) == asked
            ups = [call[3:] for call in server.core.calls if call[0] == "up"]
            assert ups == [("CN=ann",), ()]
            for _, writer in (secure, plain):
                writer.close()
            await server.core.until_called("down", 2)
            assert server.is_empty()

    play(scene)


def test_on_a_port_for_both_who_says_nothing_is_dropped(play: Play, bench: MakeBench) -> None:
    async def scene() -> None:
        async with bench(unified=True, limits=Limits(tls_detection_ms=50)) as server:
            reader, _ = await server.connect_raw()
            assert await reader.read() == b""
            await gone(server)

    play(scene)
