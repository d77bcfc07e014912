"""Two things that only size shows: a million znodes, and one session with many ephemerals.

Znodes lie in directories of a thousand, /million/0000/000 and on, as the generator's
`--existing` expects them, and are made by multis through one session.
"""

import re
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

from tests.bench.figures import THROUGHPUT, figure_of
from tests.bench.loads import LOADS, Generator, LoadFailed
from tests.bench.peers import DoesNotServe, Peer
from wire.client import ClientConnection, Event, Reply, Request, Role
from wire.codes import OpCode
from wire.jute import Record
from wire.records import (
    OPEN_ACL,
    ConnectRequest,
    CreateRequest,
    ExistsRequest,
    ExistsResponse,
    MultiRequest,
    SetDataRequest,
    SyncRequest,
)

VALUE: Final = b"v" * 100
PER_DIRECTORY: Final = 1000
IN_FLIGHT: Final = 4
SESSION_MS: Final = 40_000
PATIENCE_S: Final = 300
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
SNAP_COUNT: Final = 500
"""Transactions between images, so that a few hundred writes have one made."""
SETS_AT_ONCE: Final = 50
REPEATS: Final = 3
MILLION_ROOT: Final = "/million"
EPHEMERALS_ROOT: Final = "/ephemerals"
EPHEMERAL: Final = 1
READS: Final = ("get-16x1", "get-16x16")
READS_AT_A_RATE: Final = "--mode get --connections 16 --rate 2000"
OTHERS: Final = "--mode mix --connections 16 --rate 500"
"""What other clients do while the session closes."""
BEFORE_CLOSE_S: Final = 3.0
AFTER_CLOSE_S: Final = 12.0
_POLL_S: Final = 0.05
_GROWING_S: Final = 0.5
_NUMBERED: Final = re.compile(r"image\.[0-9a-f]+")


class Session:
    """A client that waits: requests are sent a few at a time, and an error is an exception."""

    def __init__(self, host: str) -> None:
        name, port = host.rsplit(":", 1)
        self._socket = socket.create_connection((name, int(port)), PATIENCE_S)
        self._wire = ClientConnection(Role.CLIENT, FRAME_BYTES_MAX)
        self._xid = 0
        self._send(ConnectRequest(0, 0, SESSION_MS, 0, bytes(16), False))
        self._came: list[Event] = []
        self._receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _send(self, event: Event) -> None:
        self._socket.sendall(self._wire.send(event))

    def _receive(self) -> Event:
        while not self._came:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._came += self._wire.receive_data(data)
        return self._came.pop(0)

    def _ask(self, opcode: OpCode, body: Record | None) -> None:
        self._xid += 1
        self._send(Request(self._xid, opcode, body))

    def _answer(self) -> Reply:
        reply = self._receive()
        assert isinstance(reply, Reply)
        if reply.error:
            raise RuntimeError(f"a request met error {reply.error}")
        return reply

    def ask(self, opcode: OpCode, body: Record | None) -> Record | None:
        self._ask(opcode, body)
        return self._answer().body

    def ask_many(self, opcode: OpCode, bodies: Iterable[Record]) -> None:
        """With IN_FLIGHT of them in flight."""
        asked = 0
        for asked, body in enumerate(bodies, 1):
            self._ask(opcode, body)
            if asked > IN_FLIGHT:
                self._answer()
        for _ in range(min(asked, IN_FLIGHT)):
            self._answer()

    def create(self, path: str) -> None:
        self.ask(OpCode.CREATE, CreateRequest(path, b"", list(OPEN_ACL), 0))

    def count_children(self, path: str) -> int:
        """As they are at this server once it has all that was committed."""
        self.ask(OpCode.SYNC, SyncRequest(path))
        found = self.ask(OpCode.EXISTS, ExistsRequest(path, False))
        assert isinstance(found, ExistsResponse)
        return found.stat.num_children

    def close(self) -> None:
        self.ask(OpCode.CLOSE_SESSION, None)


# --- a million znodes ----------------------------------------------------------------


def million_paths(count: int) -> Iterator[list[str]]:
    """One directory at a time, itself first, unless it holds nothing."""
    for first in range(0, count, PER_DIRECTORY):
        directory = f"{MILLION_ROOT}/{first // PER_DIRECTORY:04}"
        names = range(min(PER_DIRECTORY, count - first))
        yield [directory, *(f"{directory}/{name:03}" for name in names)]


def creating(paths: Iterable[str], data: bytes, flags: int = 0) -> MultiRequest:
    acl = list(OPEN_ACL)
    return MultiRequest(
        [(OpCode.CREATE, CreateRequest(path, data, acl, flags)) for path in paths],
    )


def measure_million(
    peer: Peer, generator: Generator, count: int, seconds: float, warmup: float
) -> dict[str, Any]:
    """The peer starts with nothing, and is running afterwards."""
    settings = {"snapCount": str(SNAP_COUNT)}
    peer.start(settings)
    empty = {load: _reads(peer, generator, load, "", seconds, warmup) for load in READS}
    started = time.monotonic()
    with Session(peer.hosts[0]) as session:
        session.create(MILLION_ROOT)
        session.ask_many(OpCode.MULTI, (creating(each, VALUE) for each in million_paths(count)))
        filled = time.monotonic() - started
        write_image(session, peer)  # maybe one that was begun before
        image = write_image(session, peer)
    loaded = peer.resident_mib()
    peer.stop()
    start = peer.start(settings)
    rest = peer.resident_mib()
    there = f"--existing {MILLION_ROOT} --keys {count}"
    full = {load: _reads(peer, generator, load, there, seconds, warmup) for load in READS}
    during, images = _reads_during_image(peer, generator, there, 1.5 * image + seconds)
    return {
        "fill_s": filled,
        "loaded_mib": loaded,
        "first_session_s": start,
        "rest_mib": rest,
        "reads_empty": empty,
        "reads_full": full,
        "during_image": during,
        "image_s": image,
        "images": images,
    }


