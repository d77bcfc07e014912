"""What `zkpy serve` runs: starts a server, runs it, stops it in order.

Start (the parts come from `server.boot`): bind the ports, those for the other members first,
open the data directory, make the core from what it holds, freeze the garbage collector, run.

Stop (SIGTERM, SIGINT): no new connections, clients cut off, the log batch under way
finished, the data directory closed.  Nobody is waited for: what was acknowledged is
durable.  A second signal ends the process at once.

Halt (a failed disk, a broken invariant): the same without finishing anything, and
without touching the data directory again.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import zkpy
from zkpy.admin import fourletter
from zkpy.admin.commands import ConnectionView, ServerView, find_user
from zkpy.admin.metrics import Metrics
from zkpy.compiled import COMPILED
from zkpy.config import LOOPBACK, ClientAddress, Config
from zkpy.config.ensemble import is_wildcard
from zkpy.config.tls import Tls
from zkpy.effects import ImageBegin, ImageStep
from zkpy.errors import ConfigError
from zkpy.replica.status import Details, LinkStatus, Status, Tables, details_of, status_of
from zkpy.server import founding
from zkpy.server.admin_ports import HttpServer, Port, bind_http
from zkpy.server.boot import (
    bind_clients,
    bind_secure,
    build_replica,
    cannot_listen,
    open_storage,
    read_election_keys,
    refuse_hopeless,
    refuse_without_room,
)
from zkpy.server.clients import ClientLink, Clients
from zkpy.server.clock import NS_PER_MS, monotonic_ms, monotonic_ns, wall_ms
from zkpy.server.disk_thread import Worker
from zkpy.server.driver import Core, Driver
from zkpy.server.ensemble import Ensemble, bind_ports
from zkpy.server.log_disk import Disk as LogOnly
from zkpy.server.log_disk import LogDisk
from zkpy.server.space import Space, reserve_of
from zkpy.storage.uring import KernelSync
from zkpy.zab.quorum import VoterSet

if TYPE_CHECKING:
    from zkpy.server.secure import Gate
    from zkpy.server.tls import Certificates

log = logging.getLogger("zkpy.server")
audit_log = logging.getLogger("zkpy.audit")

SWITCH_S: Final = 0.0002
"""How long the log's thread waits for a busy loop to let it run.  Python's 5 ms is many times
what a sync takes: under load the disk would mostly wait for the loop."""
EXIT_STOPPED: Final = 0
EXIT_HALTED: Final = 3
IMAGE_BACKLOG_MAX: Final = 16
"""Image slices that wait for the disk at which no more are made: some megabytes."""
PATIENCE_S: Final = 10
"""How long a start may take before the log says what it waits for."""
STOP_TIMEOUT_S: Final = 10.0
"""How long a stop waits for a write that is under way."""


def run(config: Config) -> int:
    """Serve until a signal or a failure; the exit code.

    Raises ConfigError or StorageError if it cannot start."""
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    for warning in config.warnings:
        log.warning("%s", warning)
    raise_descriptor_limit()
    certificates, members = map(read_certificates, (config.tls, config.members_tls))
    keys = read_election_keys(config)
    with ExitStack() as stack:
        ports = bind_ports(config, stack) if config.is_ensemble else None
        sockets = [stack.enter_context(each) for each in bind_clients(config)]
        secure = [stack.enter_context(each) for each in bind_secure(config)]
        http_ports = bind_http(config, stack)
        space = Space((config.data_dir, config.log_dir), reserve_of(config.segment_bytes))
        begun_ns = monotonic_ns()
        storage, recovered = open_storage(config, space)
        for note in recovered.notes:
            log.warning("%s: %s", config.data_dir, note)
        refuse_hopeless(config, recovered)
        refuse_without_room(config, recovered)
        founding.refuse_half_imported(config, recovered)
        founding.refuse_standalone_past(config, recovered)
        founding.forget(config, recovered)
        replica = build_replica(config, recovered)
        metrics = Metrics()
        metrics.start.add(monotonic_ns() - begun_ns)
        metrics.start_entries.add(len(recovered.entries))
        del recovered  # the whole log since the last image

        async def serve() -> int:
            look = partial(status_of, replica)
            details = partial(details_of, replica)
            ensemble = None
            if ports is not None:
                ensemble = Ensemble(config, ports, replica, members, keys)
            server = Server(
                config,
                replica,
                storage,
                sockets,
                look,
                details,
                space,
                ensemble,
                metrics,
                certificates,
                secure,
            )
            server.open_http(http_ports, Tables(replica), storage.newest_image)
            return await server.run()

        runner = stack.enter_context(asyncio.Runner(loop_factory=find_loop_factory()))
        return runner.run(serve())


def read_certificates(tls: Tls | None) -> "Certificates | None":
    """Imported here, as all about TLS: who speaks none is the smaller without."""
    if tls is None:
        return None
    from zkpy.server.tls import Certificates

    return Certificates(tls)


def open_gate(clients: Clients, certificates: "Certificates | None") -> "Gate | None":
    """Likewise."""
    if certificates is None:
        return None
    from zkpy.server.secure import Gate

    return Gate(clients, certificates)


def find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed: it is no dependency outside CPython."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


class Disk(LogOnly, Protocol):
    """What the shell needs of a `Storage`."""

    def image_step(self, step: ImageStep) -> int | None: ...
    def prepare_slice(self) -> object: ...
    def stop_preparing(self) -> object: ...
    def has_next_segment(self) -> bool: ...
    def purge(self, retain: int) -> object: ...
    def close(self) -> object: ...


class Server:
    """One server, from its first pass to its last.  `run` gives the exit code."""

    def __init__(
        self,
        config: Config,
        core: Core,
        disk: Disk,
        sockets: list[socket.socket],
        look: Callable[[], Status],
        details: Callable[[], Details] = Details,
        space: Space | None = None,
        ensemble: Ensemble | None = None,
        metrics: Metrics | None = None,
        certificates: "Certificates | None" = None,
        secure: list[socket.socket] | None = None,
    ) -> None:
        """`sockets` are for plain connections, `secure` for those over TLS."""
        loop = asyncio.get_running_loop()
        self.config = config
        self.core = core
        self.metrics = metrics or Metrics()
        self._started_ms = monotonic_ms()
        self.listening = asyncio.Event()
        self._loop = loop
        self._disk = disk
        self._sockets = sockets
        self._secure = secure or []
        self._look = look
        self._details = details
        self._space = space
        self._ensemble = ensemble
        self._image_behind = False
        self._image_begun_ns = 0
        self._http: HttpServer | None = None
        self._tables: Tables | None = None
        self._newest_image: Callable[[], tuple[int, str] | None] = lambda: None
        self._outcome: asyncio.Future[int] = loop.create_future()
        self.driver = Driver(
            core,
            loop,
            metrics=self.metrics,
            submit=lambda batch: self._log_disk.submit(batch),
            submit_image=self._submit_image,
            answer=self._answer,
            on_halt=self._halt,
        )
        if config.audit:
            self.driver.audit = audit_log.info
        self._log_disk = LogDisk(
            disk,
            loop,
            self.driver.saved,
            self._disk_failed,
            self.metrics,
            config.sync_warning_ms,
            KernelSync.open(),
            self._writes_image,
            self._ask_for_slice,
        )
        self._image_worker = Worker(
            "zkpy-image", self._write_image_step, loop, self._image_saved, self._disk_failed
        )
        # Not the image's thread: an image would wait for it, and the log for the image.
        self._segment_worker = Worker(
            "zkpy-segment", self._prepare_slice, loop, lambda number: None, self._disk_failed
        )
        self.clients = Clients(
            self.driver, config.limits, self.metrics, keepalive=config.tcp_keepalive
        )
        self._certificates = certificates
        self.gate = open_gate(self.clients, certificates)

    def open_http(
        self,
        ports: list[Port],
        tables: Tables,
        newest_image: Callable[[], tuple[int, str] | None],
    ) -> None:
        """Before `run`: what is asked for on these ports, it answers."""
        self._tables = tables
        self._newest_image = newest_image
        self._http = HttpServer(ports, self.config, self._view)

    async def run(self) -> int:
        """Serve until a signal or a failure."""
        self._loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop, number)
        self._log_disk.start()
        self._image_worker.start()
        self._segment_worker.start()
        if self._ensemble is not None:
            await self._ensemble.start(self.driver)
        self.driver.start()
        if self._http is not None:
            await self._http.listen()
        if self._space is not None:
            self._space.start(self._set_low_space, self._disk.has_next_segment)
        if self._ensemble is not None:
            # At once: `ruok` and `isro` are asked, and answered, without a quorum too.
            await self._welcome()
        await self._until_serving()
        if not self._outcome.done():
            freeze_garbage()
            if self._ensemble is None:
                await self._welcome()
        code = await self._outcome
        self._shut_down(code)
        return code

    async def _until_serving(self) -> None:
        """Clients that came earlier would be turned away, and wait before they come again."""
        serving = self._loop.create_future()

        def look() -> None:
            if self._look().mode and not serving.done():
                serving.set_result(None)

        self.driver.after_pass = look
        complaint = self._loop.call_later(
            PATIENCE_S,
            log.warning,
            "not serving yet after %d s: there is no quorum, or it does without this server",
            PATIENCE_S,
        )
        await asyncio.wait((serving, self._outcome), return_when=asyncio.FIRST_COMPLETED)
        complaint.cancel()
        self.driver.after_pass = None

    async def _welcome(self) -> None:
        await self._listen()
        voters = self._ensemble.voters if self._ensemble is not None else None
        log.info("%s", banner(self.config, self.address, voters, self.secure_port))
        if self._http is not None:
            self._http.tell()
        self._audit_own("serverStart", "success")
        self.listening.set()

    def _audit_own(self, operation: str, result: str) -> None:
        if self.driver.audit is not None:
            self.driver.audit(f"user={find_user()}\toperation={operation}\tresult={result}")

    async def _listen(self) -> None:
        """On the port for TLS first: it is the one that may be the only one."""
        config, gate = self.config, self.gate
        if config.secure is not None:
            await self._listen_on(self._secure, config.secure, gate, may_be_plain=False)
        if config.client is not None:
            unified = gate if config.port_unification else None
            await self._listen_on(self._sockets, config.client, unified, may_be_plain=True)
        if self._certificates is not None:
            self._certificates.start()

    async def _listen_on(
        self,
        sockets: list[socket.socket],
        address: ClientAddress,
        gate: "Gate | None",
        *,
        may_be_plain: bool,
    ) -> None:
        enter = None if gate is None else partial(gate.enter, may_be_plain=may_be_plain)
        try:
            await self.clients.listen(sockets, self.config.listen_backlog, enter)
        except OSError as why:
            raise ConfigError(cannot_listen(self.config, address, why)) from None

    @property
    def address(self) -> ClientAddress:
        """Where clients connect: the port is the real one, if any free one was asked for."""
        address = self.config.client or self.config.secure
        assert address is not None, "clients have a port"
        return ClientAddress(address.host, (self._sockets or self._secure)[0].getsockname()[1])

    @property
    def secure_port(self) -> int | None:
        """Likewise, of the port for TLS."""
        return self._secure[0].getsockname()[1] if self._secure else None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End in order.  From here on a second signal has its usual, immediate effect."""
        for each in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(each)
        log.info("stopping: %s", signal.Signals(number).name)
        self._audit_own("serverStop", "invoked")
        self._finish(EXIT_STOPPED)

    def _finish(self, code: int) -> None:
        self.clients.stop_listening()
        self.driver.stop()
        if self._http is not None:
            self._http.stop()
        if self._ensemble is not None:
            self._ensemble.stop()
        if self._space is not None:
            self._space.stop()
        if self._certificates is not None:
            self._certificates.stop()
        if not self._outcome.done():
            self._outcome.set_result(code)

    def _shut_down(self, code: int) -> None:
        if code != EXIT_STOPPED:  # what is on disk is not to be touched again
            return
        workers = (self._log_disk, self._image_worker, self._segment_worker)
        ended = [worker.stop(STOP_TIMEOUT_S) for worker in workers]
        if all(ended):
            self._disk.close()
        else:
            log.error("a write is still under way after %d s; leaving it", STOP_TIMEOUT_S)

    # --- failures ---------------------------------------------------------------

    def _halt(self, why: str) -> None:
        log.critical("halting: %s", why)
        self._finish(EXIT_HALTED)

    def _disk_failed(self, failure: BaseException) -> None:
        if not self.driver.stopped:
            log.critical("the disk failed: %s", failure, exc_info=failure)
            self.driver.halt("nothing can be made durable any more")

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A connection's own trouble (OSError) is its own; anything else is a bug."""
        failure = context.get("exception")
        if isinstance(failure, OSError):
            log.warning("%s: %s", context.get("message"), failure)
        elif isinstance(failure, BaseException):
            log.critical("%s", context.get("message"), exc_info=failure)
            self.driver.halt("an internal error")
        else:
            log.error("%s", context.get("message"))

    # --- images -----------------------------------------------------------------

    def _writes_image(self) -> bool:
        return self.core.images.under_way or self._image_worker.backlog > 0

    def _submit_image(self, step: ImageStep) -> bool:
        self._image_worker.submit(step)
        self._image_behind = self._image_worker.backlog >= IMAGE_BACKLOG_MAX
        # Looked at again: the thread may have emptied the queue before it could see the flag.
        self._image_behind = self._image_worker.backlog > 0 and self._image_behind
        return self._image_behind

    def _ask_for_slice(self) -> None:
        """On the loop or in the log's thread, again and again until it is done."""
        if not self._segment_worker.backlog and (self._space is None or self._space.ample):
            self._segment_worker.submit(True)

    def _prepare_slice(self, room: bool) -> None:
        if room:
            self._disk.prepare_slice()
        else:
            self._disk.stop_preparing()

    def _set_low_space(self, low: bool) -> None:
        """Nothing more is taken without need.  What the next segment has stays: sessions and
        deletes need it, and given back it might go to others."""
        if low:
            self._segment_worker.submit(False)
        self.driver.set_low_space(low)

    def _write_image_step(self, step: ImageStep) -> int | None:
        """In the image thread.  Old images and logs go once a new image is durable."""
        if isinstance(step, ImageBegin):
            self._image_begun_ns = monotonic_ns()
        zxid = self._disk.image_step(step)
        if zxid is not None:
            self.metrics.image.add(monotonic_ns() - self._image_begun_ns)
        if self._image_behind and not self._image_worker.backlog:
            self._image_behind = False
            self._loop.call_soon_threadsafe(self.driver.resume_image)
        if zxid is not None and self.config.autopurge:
            self._disk.purge(self.config.snapshots_retained)
        return zxid

    def _image_saved(self, zxid: int) -> None:
        self.driver.image_saved(zxid)
        gc.freeze()

    # --- admin ------------------------------------------------------------------

    def _answer(self, word: str) -> bytes:
        config = self.config
        return fourletter.answer(
            word, self._view(), config.four_letter_words, config.read_only_mode
        )

    def _view(self) -> ServerView:
        status, now, wall = self._look(), monotonic_ms(), wall_ms()
        return ServerView(
            status,
            self.metrics,
            now - self._started_ms,
            self.config,
            partial(self._show_connections, status, wall - now),
            self.clients.latency(),
            self.address.port if self._sockets else -1,
            wall,
            now,
            self._details,
            self._tables,
            self._find_last_image,
            self._reset_stats,
            self._reset_connections,
            self.secure_port,
            self.gate.handshakes if self.gate is not None else 0,
        )

    def _show_connections(self, status: Status, to_wall_ms: int) -> Iterator[ConnectionView]:
        for known in status.links():
            link = self.clients.links.get(known.id)
            if link is not None:
                yield show_connection(link, known, to_wall_ms)

    def _find_last_image(self) -> tuple[int, int]:
        found = self._newest_image()
        if found is None:
            return -1, -1
        try:
            return found[0], int(os.stat(found[1]).st_mtime)
        except FileNotFoundError:  # purged meanwhile: there is a newer one by now
            return -1, -1

    def _reset_stats(self) -> None:
        """The connections' latencies too: the server's is made of them."""
        self.clients.fold_latency()
        status = self._look()
        self.metrics.reset(status.packets_received, status.packets_sent)
        self.core.reset_counts()

    def _reset_connections(self) -> None:
        self.clients.fold_latency()
        for known in self._look().links():
            link = self.clients.links.get(known.id)
            if link is not None:
                link.received_before, link.sent_before = known.received, known.sent


