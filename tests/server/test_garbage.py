"""A whole server under kazoo leaves nothing that only the garbage collector could free."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from zkpy.config import option_setting, standalone
from zkpy.replica.status import status_of
from zkpy.server.app import Server
from zkpy.server.boot import bind_clients, build_replica, open_storage

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
