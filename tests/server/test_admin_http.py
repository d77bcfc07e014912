"""HTTP on real sockets: what is asked for, broken, slow, too much, and who goes without."""

import asyncio
import gc
import heapq
import itertools
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any, cast

import attrs
import pytest

from tests.admin.test_admin import CONFIG, make_view
from tests.server.fakes import Reader, Writer
from zkpy.admin.commands import ServerView
from zkpy.admin.web import Site as WebSite
from zkpy.config import ClientAddress
from zkpy.errors import ConfigError
from zkpy.replica.status import Tables
from zkpy.server import admin_http, admin_ports
from zkpy.server.admin_ports import HttpServer, bind_http

Play = Callable[[Callable[[], Any]], Any]
ADMIN = attrs.evolve(CONFIG, admin=ClientAddress("127.0.0.1", 0), admin_line="zoo.cfg:3")


def head(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


class Long:
    """Watches without end, or so many."""

    def __init__(self, paths: int, length: int = 20) -> None:
        self.paths = [f"/{i:0{length}d}" for i in range(paths)]
        self.read = 0

    def watched_paths(self) -> Iterator[str]:
        return iter(self.paths)

    def watchers(self, path: str) -> list[int]:
        self.read += 1
        return [1]


class Site:
    """A server of HTTP on a port of its own, and connections to it."""

    server: HttpServer
    metrics_port: int

    def __init__(self, port: int) -> None:
        self.port = port
        self.view = make_view()
        self._writers: list[Writer] = []

    def is_streaming(self) -> bool:
        """Whether a long answer is on its way."""
        hub = self.server._hub
        rooms = hub.rooms.values() if hub is not None else ()
        return any(each._pieces is not None for room in rooms for each in room.connections)

    def look(self) -> ServerView:
        return self.view

    async def connect(self, port: int | None = None) -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        self._writers.append(writer)
        return reader, writer

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """By a connection of its own."""
        reader, writer = await self.connect()
        writer.write(head(path, method, "Connection: close\r\n"))
        answer = await reader.read()
        writer.close()
        first, _, body = answer.partition(b"\r\n\r\n")
        return int(first.split()[1]), body.decode()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def serving(idle_ms: int = 30_000, metrics: bool = False) -> AsyncIterator[Site]:
    config = attrs.evolve(ADMIN, admin_idle_ms=idle_ms, four_letter_words=("*",))
    if metrics:
        config = attrs.evolve(config, metrics=ClientAddress("127.0.0.1", 0), metrics_line="here")
    with ExitStack() as stack:
        ports = {port.name: port for port in bind_http(config, stack)}
        site = Site(ports["admin server"].sockets[0].getsockname()[1])
        site.metrics_port = ports["metrics"].sockets[0].getsockname()[1] if metrics else 0
        server = site.server = HttpServer(list(ports.values()), config, site.look)
        await server.listen()
        try:
            yield site
        finally:
            server.stop()
            site.close()


async def is_cut_off(connection: tuple[Reader, Writer]) -> bool:
    try:
        return await connection[0].read(1) == b""
    except ConnectionError:
        return True


async def read_answer(reader: Reader) -> tuple[int, str]:
    """One with a Content-Length."""
    first = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(first.lower().partition("content-length: ")[2].split()[0])
    return int(first.split()[1]), (await reader.readexactly(length)).decode()


def test_many_requests_on_one_connection(play: Play) -> None:
    async def scene() -> None:
        async with serving() as site:
            reader, writer = await site.connect()
            for name in ("ruok", "zabstate"):
                writer.write(head(f"/commands/{name}"))
                status, text = await read_answer(reader)
                assert (status, json.loads(text)["command"]) == (200, name)
            # Three in one piece are answered in turn.
            names = ("ruok", "nothing", "is_read_only")
            writer.write(b"".join(head(f"/commands/{name}") for name in names))
            answers = [await read_answer(reader) for _ in names]
            assert [status for status, _ in answers] == [200, 404, 200]
            assert json.loads(answers[2][1])["read_only"] is False

    play(scene)


def test_head_gives_what_get_gives_but_no_body(play: Play) -> None:
    async def scene() -> None:
        async with serving() as site:
            reader, writer = await site.connect()
            writer.write(head("/commands/ruok", "HEAD") + head("/commands/connections", "HEAD"))
            writer.write(head("/commands/ruok", more="Connection: close\r\n"))
            answers = (await reader.read()).split(b"\r\n\r\n")
            assert [each.split()[1] for each in answers[:3]] == [b"200"] * 3
            assert len(answers) == 4 and answers[3].startswith(b"{")

    play(scene)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET  /  HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n" + b"x" * 70_000,
            b"413",
        ),
        (head("/commands/srst", "POST", "Transfer-Encoding: chunked\r\n"), b"413"),
        (head("/", "POST", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), b"400"),
        (head("/", "POST", "Expect: 100-continue\r\nContent-Length: 1\r\n"), b"413"),
        (head("/", more="X: y\r\n" * 100), b"431"),
        (b"\x16\x03\x01\x02\x00\x01", b"400"),
    ],
)
def test_what_is_no_request_closes_its_connection_alone(
    play: Play, sent: bytes, status: bytes
) -> None:
    async def scene() -> None:
        async with serving() as site:
            other_reader, other = await site.connect()
            reader, writer = await site.connect()
            writer.write(sent)
            assert (await reader.read()).split()[1] == status
            other.write(head("/commands/ruok"))
            assert (await read_answer(other_reader))[0] == 200

    play(scene)