def show_connection(link: ClientLink, known: LinkStatus, to_wall_ms: int) -> ConnectionView:
    """`to_wall_ms` turns monotonic into wall-clock time."""
    return ConnectionView(
        link.address,
        link.reading,
        known.queued,
        known.received - link.received_before,
        known.sent - link.sent_before,
        known.session,
        known.timeout_ms,
        known.opened_ms + to_wall_ms,
        known.heard_ms + known.timeout_ms + to_wall_ms,
        known.last_opcode,
        known.last_xid,
        known.last_zxid,
        link.answered_ns // NS_PER_MS + to_wall_ms,
        link.latency,
        link.secure,
    )


def banner(
    config: Config, address: ClientAddress, voters: VoterSet | None, secure_port: int | None = None
) -> str:
    host = LOOPBACK if is_wildcard(address.host) else address.host
    hosts = ClientAddress(host, address.port)
    also = f", with TLS on port {secure_port}" if secure_port not in (None, address.port) else ""
    how = ", use_ssl=True" if config.client is None else ""
    version = zkpy.__version__ + (" (compiled)" if COMPILED else "")
    return (
        f"zkpy {version} {describe_place(config.server_id, voters)} {address}{also}, "
        f"data in {config.data_dir}; "
        f'connect with kazoo: KazooClient("{hosts}"{how})'
    )


def describe_place(server_id: int | None, voters: VoterSet | None) -> str:
    """What this server is in its ensemble, up to the address where it serves."""
    if voters is None:
        return "serving on"
    ids = voters.voters()
    known = server_id in voters.everyone()
    part = "one of" if server_id in ids else "observer beside" if known else "not named beside"
    return f"server {server_id}, {part} {len(ids)} voters, listening on"


def freeze_garbage() -> None:
    """No collector pauses from now on.

    Everything that a server does is freed by reference counts; tests hold it to that."""
    gc.disable()
    gc.collect()
    gc.freeze()


def raise_descriptor_limit() -> None:
    """Each client is a descriptor; the soft limit is often 1024 and free to be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as why:  # macOS: above what the kernel allows
            log.info("open files stay limited to %d: %s", soft, why)
