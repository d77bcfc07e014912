"""An ensemble of zkpy processes with ordinary zoo.cfgs, whose members meet through a `Proxy`.

Waits are for conditions that a member shows itself (`srvr`, `isro`), with a limit; whoever
waits in vain gets `TooLate`.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.faults.proxy import HOST, Proxy
from tests.server.members import Member, member_ports

ASK_S: Final = 2.0
LOOK_S: Final = 0.02
SERVING_S: Final = 30.0
"""All that stands between a process's start, or the end of a fault, and a member that serves."""


class TooLate(Exception):
    """Not within its time."""


class Cluster:
    """Members by server id, all of them voters."""

    def __init__(self, directory: Path, size: int, settings: str) -> None:
        ports = member_ports(size)
        self.members = {sid: Member(sid, directory, ports[sid - 1]) for sid in range(1, size + 1)}
        self.proxy = Proxy(list(self.members))
        self.paused: dict[int, None] = {}
        self._settings = settings

    @property
    def client_ports(self) -> dict[int, int]:
        return {sid: member.client_port for sid, member in self.members.items()}

    async def start(self) -> None:
        await self.proxy.start(
            {sid: member.quorum_port for sid, member in self.members.items()},
            {sid: member.election_port for sid, member in self.members.items()},
        )
        for sid, member in self.members.items():
            member.write_files("\n".join([self._settings, *self._lines(sid), ""]))
            member.start()
        await self.until_all_serve()

    def _lines(self, reader: int) -> list[str]:
        """Where `reader` is told to find everybody: itself as it is, the others behind relays."""
        lines = []
        for sid, member in self.members.items():
            ports = member.quorum_port, member.election_port
            if sid != reader:
                relay = self.proxy.relays[reader, sid]
                ports = relay.tcp_port, relay.udp_port
            lines.append(f"server.{sid}={HOST}:{ports[0]}:{ports[1]}")
        return lines

    # --- faults

    def kill(self, sid: int) -> None:
        """With what is known of it: a process that was stopped dies as well."""
        if self.members[sid].child is not None:
            self.paused.pop(sid, None)
            self.members[sid].end(signal.SIGKILL)

    async def end(self, sid: int) -> int:
        """In order, as an operator does it."""
        return await asyncio.to_thread(self.members[sid].end, signal.SIGTERM)

    def pause(self, sid: int) -> None:
        self._signal(sid, signal.SIGSTOP)
        self.paused[sid] = None

    def resume_all(self) -> None:
        for sid in list(self.paused):
            self._signal(sid, signal.SIGCONT)
            del self.paused[sid]

    def _signal(self, sid: int, number: int) -> None:
        child = self.members[sid].child
        assert child is not None
        child.send_signal(number)

    def restart(self) -> None:
        """Whoever is down."""
        for member in self.members.values():
            if member.child is None:
                member.start()

    def mend(self) -> None:
        self.proxy.heal()
        self.resume_all()
        self.restart()

    async def stop(self) -> None:
        self.resume_all()
        for member in self.members.values():
            if member.child is not None:
                member.end(signal.SIGKILL)
        await self.proxy.stop()

    def died(self) -> list[int]:
        """Who ended without having been told to."""
        children = {sid: member.child for sid, member in self.members.items()}
        return [sid for sid, child in children.items() if child and child.poll() is not None]

    # --- asking

    async def ask(self, sid: int, word: str) -> str:
        """A four-letter word; empty if nobody answers."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ASK_S):
                reader, writer = await asyncio.open_connection(HOST, self.client_ports[sid])
                try:
                    writer.write(word.encode())
                    return (await reader.read(-1)).decode()
                finally:
                    writer.close()
        return ""

    async def leader(self) -> int | None:
        for sid, member in self.members.items():
            running = member.child is not None and sid not in self.paused
            if running and "Mode: leader\n" in await self.ask(sid, "srvr"):
                return sid
        return None

    async def all_serve(self) -> bool:
        return all([await self.ask(sid, "isro") == "rw" for sid in self.members])

    async def last_zxids(self) -> list[str]:
        """As each member shows it; empty where it serves nobody."""
        found = []
        for sid in self.members:
            lines = (await self.ask(sid, "srvr")).splitlines()
            found.append("".join(line for line in lines if line.startswith("Zxid: ")))
        return found

    async def until_all_serve(self) -> float:
        return await until("every member serves", self.all_serve, SERVING_S)

    async def until_all_equal(self) -> float:
        async def equal() -> bool:
            found = await self.last_zxids()
            return all(found) and len(set(found)) == 1

        return await until("every member is at the same zxid", equal, SERVING_S)


async def until(what: str, holds: Callable[[], object], limit_s: float) -> float:
    """Seconds until it holds, asked again and again; TooLate.  `holds` may be a coroutine."""
    began = time.monotonic()
    while True:
        answer = holds()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return time.monotonic() - began
        if time.monotonic() - began > limit_s:
            raise TooLate(f"not within {limit_s:.0f} s: {what}")
        await asyncio.sleep(LOOK_S)
