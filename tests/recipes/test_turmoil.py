"""Every recipe at work while servers are killed and started again, leaders included.

All scenarios of `turmoil.py` play at once, each in a root of its own: one turmoil costs as much as
its servers' restarts.  After each of these all clients must get on with what they do.

The last turmoil is marked slow: the leader changes in the one before it as well.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from itertools import count

import attrs
import pytest
from kazoo.client import KazooClient

from tests.recipes.conftest import end
from tests.recipes.faults import LIMIT_S, FaultProxy
from tests.recipes.servers import TICK_MS, command_of, make_server
from tests.recipes.turmoil import SCENARIOS, Arena, Entry, Scenario, most_held
from zkpy.testing.realserver import RealEnsemble, RealServer, leader_of

TIMEOUT_S = 20.0
RETRY = {"max_tries": -1, "delay": 0.02, "backoff": 1, "max_jitter": 0.1}
AwaitTurns = Callable[[str], None]
_roots = count(1)


@attrs.frozen
class Stage:
    """Servers, and how clients reach them."""

    servers: list[RealServer]
    hosts: str
    proxy: FaultProxy | None = None

    def restart_alone(self) -> None:
        """Behind a proxy that lets clients wait (see `FaultProxy.doors_shut`)."""
        assert self.proxy is not None
        with self.proxy.doors_shut():
            self.servers[0].restart()


@pytest.fixture(scope="module")
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    server = make_server(request.config.getoption("server"), tmp_path_factory.mktemp("one"))
    with server, FaultProxy(server.port) as proxy:
        yield Stage([server], proxy.hosts, proxy)


@pytest.fixture(scope="module")
def three(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    command = command_of(request.config.getoption("server"))
    assert command is not None
    directory = tmp_path_factory.mktemp("three")
    with RealEnsemble(directory, command=command, tick_ms=TICK_MS) as ensemble:
        yield Stage(ensemble.servers, ensemble.hosts)


# --- the turmoils ----------------------------------------------------------------------------


def restart_twice(stage: Stage, await_turns: AwaitTurns) -> None:
    for time in ("first", "second"):
        stage.restart_alone()
        await_turns(f"the {time} restart")


def kill_leader(stage: Stage, await_turns: AwaitTurns) -> None:
    leader = leader_of(stage.servers)
    assert leader is not None
    leader.kill()
    await_turns("the leader's death")
    assert leader_of(stage.servers) not in (None, leader)
    leader.start()
    await_turns("its return")


def restart_all(stage: Stage, await_turns: AwaitTurns) -> None:
    for each in stage.servers:
        each.restart()
        await_turns(f"the restart of server {each.number}")


TURMOILS = {
    "one restarts twice": ("one", restart_twice),
    "the leader dies": ("three", kill_leader),
    "three restart in turn": ("three", restart_all),
}


LONGEST = "three restart in turn"
PARAMS = [
    pytest.param(each, marks=[pytest.mark.slow] if each == LONGEST else []) for each in TURMOILS
]


@pytest.fixture(scope="module", params=PARAMS)
def played(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Scenario]]:
    """All scenarios, over, with their clients still there."""
    name = request.config.getoption("server")
    if command_of(name) is None:
        pytest.skip("SKIPPED: recipes on Apache ZooKeeper need Debian's package zookeeper")
    fixture, turmoil = TURMOILS[request.param]
    stage: Stage = request.getfixturevalue(fixture)
    with contextlib.ExitStack() as stack:
        scenarios = {each: make(stage, each, name, stack) for each in SCENARIOS}
        for each in scenarios.values():
            each.start()

        def await_turns(after: str) -> None:
            for each in scenarios.values():
                each.mark()
            for each in scenarios.values():
                each.await_turns(after)

        await_turns("the start")
        turmoil(stage, await_turns)
        for each in scenarios.values():
            each.ask_to_stop()
        for each in scenarios.values():
            each.stop()
        yield scenarios


def make(stage: Stage, scenario: str, name: str, stack: contextlib.ExitStack) -> Scenario:
    root = f"/turmoil-{next(_roots)}"

    def start(chroot: str = root) -> KazooClient:
        client = KazooClient(stage.hosts + chroot, timeout=TIMEOUT_S, connection_retry=RETRY)
        stack.callback(end, client)
        client.start(LIMIT_S)
        return client

    first = start("")
    first.create(root)
    data = [each.directory / f"data-{each.number}" for each in stage.servers if name == "zkpy"]
    return SCENARIOS[scenario](Arena(lambda: synced(start()), root, data))


def synced(client: KazooClient) -> KazooClient:
    """The member that it is connected to knows the root."""
    client.sync("/")
    return client


@pytest.mark.served
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_turmoil(played: Mapping[str, Scenario], scenario: str) -> None:
    its = played[scenario]
    for failure in its.failures:
        raise failure
    assert its.losses == 0, "a session ended"
    its.check()


def test_what_the_log_of_holders_shows() -> None:
    """The judge of it: two at once are seen, one after the other are not."""
    after = [Entry(1, 7, 1), Entry(2, 7, 1), Entry(3, 8, 1), Entry(4, 8, 1)]
    within = [Entry(1, 7, 1), Entry(2, 8, 2), Entry(3, 7, 1), Entry(4, 8, 2)]
    assert (most_held(after), most_held(within)) == (1, 3)