def test_an_exception_of_a_command_is_answered_with_500(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("a bug of a command")

    async def scene() -> None:
        async with serving() as site:
            site.view = make_view(reset_stats=fail)
            assert (await site.get("/commands/srst", "POST"))[0] == 500
            assert "a bug of a command" in caplog.text
            assert (await site.get("/commands/ruok"))[0] == 200

    play(scene)


def test_what_may_change_something_is_logged(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        async with serving() as site:
            await site.get("/commands/mntr")
            assert caplog.text == ""
            await site.get("/commands/srst", "POST")
            assert re.search(r"HTTP: stat_reset for 127.0.0.1:\d+: 200\n", caplog.text)

    play(scene)


def test_an_exception_of_a_head_is_no_worse(play: Play) -> None:
    async def scene() -> None:
        async with serving() as site:
            site.view = make_view(tables=None)
            assert await site.get("/commands/dump", "HEAD") == (500, "")
            assert (await site.get("/commands/ruok"))[0] == 200

    play(scene)


def test_an_exception_within_a_long_answer_cuts_it_off(play: Play) -> None:
    """Without its end, so that nobody takes it for whole."""

    class Broken(Long):
        def watchers(self, path: str) -> list[int]:
            if self.read > 2000:
                raise RuntimeError("a bug of a table")
            return super().watchers(path)

    async def scene() -> None:
        async with serving() as site:
            site.view = make_view(tables=cast(Tables, Broken(9000)))
            reader, writer = await site.connect()
            writer.write(head("/commands/wchp"))
            assert (await reader.readline()).split()[1] == b"200"
            await reader.readuntil(b"/00000000000000001000")
            rest = b""
            with suppress(ConnectionError):
                while data := await reader.read(2**16):
                    rest += data
            assert not rest.endswith(b"0\r\n\r\n")
            assert (await site.get("/commands/ruok"))[0] == 200

    play(scene)


def test_a_long_answer_is_made_as_it_is_read(play: Play) -> None:
    """Others are answered meanwhile, and whoever does not read on is cut off."""

    async def scene() -> None:
        async with serving(idle_ms=200) as site:
            tables = Long(20_000, length=1000)
            site.view = make_view(tables=cast(Tables, tables))
            # A buffer of the system's is what stands between the two; this one is small.
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                slow.connect(("127.0.0.1", site.port))
                slow.sendall(head("/commands/wchp"))
                while not tables.read or site.is_streaming():
                    assert (await site.get("/commands/ruok"))[0] == 200
            assert 0 < tables.read < len(tables.paths)

    play(scene)


def test_all_of_a_long_answer_arrives(play: Play) -> None:
    async def scene() -> None:
        async with serving() as site:
            site.view = make_view(tables=cast(Tables, Long(5000)))
            status, body = await site.get("/commands/watches_by_path")
            assert status == 200
            text = "".join(
                chunk for i, chunk in enumerate(body.split("\r\n")) if i % 2
            )  # sizes stand between
            found = json.loads(text)
            assert len(found["path_to_session_ids"]) == 5000
            assert found["command"] == "watches_by_path"

    play(scene)


def test_whoever_asks_for_nothing_in_time_is_cut_off(play: Play) -> None:
    async def scene() -> None:
        async with serving(idle_ms=30) as site:
            reader, writer = await site.connect()
            writer.write(b"GET /commands/ruok HTT")
            assert await is_cut_off((reader, writer))

    play(scene)


def test_connections_are_bounded(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Newcomers are let in: else whoever holds some open shuts all others out."""
    monkeypatch.setattr(admin_http, "CONNECTIONS_MAX", 2)

    async def ask(connection: tuple[Reader, Writer]) -> None:
        connection[1].write(head("/commands/ruok"))
        assert (await read_answer(connection[0]))[0] == 200

    async def scene() -> None:
        async with serving() as site:
            first, second = [await site.connect() for _ in range(2)]
            await ask(first)
            await ask(second)
            await ask(first)
            third = await site.connect()
            await ask(third)
            assert await is_cut_off(second)
            await ask(first)
            fourth = await site.connect()
            await ask(fourth)
            assert await is_cut_off(third)
            assert caplog.text.count("cutting off idle ones") == 1

    play(scene)


def test_each_port_has_connections_of_its_own(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_http, "CONNECTIONS_MAX", 2)

    async def scene() -> None:
        async with serving(metrics=True) as site:
            admin = await site.connect()
            for _ in range(5):
                reader, writer = await site.connect(site.metrics_port)
                writer.write(head("/nothing"))
                assert (await read_answer(reader))[0] == 404
            admin[1].write(head("/commands/ruok"))
            assert (await read_answer(admin[0]))[0] == 200

    play(scene)


def test_a_connection_that_cannot_be_served_is_closed(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the loop's handler of exceptions sees ends the whole server."""
    monkeypatch.setitem(sys.modules, "zkpy.server.admin_http", None)

    async def scene() -> None:
        seen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        async with serving() as site:
            for _ in range(3):
                assert await is_cut_off(await site.connect())
        assert seen == []
        assert caplog.text.count("no HTTP: its connections are closed") == 1
        assert "ModuleNotFoundError" in caplog.text

    play(scene)


def test_an_exception_at_the_door_closes_the_connection(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(room: admin_http.Room, connection: admin_http.Connection) -> None:
        raise RuntimeError("a bug of the door")

    monkeypatch.setattr(admin_http.Room, "enter", fail)

    async def scene() -> None:
        seen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        async with serving() as site:
            reader, _ = await site.connect()
            assert (await reader.readline()).split()[1] == b"500"
        assert seen == []

    play(scene)


def test_a_client_may_close_its_half_after_asking(play: Play) -> None:
    """As `nc` does."""

    async def scene() -> None:
        async with serving() as site:
            site.view = make_view(tables=cast(Tables, Long(3000)))
            reader, writer = await site.connect()
            writer.write(head("/commands/wchp") + head("/commands/ruok"))
            writer.write_eof()
            answer = await reader.read()
            assert answer.count(b"HTTP/1.1 200") == 2 and answer.endswith(b"}")

    play(scene)


def test_a_name_that_was_made_to_point_here_is_refused_on_a_socket(play: Play) -> None:
    async def scene() -> None:
        async with serving() as site:
            reader, writer = await site.connect()
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            status, text = await read_answer(reader)
            assert status == 403 and "admin.serverAddress" in text

    play(scene)


def test_refused_changes_are_few_lines(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        async with serving() as site:
            reader, writer = await site.connect()
            for _ in range(20):
                writer.write(head("/commands/srst?" + "x" * 5000, "POST", "Origin: null\r\n"))
                assert (await read_answer(reader))[0] == 403
                writer.write(head("/" + "x" * 5000, "POST"))
                assert (await read_answer(reader))[0] == 404
            assert caplog.text.count("HTTP: stat_reset for") == 1
            assert len(caplog.text) < 200

    play(scene)


def test_nothing_is_left_for_a_garbage_collector(play: Play) -> None:
    """A server has none that runs: what a scrape left would stay for good."""

    async def scene() -> None:
        async with serving() as site:
            site.view = make_view(tables=cast(Tables, Long(3000)))

            async def ask() -> None:
                for path in ("/metrics", "/commands/wchp", "/commands/mntr", "/nothing"):
                    await site.get(path)
                await site.get("/commands/ruok", "HEAD")
                reader, writer = await site.connect()
                writer.write(b"nonsense\r\n\r\n")
                await reader.read()
                writer.close()

            await ask()
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(5):
                    await ask()
                gc.collect()
                kinds = {type(each).__module__ for each in gc.garbage}
                ours = [each for each in kinds if each.startswith(("zkpy", "h11"))]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert ours == []

    play(scene)


def test_a_stop_ends_connections(play: Play) -> None:
    async def scene() -> None:
        async with serving() as site:
            reader, writer = await site.connect()
            writer.write(head("/commands/ruok"))
            await read_answer(reader)
        assert await is_cut_off((reader, writer))

    play(scene)


def test_the_pump_takes_turns(play: Play) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        done: list[str] = []
        over = loop.create_future()

        def step_of(name: str, steps: int) -> Callable[[], None]:
            left = iter(range(steps, 0, -1))

            def step() -> None:
                done.append(name)
                if next(left) > 1:
                    pump.add(step)
                if len(done) == 5:
                    over.set_result(None)

            return step

        pump = admin_http.Pump(loop)
        pump.add(step_of("a", 3))
        pump.add(step_of("b", 2))
        await over
        assert done == ["a", "b", "a", "b", "a"]

    play(scene)


def test_the_pump_rests_as_long_as_it_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last step too: whoever asks again at once waits as well."""
    loop = FakeLoop()
    monkeypatch.setattr(admin_http, "monotonic_ns", lambda: int(loop.now_s * 1e9))
    begun: list[float] = []

    def step() -> None:
        begun.append(loop.now_s)
        loop.now_s += 0.25

    pump = admin_http.Pump(cast(asyncio.AbstractEventLoop, loop))
    pump.add(step)
    loop.run(0.3)
    pump.add(step)
    loop.run(0.9)
    assert begun == pytest.approx([0, 0.5], abs=0.01)


# --- one connection, in virtual time --------------------------------------------------


class FakeLoop:
    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._loop = asyncio.new_event_loop()
        self._loop.close()

    def call_later(
        self, delay: float, act: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.now_s + delay, act, args, self._loop)
        heapq.heappush(self._timers, (timer.when(), next(_NUMBERS), timer))
        return timer

    def call_soon(self, act: Callable[..., object]) -> asyncio.TimerHandle:
        return self.call_later(0, act)

    def run(self, until_s: float) -> None:
        while self._timers and self._timers[0][0] <= until_s:
            when, _, timer = heapq.heappop(self._timers)
            self.now_s = max(self.now_s, when)
            if not timer.cancelled():
                timer._run()
        self.now_s = max(self.now_s, until_s)


_NUMBERS = itertools.count()


class FakeTransport:
    """Whose other side reads when the test says so."""

    HIGH, LOW = 64 * 1024, 16 * 1024

    def __init__(self, own: str = "127.0.0.1") -> None:
        self.own = own
        self.queued = b""
        self.sent = b""
        self.reading = True
        self.closed = self.aborted = False
        self.most_queued = 0
        self._choked = False
        self.protocol: admin_http.Connection

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return (self.own, 8080) if name == "sockname" else ("10.0.0.9", 4000)

    def write(self, data: bytes) -> None:
        self.queued += data
        self.sent += data
        self.most_queued = max(self.most_queued, len(self.queued))
        if len(self.queued) > self.HIGH and not self._choked:
            self._choked = True
            self.protocol.pause_writing()

    def drain(self) -> None:
        self.queued = b""
        if self._choked:
            self._choked = False
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        assert self.reading and not self.is_closing()
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading and not self.is_closing()
        self.reading = True

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Alone:
    """One connection."""

    def __init__(self, own: str = "127.0.0.1", hub: admin_http.Hub | None = None) -> None:
        self.loop = FakeLoop()
        self.transport = FakeTransport(own)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.looks = 0
        self._hub = hub or admin_http.Hub(loop, self._look, idle_s=30)
        site = WebSite("/commands", ("*",))
        self.connection = admin_http.Connection(self._hub, self._hub.room("test"), site)
        self.transport.protocol = self.connection
        if hub is None:
            self.enter()

    def beside(self) -> "Alone":
        """Another one on that port, which has not come in yet."""
        return Alone(hub=self._hub)

    def enter(self) -> None:
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def _look(self) -> ServerView:
        self.looks += 1
        return make_view()

    def feed(self, data: bytes) -> bytes:
        """As much of it as is read; what is left."""
        while data and self.transport.reading and not self.transport.is_closing():
            space = self.connection.get_buffer(-1)
            taken, data = data[: len(space)], data[len(space) :]
            space[: len(taken)] = taken
            self.connection.buffer_updated(len(taken))
        return data

    def run(self, seconds: float) -> None:
        self.loop.run(self.loop.now_s + seconds)


def test_what_is_asked_for_and_not_read_is_not_made() -> None:
    """Neither memory nor time goes into answers of one who reads none."""
    one = Alone()
    left = head("/metrics") * 3000
    for _ in range(3000):
        left = one.feed(left)
        one.run(0.02)
    made = one.looks
    assert one.transport.aborted, "the idle time is over"
    assert made < 30
    assert one.transport.most_queued < one.transport.HIGH + 64 * 1024
    assert len(one.connection._received) < admin_http.HEAD_BYTES_MAX + admin_http.READ_BYTES


def test_who_reads_late_has_all_answers() -> None:
    one = Alone()
    left = head("/metrics") * 50
    while left or one.looks < 50:
        before = one.looks
        left = one.feed(left)
        one.run(10)
        assert one.looks > before
        one.transport.drain()
    one.run(10)
    assert one.transport.sent.count(b"HTTP/1.1 200") == 50
    assert one.transport.reading and not one.transport.is_closing()
    one.run(40)
    assert one.transport.aborted


def test_nothing_is_read_while_an_answer_is_made() -> None:
    one = Alone()
    left = one.feed(head("/commands/ruok") * 2000)
    assert left and not one.transport.reading
    assert len(one.connection._received) <= admin_http.READ_BYTES


def test_whoever_waits_for_this_server_is_not_cut_off() -> None:
    """Its pump may be busy for others for longer than the idle time."""
    one = Alone()
    one.connection._hub.pump.add(lambda: one.run(100))
    one.feed(head("/commands/ruok"))
    one.run(1)
    one.run(1)
    assert one.transport.sent.startswith(b"HTTP/1.1 200") and not one.transport.aborted


def test_one_that_waits_for_its_turn_is_not_the_one_that_idles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_http, "CONNECTIONS_MAX", 2)
    first = Alone()
    second, third = first.beside(), first.beside()
    first.feed(head("/commands/ruok"))
    second.enter()
    third.enter()
    assert [each.transport.aborted for each in (first, second, third)] == [False, True, False]


def test_bytes_do_not_prolong_a_request() -> None:
    one = Alone()
    for _ in range(20):
        one.feed(b"G")
        one.run(2)
    assert one.transport.aborted


@pytest.mark.parametrize(
    ("own", "status"), [("127.0.0.1", b"403"), ("::1", b"403"), ("10.0.0.7", b"200")]
)
def test_a_foreign_host_is_refused_over_loopback_alone(own: str, status: bytes) -> None:
    one = Alone(own=own)
    one.feed(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    one.run(1)
    assert one.transport.sent.split()[1] == status


def test_a_refused_body_is_not_taken_for_requests() -> None:
    one = Alone()
    body = head("/commands/srst", "POST")
    one.feed(head("/commands/ruok", more=f"Content-Length: {len(body)}\r\n") + body)
    one.run(1)
    one.feed(body * 100)
    one.run(1)
    assert one.transport.sent.count(b"HTTP/1.1 ") == 1 and one.looks == 0
    assert not one.transport.aborted
    one.feed(b"x" * 2 * admin_http.LEFT_BYTES_MAX)
    assert one.transport.aborted


def test_a_body_in_chunks_is_not_read() -> None:
    one = Alone()
    one.feed(head("/commands/srst", "POST", "Transfer-Encoding: chunked\r\n"))
    one.feed(b"1\r\nx\r\n" * 20_000)
    one.run(1)
    assert one.transport.sent.startswith(b"HTTP/1.1 413")
    assert one.connection._http.trailing_data == (b"", False)


def test_an_answer_of_no_use_any_more_is_not_made() -> None:
    one = Alone()
    one.feed(head("/metrics"))
    one.transport.abort()
    one.connection.connection_lost(None)
    one.run(1)
    assert one.looks == 0 and not one.transport.sent


# --- ports --------------------------------------------------------------------------


@pytest.fixture(name="taken")
def _taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def test_a_port_that_nobody_named_may_be_taken(
    taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = attrs.evolve(CONFIG, admin=ClientAddress("127.0.0.1", taken))
    with ExitStack() as stack:
        assert bind_http(config, stack) == []
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("going on without the admin server: cannot listen on 127.0.0.1:")


def test_a_port_that_is_named_must_be_free(taken: int) -> None:
    admin = attrs.evolve(ADMIN, admin=ClientAddress("127.0.0.1", taken))
    metrics = attrs.evolve(
        CONFIG, metrics=ClientAddress("127.0.0.1", taken), metrics_line="zoo.cfg:3"
    )
    for config in (admin, metrics):
        with ExitStack() as stack, pytest.raises(ConfigError, match="zoo.cfg:3: cannot listen on"):
            bind_http(config, stack)


def test_what_is_named_has_its_port_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    address = ClientAddress("127.0.0.1", port)
    config = attrs.evolve(CONFIG, admin=address, metrics=address, metrics_line="zoo.cfg:3")
    with ExitStack() as stack:
        assert [each.name for each in bind_http(config, stack)] == ["metrics"]


@pytest.mark.parametrize("host", ["203.0.113.7", "nowhere.invalid"])
def test_a_host_that_is_not_this_machine(host: str) -> None:
    """Also where no port is named: going without is for a port that is taken."""
    line = f"zoo.cfg:5: admin.serverAddress={host}"
    admin = attrs.evolve(CONFIG, admin=ClientAddress(host, 0), admin_host_line=line)
    metrics = attrs.evolve(
        CONFIG, metrics=ClientAddress(host, 0), metrics_line="zoo.cfg:3", metrics_host_line=line
    )
    for config in (admin, metrics):
        with ExitStack() as stack, pytest.raises(ConfigError) as caught:
            bind_http(config, stack)
        assert str(caught.value).startswith(f"{line}: cannot listen on {host}:0: ")


def test_of_two_that_start_at_once_one_goes_without() -> None:
    """Both could bind before either listens."""
    with ExitStack() as stack:
        (first,) = bind_http(ADMIN, stack)
        port = first.sockets[0].getsockname()[1]
        second = attrs.evolve(ADMIN, admin=ClientAddress("127.0.0.1", port), admin_line="")
        assert bind_http(second, stack) == []


def test_without_the_library_there_is_no_http(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin_ports, "LIBRARY", "a_package_that_nobody_has")
    caplog.set_level(logging.WARNING)
    with ExitStack() as stack:
        assert bind_http(attrs.evolve(ADMIN, admin_line=""), stack) == []
        assert "a_package_that_nobody_has is not installed" in caplog.text
        with pytest.raises(ConfigError, match="is not installed"):
            bind_http(ADMIN, stack)


def test_a_server_that_nobody_asks_has_not_imported_it() -> None:
    code = (
        "import sys, zkpy.server.app\n"
        "late = ('h11', 'json', 'zkpy.admin.web', 'zkpy.admin.prometheus')\n"
        "print([name for name in late if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
