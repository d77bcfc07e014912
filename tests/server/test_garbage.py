"""A whole server under kazoo leaves nothing that only the garbage collector could free."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from tests.server.authority import Authority, lines_of
from zkpy.config import ClientAddress, option_setting, standalone
from zkpy.replica.status import status_of
from zkpy.server.app import Server
from zkpy.server.boot import bind_clients, build_replica, open_storage
from zkpy.server.tls import Certificates

Play = Callable[[Callable[[], Awaitable[object]]], object]
OURS = ("zkpy", "wire")


def test_a_workload_leaves_no_cyclic_garbage(play: Play, tmp_path: Path) -> None:
    options = ["snapCount=40", "4lw.commands.whitelist=*"]
    config = standalone(str(tmp_path / "data"), 0, map(option_setting, options))

    async def scene() -> None:
        storage, recovered = open_storage(config)
        replica = build_replica(config, recovered)
        look = partial(status_of, replica)
        server = Server(config, replica, storage, bind_clients(config), look)
        running = asyncio.create_task(server.run())
        await server.listening.wait()
        hosts = str(server.address)
        await asyncio.to_thread(work, hosts, 1)  # what is made once and kept
        found = await collect(lambda: work(hosts, 4))
        server.stop()
        await running
        assert found == []

    play(scene)


def test_connections_over_tls_leave_none(play: Play, tmp_path: Path) -> None:
    """Those that come to something, and those that do not; and plain ones on the same port."""
    authority = Authority(tmp_path)
    issued = authority.issue()
    options = [*lines_of(authority, issued), "client.portUnification=true"]
    config = standalone(str(tmp_path / "data"), 0, map(option_setting, options))
    assert config.tls is not None

    async def scene() -> None:
        storage, recovered = open_storage(config)
        replica = build_replica(config, recovered)
        look = partial(status_of, replica)
        certificates = Certificates(config.tls) if config.tls is not None else None
        sockets = bind_clients(config)
        server = Server(
            config, replica, storage, sockets, look, certificates=certificates, secure=[]
        )
        running = asyncio.create_task(server.run())
        await server.listening.wait()
        pem = str(issued.save("client"))
        given = {"use_ssl": True, "certfile": pem, "keyfile": pem, "ca": str(authority.path)}
        await asyncio.to_thread(mix, server.address, given)  # what is made once and kept
        found = await collect(lambda: mix(server.address, given))
        while server.clients.links or server.clients.entering:  # noqa: ASYNC110 - told to nobody
            await asyncio.sleep(0)
        server.stop()
        await running
        assert found == []

    play(scene)


def mix(address: ClientAddress, given: dict[str, object]) -> None:
    for said in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x05junk.", b"ruok"):
        with socket.create_connection((address.host, address.port)) as opened:
            opened.sendall(said)
    for options in (given, {}):  # last: once they are served, all others were accepted
        client = KazooClient(str(address), **options)
        client.start()
        client.create("/w", b"x" * 100_000, sequence=True)
        client.stop()
        client.close()


async def collect(workload: Callable[[], None]) -> list[str]:
    """Objects of ours that a workload left in cycles, shown."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await asyncio.to_thread(workload)
        gc.collect()
        return [
            f"{type(each).__name__}: {each!r:.200}"
            for each in gc.garbage
            if type(each).__module__.split(".")[0] in OURS
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def work(hosts: str, rounds: int) -> None:
    """Sessions, writes, reads, refusals, watches, images, words, and clients that vanish."""
    for _ in range(rounds):
        client = KazooClient(hosts)
        client.start()
        base = client.create("/w", b"", sequence=True)
        for index in range(20):
            client.create(f"{base}/{index}", b"x", ephemeral=index % 2 == 0)
            client.get(f"{base}/{index}", watch=lambda event: None)
            client.set(f"{base}/{index}", b"y")
        client.get_children(base, watch=lambda event: None)
        with pytest.raises(NoNodeError):
            client.get("/nowhere")
        with pytest.raises(NodeExistsError):
            client.create(base)
        with pytest.raises(BadVersionError):
            client.set(base, b"", version=7)
        client.transaction().commit()
        client.sync(base)
        client.command(b"mntr")
        client.delete(base, recursive=True)
        client.stop()
        client.close()
