"""Three zkpy servers, whose leader dies while a lock is held, and while another waits for it."""

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from recipes.locks import HoldState, Lock
from tests.recipes.conftest import QUICK, Spawn, end
from tests.recipes.faults import LIMIT_S, until
from tests.recipes.locks.contest import surely
from zkpy.testing.realserver import RealEnsemble

pytestmark = pytest.mark.slow
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEnsemble]:
    with RealEnsemble(tmp_path_factory.mktemp("ensemble")) as running:
        yield running


@pytest.fixture
def clients(ensemble: RealEnsemble) -> Iterator[list[KazooClient]]:
    made = []
    for _ in range(2):
        client = KazooClient(ensemble.hosts, timeout=TIMEOUT_S, connection_retry=QUICK)
        client.start(LIMIT_S)
        made.append(client)
    yield made
    for client in made:
        end(client)


def test_the_lock_outlives_its_leader(
    ensemble: RealEnsemble, clients: list[KazooClient], root: str, spawn: Spawn
) -> None:
    """The session lives on, so does the hold; the next one gets it in its turn; nothing stays."""
    one, two = (Lock(client, root) for client in clients)
    states: list[HoldState] = []
    one.add_listener(states.append)
    one.acquire()
    waiting = spawn(two.acquire)
    until(lambda: len(surely(clients[0].get_children, root)) == 2)
    leader = ensemble.find_leader()
    assert leader is not None
    leader.kill()
    until(lambda: ensemble.find_leader() is not None)
    until(lambda: one.held)
    surely(clients[0].sync, "/")
    assert HoldState.LOST not in states
    assert not waiting.done()
    token = one.token
    one.release()
    assert waiting.result(LIMIT_S)
    assert two.token > token
    two.release()
    until(lambda: not surely(clients[0].get_children, root))
    leader.start()
