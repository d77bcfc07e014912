"""Drives one core: inputs as they come, outputs once per pass of the event loop.

In: bytes of clients, batches and images that became durable, the timer.  Out: the
core's `Ready`, carried out in this order: log batch to its thread, messages to the other
members, bytes and closes of clients, image steps to their thread.

A pass is asked for by the first input and runs after all that are at hand, so that
whatever arrived together is one proposal, one log write and one write per client.
Nothing here is done per request.

An exception of the core is a bug, its `halt` a verdict: both end the server at once,
with whatever it has not sent unsent.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from wire.peer import Notification
from zkpy.admin.metrics import Metrics
from zkpy.effects import DiskBatch, ImageStep, Ready
from zkpy.server.clock import NS_PER_MS, monotonic_ms, monotonic_ns
from zkpy.server.complaints import FailureLog
from zkpy.summary import Summary

log = logging.getLogger("zkpy.server")


class Images(Protocol):
    paused: bool
    """Set while the image thread is behind: no further slices until it is cleared."""

    @property
    def under_way(self) -> bool: ...


class Core(Protocol):
    """What the shell needs of a `Replica`."""

    @property
    def images(self) -> Images: ...
    def overloaded(self, link: int) -> bool:
        """Too much is outstanding, in all or of this client: read no more from it for now."""

    def client_up(self, link: int, address: str, now: int, subject: str | None) -> None: ...
    def receive_client(self, link: int, data: bytes, now: int) -> bool:
        """Whether this client is overloaded now."""

    def choke_client(self, link: int, choked: bool, now: int) -> None: ...
    def client_down(self, link: int, now: int) -> None: ...
    def set_low_space(self, low: bool, now: int) -> None: ...
    def link_up(self, sid: int, now: int) -> None: ...
    def link_down(self, sid: int, now: int) -> None: ...
    def receive_peer(self, sid: int, message: object, now: int) -> None: ...
    def receive_vote(self, sid: int, notification: Notification, now: int) -> None: ...
    def saved(self, number: int, now: int) -> DiskBatch | None:
        """The next batch, to be begun at once."""

    def image_saved(self, zxid: int, now: int) -> None: ...
    def handle_timer(self, now: int) -> None: ...
    def deadline(self) -> int | None: ...
    def ready(self) -> Ready: ...
    def reset_counts(self) -> None: ...
    def take_admin(self) -> Iterable[tuple[int, str]]: ...
    def take_notices(self) -> Iterable[str]: ...
    def take_audit(self, ending: bool = False) -> Iterable[str]: ...


class Link(Protocol):
    """A client connection as the driver sees it."""

    number: int
    address: str
    """`host:port`"""
    subject: str | None
    """The name in its certificate; None if it has shown none."""
    waiting_since: int
    """When the first bytes that were not answered yet arrived, in ns; 0 if there are none."""
    answered_ns: int
    """When something was last written to it."""
    latency: Summary

    def send(self, data: bytes) -> None: ...
    def close(self) -> None:
        """Close once everything was sent."""

    def abort(self) -> None:
        """Close at once, and forget what was not sent."""

    def hold(self) -> None:
        """Read nothing until `release`."""

    def release(self) -> None: ...


class Others(Protocol):
    """The way to the other members."""

    def carry_out(self, ready: Ready) -> None:
        """Send what is for them, close what is to be closed, dial who is to be dialled."""


class Driver:
    """One core on one event loop.

    `submit` and `submit_image` hand work to the threads - the second says whether more
    would be too much for now, until `resume_image` -, `answer` answers a four-letter
    word, `on_halt` is told once why the server must end.
    """

    def __init__(
        self,
        core: Core,
        loop: asyncio.AbstractEventLoop,
        *,
        metrics: Metrics,
        submit: Callable[[DiskBatch], None],
        submit_image: Callable[[ImageStep], bool],
        answer: Callable[[str], bytes],
        on_halt: Callable[[str], None],
    ) -> None:
        self._core = core
        self._loop = loop
        self._metrics = metrics
        self._submit = submit
        self._submit_image = submit_image
        self._answer = answer
        self._on_halt = on_halt
        self._failures = FailureLog()
        """Of clients to authenticate."""
        self._links: dict[int, Link] = {}
        self._held: dict[int, Link] = {}
        self._last_number = 0
        self._due = False
        self._passes = 0
        """That had something to write."""
        self._deadline: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self.audit: Callable[[str], None] | None = None
        """Takes the lines of the audit log, where there is one."""
        self.after_pass: Callable[[], None] | None = None
        """Called after every pass while it is set: start-up waits for the core with it."""
        self.ensemble: Others | None = None
        """None for a server alone, whose core has nothing to say to others."""
        self.stopped = False

    # --- inputs -----------------------------------------------------------------

    def up(self, link: Link) -> int:
        """A new connection; its number."""
        self._last_number += 1
        self._links[self._last_number] = link
        now = monotonic_ms()
        self._guard(self._core.client_up, self._last_number, link.address, now, link.subject)
        return self._last_number

    def receive(self, link: Link, data: bytes) -> None:
        now_ns = monotonic_ns()
        if not link.waiting_since:
            link.waiting_since = now_ns
        self._metrics.bytes_received += len(data)
        try:
            overloaded = self._core.receive_client(link.number, data, now_ns // NS_PER_MS)
        except Exception:
            self._fail()
            return
        if not self._due:
            self.request_pass()
        if overloaded:
            self._held[link.number] = link
            self._metrics.connections_held += 1
            link.hold()

    def choke(self, link: Link, choked: bool) -> None:
        """The client has left much unread, or has read most of it."""
        self._guard(self._core.choke_client, link.number, choked, monotonic_ms())

    def down(self, link: Link) -> None:
        """The connection is gone, whoever closed it."""
        self._links.pop(link.number, None)
        self._held.pop(link.number, None)
        self._guard(self._core.client_down, link.number, monotonic_ms())

    def link_up(self, sid: int) -> None:
        """A link with another member stands."""
        self._guard(self._core.link_up, sid, monotonic_ms())

    def link_down(self, sid: int) -> None:
        self._guard(self._core.link_down, sid, monotonic_ms())

    def receive_peer(self, sid: int, messages: list[object]) -> None:
        """All that one read of that link has brought."""
        if self.stopped:
            return
        core, now = self._core, monotonic_ms()
        try:
            for message in messages:
                core.receive_peer(sid, message, now)
        except Exception:
            self._fail()
        if not self._due:
            self.request_pass()

    def receive_vote(self, sid: int, notification: Notification) -> None:
        self._guard(self._core.receive_vote, sid, notification, monotonic_ms())

    def saved(self, number: int) -> None:
        """A log batch is durable.

        The disk waits, so it gets the next one first: it works while the pass, which
        follows at once, applies and answers what was in this one.
        """
        if self.stopped:
            return
        try:
            following = self._core.saved(number, monotonic_ms())
        except Exception:
            self._fail()
            return
        if following is not None:
            self._submit(following)
        self._due = True
        self._pass()

    def set_low_space(self, low: bool) -> None:
        """The disk is nearly full, or no longer."""
        self._guard(self._core.set_low_space, low, monotonic_ms())

    def image_saved(self, zxid: int) -> None:
        self._guard(self._core.image_saved, zxid, monotonic_ms())

    def resume_image(self) -> None:
        """The image thread has caught up."""
        self._core.images.paused = False
        self.request_pass()

    def start(self) -> None:
        """The first pass: whatever the core wants to do without being asked."""
        self.request_pass()

    def stop(self) -> None:
        """No pass from now on; clients are cut off."""
        if self.audit is not None and not self.stopped:
            for line in self._core.take_audit(ending=True):
                self.audit(line)
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for link in list(self._links.values()):
            link.abort()

    def halt(self, why: str) -> None:
        """Stop, unable to go on."""
        if not self.stopped:
            self.stop()
            self._on_halt(why)

    # --- the pass ---------------------------------------------------------------

    def request_pass(self) -> None:
        self._due = True
        self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        if self.stopped or not self._due:  # `saved` may have run it already
            return
        self._due = False
        try:
            self._run_pass(monotonic_ns())
        except Exception:
            self._fail()

    def _run_pass(self, now_ns: int) -> None:
        core, now = self._core, now_ns // NS_PER_MS
        if self._deadline is not None and self._deadline <= now:
            core.handle_timer(now)
        ready = core.ready()
        if ready.halt is not None:
            self.halt(ready.halt)
        else:
            self._carry_out(ready, now_ns)
            self._deadline = core.deadline()
            self._arm(now)
            if self.after_pass is not None:
                self.after_pass()

    def _carry_out(self, ready: Ready, now_ns: int) -> None:
        if self.ensemble is not None:  # first: the others' way to the disk is the longer one
            self.ensemble.carry_out(ready)
        if ready.disk is not None:
            self._submit(ready.disk)
        if ready.clients:
            self._write(ready.clients, ready.updated, now_ns)
        for number in ready.closes:
            self._close(number)
        for word_link, word in self._core.take_admin():
            self._answer_word(word_link, word)
        for step in ready.image:
            self._core.images.paused = self._submit_image(step)
        if ready.alarm is not None:
            log.error("%s", ready.alarm)
        for failure in ready.failures:
            self._failures.tell(failure)
        for notice in self._core.take_notices():
            log.info("%s", notice)
        if self.audit is not None:
            for line in self._core.take_audit():
                self.audit(line)
        if self._held:
            self._release()
        assert self.ensemble is not None or not (ready.peers or ready.votes)

    def _write(self, outputs: list[tuple[int, bytes]], updated: list[int], now_ns: int) -> None:
        self._sample(outputs, updated, now_ns)
        links, sent = self._links, 0
        for number, data in outputs:
            link = links.get(number)
            if link is None:  # it went away meanwhile
                continue
            if link.waiting_since:
                link.latency.add(now_ns - link.waiting_since)
                link.waiting_since = 0
            link.answered_ns = now_ns
            sent += len(data)
            link.send(data)
        self._metrics.bytes_sent += sent

    def _sample(self, outputs: list[tuple[int, bytes]], updated: list[int], now_ns: int) -> None:
        """One answer of a pass, from each place in turn: to keep all of them costs a twentieth of a
        read, and the first would be of those who waited longest."""
        self._passes += 1
        number = outputs[self._passes % len(outputs)][0]
        link = self._links.get(number)
        if link is not None and link.waiting_since:
            samples = self._metrics.updates if number in updated else self._metrics.reads
            samples.add(now_ns - link.waiting_since)

    def _close(self, number: int) -> None:
        link = self._links.pop(number, None)
        if link is not None:
            link.close()

    def _answer_word(self, number: int, word: str) -> None:
        link = self._links.get(number)
        if link is not None:
            link.send(self._answer(word))
            self._close(number)

    def _release(self) -> None:
        overloaded = self._core.overloaded
        for number in [number for number in self._held if not overloaded(number)]:
            self._held.pop(number).release()

    # --- time -------------------------------------------------------------------

    def _arm(self, now: int) -> None:
        """One timer, moved only to an earlier time: one that fires too early just re-arms."""
        deadline = self._deadline
        if deadline is None:
            return
        if deadline <= now:
            if not self._due:
                self.request_pass()
        elif self._timer is None or deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_later((deadline - now) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._due = True
        self._pass()

    # --- failures ---------------------------------------------------------------

    def _guard(self, act: Callable[..., None], *arguments: object) -> None:
        """An input that is not on the hot path."""
        if self.stopped:
            return
        try:
            act(*arguments)
        except Exception:
            self._fail()
        if not self._due:
            self.request_pass()

    def _fail(self) -> None:
        log.critical("the server's own state cannot be trusted any more", exc_info=True)
        self.halt("an internal error")
