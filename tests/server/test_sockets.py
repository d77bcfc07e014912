"""Listening sockets and addresses."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.server.conftest import Play
from tests.server.fakes import Bench
from zkpy.config import ANY_ADDRESS, ClientAddress
from zkpy.server.sockets import bind, plain_host


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bind_in(opened: ExitStack, host: str, port: int = 0) -> list[socket.socket]:
    return [opened.enter_context(each) for each in bind(ClientAddress(host, port))]


def test_one_address(opened: ExitStack) -> None:
    (one,) = bind_in(opened, "127.0.0.1")
    assert one.getsockname()[0] == "127.0.0.1"


def test_every_address_is_one_port(opened: ExitStack) -> None:
    found = bind_in(opened, ANY_ADDRESS)
    assert found[0].getsockname()[0] == "0.0.0.0"
    assert len({each.getsockname()[1] for each in found}) == 1
    assert [each.family for each in found[1:]] in ([], [socket.AF_INET6])


def test_names_are_looked_up(opened: ExitStack) -> None:
    (one,) = bind_in(opened, "localhost")
    assert one.getsockname()[0] in ("127.0.0.1", "::1")


def test_port_that_is_taken(opened: ExitStack) -> None:
    (one,) = bind_in(opened, "127.0.0.1")
    one.listen()
    with pytest.raises(OSError, match="in use"):
        bind(ClientAddress("127.0.0.1", one.getsockname()[1]))
    with pytest.raises(OSError, match="in use"):
        bind(ClientAddress(ANY_ADDRESS, one.getsockname()[1]))


def test_port_that_only_listening_finds_taken(play: Play[object], opened: ExitStack) -> None:
    """Both were bound before either listened, as client and quorum port of one server are."""

    async def scene() -> None:
        (taken,) = bind_in(opened, "127.0.0.1")
        (late,) = bind_in(opened, "127.0.0.1", taken.getsockname()[1])
        taken.listen()
        async with Bench() as bench:
            with pytest.raises(OSError, match="in use"):
                await bench.server.clients.listen([late], 10)

    play(scene)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("::ffff:1", "::ffff:1"),
    ],
)
def test_plain_host(host: str, plain: str) -> None:
    assert plain_host(host) == plain
