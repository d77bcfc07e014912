"""A scripted core and disk for the shell, and a server that runs on them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from wire.peer import Notification
from zkpy.config import ClientAddress, Config
from zkpy.effects import DiskBatch, ImageEnd, ImageStep, Ready
from zkpy.limits import Limits
from zkpy.replica.status import Status
from zkpy.server.app import Server
from zkpy.server.sockets import bind
from zkpy.server.tls import Certificates

T = TypeVar("T")
LIMIT_S = 20
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class FakeImages:
    paused = False
    under_way = False


class FakeCore:
    """Answers `x` at once with `x`, in the next pass; `w` once a disk batch is durable.

    A test sets `next` to what the coming pass is to ask for besides.
    """

    def __init__(self) -> None:
        self.is_overloaded = False
        self.images = FakeImages()
        self.notices: list[str] = []
        self.next = Ready()
        self.due: int | None = None
        self.calls: list[tuple[object, ...]] = []
        self.passes = 0
        self.admin: list[tuple[int, str]] = []
        self.changed = asyncio.Event()
        self.fails_on: str | None = None
        self._batches = 0
        self._unsaved: dict[int, bytes] = {}
        self._in_flight: dict[int, bytes] = {}

    def overloaded(self, link: int) -> bool:
        return self.is_overloaded

    def names(self) -> list[object]:
        return [call[0] for call in self.calls]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a call after which the condition holds."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def until_called(self, name: str, times: int) -> None:
        await self.until(lambda: self.names().count(name) >= times)

    def _note(self, *call: object) -> None:
        if call[0] == self.fails_on:
            raise AssertionError(f"{call[0]} failed")
        self.calls.append(call)
        self.changed.set()

    def client_up(self, link: int, address: str, now: int, subject: str | None = None) -> None:
        self._note("up", link, address, *([] if subject is None else [subject]))

    def choke_client(self, link: int, choked: bool, now: int) -> None:
        self._note("choke", link, choked)

    def client_down(self, link: int, now: int) -> None:
        self._note("down", link)

    def receive_client(self, link: int, data: bytes, now: int) -> bool:
        self._note("receive", link, data)
        if data.startswith(b"4"):
            self.admin.append((link, data[1:].decode()))
        elif data.startswith(b"w"):
            self._unsaved[link] = data
        else:
            self.next.clients.append((link, data))
        return self.is_overloaded

    def link_up(self, sid: int, now: int) -> None:
        self._note("link_up", sid)

    def link_down(self, sid: int, now: int) -> None:
        self._note("link_down", sid)

    def receive_peer(self, sid: int, message: object, now: int) -> None:
        self._note("peer", sid, message)

    def receive_vote(self, sid: int, notification: Notification, now: int) -> None:
        self._note("vote", sid, notification)

    def saved(self, number: int, now: int) -> DiskBatch | None:
        self._note("saved", number)
        self.next.clients.extend(self._in_flight.items())
        self.next.updated.extend(self._in_flight)
        self._in_flight = {}
        return self._next_batch()

    def _next_batch(self) -> DiskBatch | None:
        if self._in_flight or not self._unsaved:
            return None
        self._in_flight, self._unsaved = self._unsaved, {}
        self._batches += 1
        return DiskBatch(self._batches, [])

    def set_low_space(self, low: bool, now: int) -> None:
        self._note("low_space", low)

    def image_saved(self, zxid: int, now: int) -> None:
        self._note("image_saved", zxid)

    def handle_timer(self, now: int) -> None:
        self._note("timer", now)
        self.due = None

    def deadline(self) -> int | None:
        return self.due

    def reset_counts(self) -> None:
        self._note("reset_counts")

    def take_admin(self) -> list[tuple[int, str]]:
        asked, self.admin = self.admin, []
        return asked

    def take_audit(self, ending: bool = False) -> list[str]:
        return []

    def take_notices(self) -> list[str]:
        notices, self.notices = self.notices, []
        return notices

    def ready(self) -> Ready:
        self.passes += 1
        ready, self.next = self.next, Ready()
        ready.disk = self._next_batch()
        self._note("ready")
        return ready


class FakeDisk:
    """Holds every batch until `gate` is open; fails when told to."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.image_gate = threading.Event()
        self.image_gate.set()
        self.failure: Exception | None = None
        self.slices_wanted = 0
        self.sliced = threading.Event()

    async def until_writing(self) -> None:
        """Wait until a batch is in the thread's hands."""
        assert await asyncio.to_thread(self.entered.wait, LIMIT_S)

    def execute(self, batch: DiskBatch) -> None:
        self.entered.set()
        assert self.gate.wait(LIMIT_S)
        if self.failure is not None:
            raise self.failure
        self.calls.append(("execute", batch.number))

    def begin(self, batch: DiskBatch) -> None:
        """Everything is for the thread."""

    def finish(self, failure: OSError | None = None) -> None:
        raise AssertionError("nothing was begun")

    def wants_slice(self) -> bool:
        return self.slices_wanted > 0

    def prepare_slice(self) -> None:
        self.slices_wanted -= 1
        self.calls.append("slice")
        self.sliced.set()

    def has_next_segment(self) -> bool:
        return False

    def stop_preparing(self) -> None:
        self.calls.append("stopped")
        self.sliced.set()

    def image_step(self, step: ImageStep) -> int | None:
        assert self.image_gate.wait(LIMIT_S)
        self.calls.append(step)
        return step.zxid if isinstance(step, ImageEnd) else None

    def purge(self, retain: int) -> None:
        self.calls.append(("purge", retain))

    def close(self) -> None:
        self.calls.append("close")