def _reads(
    peer: Peer, generator: Generator, load: str, more: str, seconds: float, warmup: float
) -> list[dict[str, Any]]:
    options = f"{LOADS[load].options} {more}"
    first = generator.run(peer.hosts, options, seconds, warmup)
    return [first, *(generator.run(peer.hosts, options, seconds) for _ in range(REPEATS - 1))]


def throughput_of(reports: Iterable[dict[str, Any]]) -> float:
    return median(figure_of(report, THROUGHPUT) for report in reports)


def _reads_during_image(
    peer: Peer, generator: Generator, there: str, seconds: float
) -> tuple[dict[str, Any], int]:
    """The report, and how many images were finished within its window."""
    options = f"{READS_AT_A_RATE} --timeline 100 {there}"
    before = finished_images(peer)
    running = generator.begin(peer.hosts, options, seconds, warmup=1.0)
    try:
        with Session(peer.hosts[0]) as session:
            write_image(session, peer)
    finally:
        images = 0 if running.poll() is not None else len(finished_images(peer) - before)
        report = generator.finish(running, seconds)
    return report, images


def write_image(session: Session, peer: Peer) -> float:
    """Write until the server takes an image, and wait for that; the seconds it took."""
    before = finished_images(peer)
    started = time.monotonic()
    sent = 0
    while not finished_images(peer) - before:
        if time.monotonic() - started > PATIENCE_S:
            raise LoadFailed(f"{peer.name} wrote no image in {PATIENCE_S} s")
        if sent < 2 * SNAP_COUNT:
            sets = [SetDataRequest(MILLION_ROOT, VALUE, -1)] * SETS_AT_ONCE
            session.ask_many(OpCode.SET_DATA, sets)
            sent += SETS_AT_ONCE
        time.sleep(_POLL_S)
    return time.monotonic() - started


def finished_images(peer: Peer) -> set[Path]:
    """zkpy gives an image its name when it is whole; ZooKeeper's is, when it grows no more."""
    (data,) = peer.data_directories
    ours = {path for path in data.rglob("image.*") if _NUMBERED.fullmatch(path.name)}
    theirs = {path: size_of(path) for path in data.rglob("snapshot.*")}
    if theirs:
        time.sleep(_GROWING_S)
    return ours | {path for path, size in theirs.items() if size and size_of(path) == size}


def size_of(path: Path) -> int:
    """0 also for what has gone meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# --- many ephemerals -----------------------------------------------------------------


def ephemeral_batches(count: int) -> Iterator[list[str]]:
    for first in range(0, count, PER_DIRECTORY):
        numbers = range(first, min(first + PER_DIRECTORY, count))
        yield [f"{EPHEMERALS_ROOT}/e{number:07}" for number in numbers]


def measure_ephemerals(peer: Peer, generator: Generator, count: int) -> dict[str, Any]:
    """What does not work is told in the words of who noticed, under the same names."""
    peer.start()
    with Session(peer.hosts[-1]) as session:
        session.create(EPHEMERALS_ROOT)
        batches = (creating(each, b"", EPHEMERAL) for each in ephemeral_batches(count))
        session.ask_many(OpCode.MULTI, batches)
        found = _close_under_load(peer, generator, session)
    found["resident_mib"] = peer.resident_mib()
    peer.stop()
    return found | _start_again(peer)


def _close_under_load(peer: Peer, generator: Generator, session: Session) -> dict[str, Any]:
    window = BEFORE_CLOSE_S + AFTER_CLOSE_S
    running = generator.begin(peer.hosts, f"{OTHERS} --timeline 100", window, warmup=1.0)
    time.sleep(1.0 + BEFORE_CLOSE_S)
    found: dict[str, Any] = {}
    started = time.monotonic()
    try:
        session.close()
        found["close_s"] = time.monotonic() - started
        _await_gone(peer)
        found["gone_everywhere_s"] = time.monotonic() - started
    except (OSError, LoadFailed, RuntimeError) as error:
        found["close_failed"] = str(error)
    try:
        found["others"] = generator.finish(running, window)
    except LoadFailed as error:
        found["others_failed"] = str(error)
    return found


def _await_gone(peer: Peer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    for host in peer.hosts:
        with Session(host) as session:
            while session.count_children(EPHEMERALS_ROOT):
                if time.monotonic() > deadline:
                    raise LoadFailed(f"ephemerals still there after {PATIENCE_S} s")
                time.sleep(_POLL_S)
            session.close()


def _start_again(peer: Peer) -> dict[str, Any]:
    try:
        seconds = peer.start()
        left = []
        for host in peer.hosts:
            with Session(host) as session:
                left.append(session.count_children(EPHEMERALS_ROOT))
                session.close()
    except (DoesNotServe, OSError, RuntimeError) as error:
        return {"restart_failed": "\n".join([str(error)[-1000:], *peer.ended_by_themselves()])}
    return {"restart_s": seconds, "left": max(left)}
