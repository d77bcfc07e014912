"""How far the tree lags behind what is proposed changes no answer, and leaves nothing over.

The same requests go to two leaders: one applies each transaction before the next request
comes, the other lets a random number of them wait.
"""

import random

import pytest

from tests.pipeline.leader import ANN, BOB, CEM, DAN, JANE, NOBODY, Preparing, Step
from wire import records
from wire.codes import CreateMode, OpCode, Perm
from wire.records import ACL, OPEN_ACL
from wire.txn import CloseSessionTxn, Txn

SEEDS = 400
REQUESTS = 60
PATHS = ("/a", "/b", "/a/x", "/a/y", "/b/z", "/a/x/q")
VERSIONS = (-1, -1, 0, 1)
MODES = (
    *(CreateMode.PERSISTENT, CreateMode.PERSISTENT_SEQUENTIAL),
    *(CreateMode.EPHEMERAL, CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL),
)
ACLS = (OPEN_ACL, (ACL(Perm.READ, "world", "anyone"),), (ACL(Perm.ALL, "auth", ""),))


class Requests:
    """Random ones, few enough paths and sessions to meet often."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def step(self) -> Step:
        kind = self.rng.choices(
            (self.simple, self.set_acl, self.multi, self.close), weights=(84, 4, 10, 2)
        )[0]
        return kind()

    def simple(self) -> Step:
        path, data = self.rng.choice(PATHS), bytes(self.rng.randrange(4))
        version = self.rng.choice(VERSIONS)
        acl = list(self.rng.choice(ACLS))
        return self.rng.choices(
            (
                (
                    OpCode.CREATE,
                    records.CreateRequest(path, data, acl, self.rng.choice(MODES)),
                ),
                (
                    OpCode.CREATE_CONTAINER,
                    records.CreateRequest(path, data, acl, CreateMode.CONTAINER),
                ),
                (OpCode.DELETE, records.DeleteRequest(path, version)),
                (OpCode.SET_DATA, records.SetDataRequest(path, data, version)),
            ),
            weights=(45, 5, 30, 20),
        )[0]

    def set_acl(self) -> Step:
        acl = list(self.rng.choice(ACLS))
        return OpCode.SET_ACL, records.SetACLRequest(self.rng.choice(PATHS), acl, -1)

    def check(self) -> Step:
        version = self.rng.choice(VERSIONS)
        return OpCode.CHECK, records.CheckVersionRequest(self.rng.choice(PATHS), version)

    def multi(self) -> Step:
        kinds = self.rng.choices((self.simple, self.check), weights=(4, 1), k=5)
        return OpCode.MULTI, records.MultiRequest(
            [kind() for kind in kinds[: self.rng.randint(1, 5)]]  # type: ignore[misc]
        )

    def close(self) -> Step:
        return OpCode.CLOSE_SESSION, None


def play(seed: int, apply_chance: float) -> tuple[list[Txn], int]:
    """What was proposed, and the digest at the end."""
    requests, lag = Requests(seed), random.Random(seed)
    leader, proposed = Preparing(), []

    def apply_next() -> None:
        _, header, txn = leader.log[0]
        leader.apply_next()
        if isinstance(txn, CloseSessionTxn):
            leader.pending.closing.pop(header.session, None)

    for _ in range(REQUESTS):
        session = requests.rng.choice((ANN, BOB, CEM, DAN))
        identities = requests.rng.choice((NOBODY, JANE))
        proposed.append(leader.propose(requests.step(), session, identities))
        while leader.log and lag.random() < apply_chance:
            apply_next()
    while leader.log:
        apply_next()
    pending = leader.pending
    assert len(pending._latest) == 0
    assert [pending._views, pending._owned] == [{}, {}]
    return proposed, leader.state.digest


@pytest.mark.parametrize("seeds", [range(k, SEEDS, 8) for k in range(8)], ids=lambda it: it.start)
def test_the_tree_may_lag(seeds: range) -> None:
    for seed in seeds:
        assert play(seed, 0.3) == play(seed, 1), f"seed {seed}"
