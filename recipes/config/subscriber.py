"""`ConfigSubscriber`: the configuration in force, or the last good one.

    with ConfigSubscriber(client, "/config/shop", Settings, file=Path("shop.json")) as config:
        config.wait(timeout=10)
        server.limit = config.value.rate
        config.add_listener(lambda new: server.set_limit(new.value.rate))

Each new revision is read whole, checked, kept in the file, and only then shown. One that is
refused changes nothing: the last good one stays. So it does through an outage, and
through a restart in the midst of one, marked as what it is: `Freshness.STALE`.
"""

import enum
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from recipes.base import Wait
from recipes.children import Ear
from recipes.config.document import Adopt, Good, Node, Published, Refuse, encode, judge
from recipes.config.errors import InvalidConfigError, NotPublishedError
from recipes.config.publisher import check_value
from recipes.config.schema import Schema
from recipes.config.store import load, save
from recipes.loop import Loop

log = logging.getLogger(__name__)

T = TypeVar("T")


class Freshness(enum.Enum):
    EMPTY = "empty"
    """There is no configuration: nothing was published, or could be read, and there is no copy."""
    STALE = "stale"
    """The last good one: another may be in force, but cannot be read now, or was refused."""
    CURRENT = "current"
    """In force when the server was last heard; of what comes next it will tell."""


@attrs.frozen
class Refused:
    """A revision in force that was not taken."""

    node: Node
    problem: str