def look() -> Status:
    return Status("standalone", 5, 4, 3, 2, 1, 0, 0, 0, 0, lambda: iter(()))


class Bench:
    """A running server with its fakes; `async with` stops it."""

    def __init__(self, **settings: object) -> None:
        limits = settings.pop("limits", Limits())
        assert isinstance(limits, Limits)
        self.core = FakeCore()
        self.disk = FakeDisk()
        address = ClientAddress("127.0.0.1", 0)
        client = settings.pop("client", address)
        assert client is None or isinstance(client, ClientAddress)
        self.config = Config(
            "/nowhere",
            "/nowhere",
            client,
            limits,
            **settings,  # type: ignore[arg-type]
        )
        tls, secure = self.config.tls, self.config.secure
        self.server = Server(
            self.config,
            self.core,
            self.disk,
            bind(client) if client is not None else [],
            look,
            certificates=Certificates(tls) if tls is not None else None,
            secure=bind(secure) if secure is not None else [],
        )
        self._writers: list[Writer] = []

    async def __aenter__(self) -> Self:
        self.running = asyncio.create_task(self.server.run())
        await self.server.listening.wait()
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.disk.gate.set()
        self.disk.image_gate.set()
        if not self.running.done():
            self.server.stop()
        await self.running
        for writer in self._writers:
            writer.close()

    async def run_pass(self) -> None:
        """One pass, with whatever the core asks for in it, carried out."""
        settled = self.core.passes
        self.server.driver.request_pass()
        await self.core.until(lambda: self.core.passes > settled)

    async def connect(self) -> tuple[Reader, Writer]:
        """A client that the core knows of."""
        before = self.core.names().count("up")
        reader, writer = await self.connect_raw()
        await self.core.until_called("up", before + 1)
        return reader, writer

    async def connect_raw(self) -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.address.port)
        self._writers.append(writer)
        return reader, writer


def play(scene: Callable[[], Awaitable[T]], loop: Callable[[], asyncio.AbstractEventLoop]) -> T:
    """Run one test on a new event loop, bounded in time; gc is left as it was found."""
    import gc

    async def bounded() -> T:
        async with asyncio.timeout(LIMIT_S):
            return await scene()

    enabled = gc.isenabled()
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(bounded())
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
