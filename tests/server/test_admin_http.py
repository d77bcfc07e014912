"""HTTP on real sockets: what is asked for, broken, slow, too much, and who goes without."""

import asyncio
import gc
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import attrs
import pytest

from tests.admin.test_admin import CONFIG, make_view
from tests.server.fakes import Reader, Writer
from zkpy.admin.commands import ServerView
from zkpy.config import ClientAddress
from zkpy.errors import ConfigError
from zkpy.replica.status import Tables
from zkpy.server import admin_http, admin_ports
from zkpy.server.admin_ports import HttpServer, bind_http

Play = Callable[[Callable[[], Any]], Any]
ADMIN = attrs.evolve(CONFIG, admin=ClientAddress("127.0.0.1", 0), admin_line="zoo.cfg:3")


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

    def __init__(self, port: int) -> None:
        self.port = port
        self.view = make_view()
        self._writers: list[Writer] = []

    def is_streaming(self) -> bool:
        """Whether a long answer is on its way."""
        hub = self.server._hub
        return hub is not None and any(each._pieces is not None for each in hub.connections)

    def look(self) -> ServerView:
        return self.view

    async def connect(self, limit: int = 2**16) -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
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


def head(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


@asynccontextmanager
async def serving(idle_ms: int = 30_000) -> AsyncIterator[Site]:
    config = attrs.evolve(ADMIN, admin_idle_ms=idle_ms, four_letter_words=("*",))
    with ExitStack() as stack:
        ports = bind_http(config, stack)
        site = Site(ports[0].sockets[0].getsockname()[1])
        server = site.server = HttpServer(ports, config, site.look)
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
            assert re.search(r"HTTP: POST /commands/srst of 127.0.0.1:\d+: 200\n", caplog.text)

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
            with pytest.raises((ConnectionError, AssertionError)):
                assert (await reader.read()).endswith(b"0\r\n\r\n")
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
    monkeypatch.setattr(admin_http, "CONNECTIONS_MAX", 2)

    async def scene() -> None:
        async with serving() as site:
            two = [await site.connect() for _ in range(2)]
            for reader, writer in two:
                writer.write(head("/commands/ruok"))
                assert (await read_answer(reader))[0] == 200
            for _ in range(2):
                assert await is_cut_off(await site.connect())
            assert caplog.text.count("refusing HTTP connections") == 1
            two[0][1].write(head("/commands/ruok", more="Connection: close\r\n"))
            await two[0][0].read()
            reader, writer = await site.connect()
            writer.write(head("/commands/ruok"))
            assert (await read_answer(reader))[0] == 200

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

        def step_of(name: str, steps: int) -> Callable[[], bool]:
            left = iter(range(steps, 0, -1))

            def step() -> bool:
                done.append(name)
                more = next(left) > 1
                if len(done) == 5:
                    over.set_result(None)
                return more

            return step

        pump = admin_http.Pump(loop)
        pump.add(step_of("a", 3))
        pump.add(step_of("b", 2))
        await over
        assert done == ["a", "b", "a", "b", "a"]

    play(scene)


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