class ConfigSubscriber(Generic[T]):
    """One process's view of one path.

    Listeners, and `accept`, run in a thread of its own: they may block, which holds up nothing
    but this configuration's next revision, and may use the client."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        kind: type[T],
        *,
        file: Path | None = None,
        accept: Callable[[T], object] | None = None,
    ) -> None:
        """`file` for the last good copy, of this subscriber alone; without one a restart begins
        empty. `accept` is called with each new value before it is shown; what it raises
        refuses it. It is the place to try a change out (open the pool, load the model)."""
        self.client, self.path, self.schema = client, path.rstrip("/"), Schema(kind)
        self._file, self._accept = file, accept
        self._listeners: list[Callable[[Published[T]], object]] = []
        self._news = threading.Condition(threading.RLock())
        self._telling = threading.RLock()
        """Held while a listener is called, which may take its time: not what others wait for."""
        self._good: Good[T] | None = None
        self._read_after = -1
        """Number of breaks before the read that said that ours is in force."""
        self.was_read = False
        """Whether the server has been asked once, whatever was there: also if that was nothing."""
        self.refused: Refused | None = None
        """The revision in force, if that was refused."""
        self.store_problem: OSError | None = None
        """Why the file is not up to date, if it is not."""
        self._loop = Loop(client, f"config {self.path}", self._step, self._on_broken)
        self._ear = Ear(self._loop)

    # --- what is known ----------------------------------------------------------------------

    @property
    def value(self) -> T:
        """Raises NotPublishedError while there is none."""
        return self.published.value

    @property
    def revision(self) -> int:
        """0 while there is none."""
        good = self._good
        return 0 if good is None else good.published.revision

    @property
    def published(self) -> Published[T]:
        """Value and revision of one moment.  Raises NotPublishedError while there is none."""
        good = self._good
        if good is None:
            raise NotPublishedError(f"nothing is known of {self.path}")
        return good.published

    @property
    def freshness(self) -> Freshness:
        if self._good is None:
            return Freshness.EMPTY
        is_current = self._read_after == self._loop.breaks and self.client.connected
        return Freshness.CURRENT if is_current else Freshness.STALE

    def wait(
        self,
        *,
        revision: int = 1,
        freshness: Freshness | None = None,
        timeout: float | None = None,
    ) -> Published[T]:
        """Until that revision, or a later one, is here, and it is as fresh as that, if given.
        Raises TimeUp, and CancelledError once it is stopped.  Not to be called by a listener."""

        def holds() -> bool:
            enough = self.revision >= revision
            return enough and freshness in (None, self.freshness)

        with self._news:
            self._loop.wait(self._news, holds, timeout)
            return self.published

    def wait_read(self, timeout: float | None = None) -> None:
        """Until `was_read`: for those who can do without a configuration, if there is none.
        Raises as `wait`."""
        with self._news:
            self._loop.wait(self._news, lambda: self.was_read, timeout)

    def add_listener(self, told: Callable[[Published[T]], object]) -> None:
        """Call with each revision that is adopted, in their order (of those that follow each other
        fast, only with the last); first, at once, with the one that is here, if any.  Waits for
        another one that is being called."""
        with self._telling:
            self._listeners.append(told)
            good = self._good
            if good is not None:
                self._tell(told, good.published)

    def remove_listener(self, told: Callable[[Published[T]], object]) -> None:
        """A call that has begun goes on."""
        self._listeners.remove(told)

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """With the copy in the file, if there is a usable one; and begin to follow the server."""
        if self._file is not None:
            self._restore(load(self._file, self.path, self.schema))
        self._loop.start()

    def stop(self) -> None:
        """What is known stays to be seen, as stale."""
        self._loop.stop()
        self._ear.close()
        with self._news:
            self._read_after = -1
            self._news.notify_all()

    def __enter__(self) -> "ConfigSubscriber[T]":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reconsider(self) -> None:
        """Judge the revision in force once more, if it was refused."""
        with self._news:
            self.refused = None
        self._loop.wake()

    def _restore(self, good: Good[T] | None) -> None:
        if good is None:
            return
        try:
            self._try_out(good.published.value)
        except InvalidConfigError as why:
            log.warning("%s: the copy in %s is refused: %s", self.path, self._file, why)
            return
        self._show(good)

    # --- the loop -----------------------------------------------------------------------------

    def _on_broken(self) -> None:
        with self._news:
            self._news.notify_all()

    def _step(self, wait: Wait) -> None:
        breaks = self._loop.breaks
        self._loop.sync(wait, self.path)
        answer = self._read(wait)
        is_current = answer is not None and self._on_read(*answer)
        with self._news:
            self.was_read = True
            self._read_after = breaks if is_current else -1
            self._news.notify_all()

    def _read(self, wait: Wait) -> tuple[bytes, Node] | None:
        """Data and node of one moment, and a watch on what changes behind it; None without node."""
        bell = self._ear.at(self.path)
        while True:
            try:
                answer = wait.result(self.client.get_async(self.path, watch=bell))
            except NoNodeError:
                made = self.client.exists_async(self.path, watch=bell)
                if wait.result(made) is None:
                    return None
            else:
                return answer[0], node_of(answer[1])

    def _on_read(self, data: bytes, node: Node) -> bool:
        """Whether what we have is now what is in force."""
        if self.refused is not None and self.refused.node == node:
            return False
        verdict = judge(self._good, data, node, self.schema)
        if isinstance(verdict, Adopt):
            return self._adopt(verdict.good)
        if isinstance(verdict, Refuse):
            self._refuse(verdict.node, verdict.problem)
            return False
        return verdict.current

    def _adopt(self, good: Good[T]) -> bool:
        try:
            self._try_out(good.published.value)
        except InvalidConfigError as why:
            self._refuse(good.node, str(why))
            return False
        self._keep(good)
        self.refused = None
        self._show(good)
        return True

    def _try_out(self, value: T) -> None:
        if self._accept is not None:
            check_value(self._accept, value)

    def _refuse(self, node: Node, problem: str) -> None:
        log.error("%s: version %s is refused: %s", self.path, node.version, problem)
        with self._news:
            self.refused = Refused(node, problem)
            self._news.notify_all()

    def _keep(self, good: Good[T]) -> None:
        """A disk that does not take it is no reason to stay behind; it is told and tried again with
        the next revision."""
        if self._file is None:
            return
        try:
            save(self._file, self.path, good.node, encode(good.document))
        except OSError as why:
            log.error("%s: no copy in %s: %s", self.path, self._file, why)
            self.store_problem = why
        else:
            self.store_problem = None

    def _show(self, good: Good[T]) -> None:
        with self._telling:
            with self._news:
                self._good = good
                self._news.notify_all()
            for told in list(self._listeners):
                self._tell(told, good.published)

    def _tell(self, told: Callable[[Published[T]], object], new: Published[T]) -> None:
        try:
            told(new)
        except Exception:
            log.exception("a listener of %s failed", self.path)


def node_of(stat: Any) -> Node:
    return Node(int(stat.czxid), int(stat.version))
