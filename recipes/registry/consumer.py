"""`ServiceConsumer`: who calls one service.

    with ServiceConsumer(client, "/services", "orders", me={"zone": "x"}) as orders:
        orders.wait(timeout=10)
        answer = orders.call(lambda instance: get(instance.url), retries=2)

An instance gets a call if it is in service, if the service's rules let it, and if it has not failed
too often; among those the balancer chooses.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, TypeVar

from kazoo.client import KazooClient

from recipes.config import ConfigSubscriber
from recipes.liveview import now_ms
from recipes.membership.view import SHARE
from recipes.registry.choosing import Balancer, Call, Candidate, RandomChoice, candidates_of
from recipes.registry.discovery import WINDOW_S, ServiceView
from recipes.registry.ejection import Ejection
from recipes.registry.instance import ServiceInstance
from recipes.registry.rules import ServiceRules

T = TypeVar("T")
RULES: Final = "/zkpy/rules"
"""Above the rules of all services."""


class NoInstanceError(Exception):
    """Nobody can be called."""


class NotAdmittedError(Exception):
    """The rules of the service do not let this consumer call it."""


class ServiceConsumer:
    """For any number of threads."""

    def __init__(
        self,
        client: KazooClient,
        base: str,
        name: str,
        *,
        me: Mapping[str, str] | None = None,
        balancer: Balancer | None = None,
        ejection: Ejection | None = None,
        failures: tuple[type[Exception], ...] = (OSError,),
        rules: str = RULES,
        window: float = WINDOW_S,
        share: float = SHARE,
    ) -> None:
        """`me`: this consumer's attributes for rules, such as host, application, zone. `failures`:
        what a call raises if the instance is at fault; whatever else it raises is an answer.
        `window`, `share`: as of ServiceView."""
        self.name, self.me = name, dict(me or {})
        self.view = ServiceView(client, base, name, window=window, share=share)
        self.config = ConfigSubscriber(client, f"{rules.rstrip('/')}/{name}", ServiceRules)
        """Of the rules: their revision, and what was refused."""
        self._balancer = RandomChoice() if balancer is None else balancer
        self._ejection = Ejection() if ejection is None else ejection
        self._failures = failures
        self._active: dict[str, int] = {}
        """Calls under way, by id."""
        # A balancer may ask who is out.
        self._mutex = threading.RLock()

    @property
    def rules(self) -> ServiceRules:
        """Those in force, or the last good ones; none if none were ever published."""
        return self.config.value if self.config.revision else ServiceRules()

    def wait(self, timeout: float | None = None) -> None:
        """Until the rules are known, and an instance is in service.

        Raises TimeUp, and CancelledError once it is stopped."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self.config.wait_read(timeout)
        left = None if deadline is None else deadline - time.monotonic()
        self.view.wait(lambda found: any(e.is_in_service for e in found.values()), left)

    def start(self) -> None:
        self.config.start()
        self.view.start()

    def stop(self) -> None:
        self.view.stop()
        self.config.stop()

    def __enter__(self) -> "ServiceConsumer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- calls --------------------------------------------------------------------------------

    def call(
        self,
        function: Callable[[ServiceInstance], T],
        *,
        retries: int = 0,
        key: str = "",
        **attributes: str,
    ) -> T:
        """What `function` returns for the instance that is chosen.

        After a failure it is called again with another instance, up to `retries` times, if there
        is another: for calls that may happen twice. Raises the last failure, or what `function`
        raises else; NoInstanceError, NotAdmittedError."""
        tried: dict[str, Exception] = {}
        while True:
            instance = self._choose(key, attributes, tried)
            try:
                with self._count(instance):
                    return function(instance)
            except self._failures as why:
                tried[instance.id] = why
                if len(tried) > retries:
                    raise

    @contextlib.contextmanager
    def use(self, *, key: str = "", **attributes: str) -> Iterator[ServiceInstance]:
        """One call, in the body; what that raises says whether the instance is at fault.

        Raises NoInstanceError, NotAdmittedError."""
        instance = self._choose(key, attributes, {})
        with self._count(instance):
            yield instance

    def candidates(self, **attributes: str) -> list[ServiceInstance]:
        """Who could be chosen for such a call, if they did not fail.  Raises NotAdmittedError."""
        return [each.instance for each in self._candidates(attributes)]

    def is_out(self, id: str) -> bool:
        """Whether that instance gets no calls now, as it has failed too often."""
        with self._mutex:
            return self._ejection.is_out(id, now_ms())

    # --- steps --------------------------------------------------------------------------------

    def _choose(
        self, key: str, attributes: Mapping[str, str], tried: Mapping[str, Exception]
    ) -> ServiceInstance:
        """Raises the last failure if all were tried."""
        found = [each for each in self._candidates(attributes) if each.id not in tried]
        if not found and tried:
            raise list(tried.values())[-1]
        if not found:
            raise NoInstanceError(self._why(attributes))
        now = now_ms()
        with self._mutex:
            self._ejection.keep(self.view.instances)
            # If all are out, it is better to try one than to give up.
            sound = [each for each in found if not self._ejection.is_out(each.id, now)] or found
            call = Call(now, key, self._active)
            chosen = self._balancer.choose(sound, call).instance
            self._ejection.chosen(chosen.id, now)
        return chosen

    def _candidates(self, attributes: Mapping[str, str]) -> list[Candidate]:
        rules = self._known_rules()
        call = {**self.me, **attributes}
        if not rules.admit_consumer(self.me):
            raise NotAdmittedError(f"{self.name}: its rules do not admit {self.me}")
        admitted = [each for each in self.view.available if rules.admit(each)]
        wall_ms = time.time_ns() // 1_000_000
        return candidates_of(rules.route(admitted, call), wall_ms, rules.weights)

    def _known_rules(self) -> ServiceRules:
        if not self.config.was_read:
            raise NoInstanceError(f"{self.name}: its rules have not been read yet")
        return self.rules

    def _why(self, attributes: Mapping[str, str]) -> str:
        registered, available = len(self.view.instances), self.view.available
        admitted = [each for each in available if self.rules.admit(each)]
        routed = self.rules.route(admitted, {**self.me, **attributes})
        return (
            f"{self.name}: {registered} registered, {len(available)} in service, "
            f"{len(admitted)} admitted, {len(routed)} left by routes"
        )

    @contextlib.contextmanager
    def _count(self, instance: ServiceInstance) -> Iterator[None]:
        with self._mutex:
            self._active[instance.id] = self._active.get(instance.id, 0) + 1
        answered: bool | None = None
        try:
            yield
            answered = True
        except Exception as why:
            answered = not isinstance(why, self._failures)
            raise
        finally:
            self._on_end(instance.id, answered)

    def _on_end(self, id: str, answered: bool | None) -> None:
        """None for a call that was broken off: that says nothing of the instance."""
        with self._mutex:
            self._active[id] -= 1
            if not self._active[id]:
                del self._active[id]
            if answered:
                self._ejection.succeeded(id)
            elif answered is False:
                self._ejection.failed(id, now_ms())
