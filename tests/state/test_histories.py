"""Random histories against a plain model: what apply, digest and image must agree on."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.state.anew import chunks_of, recounted
from tests.state.histories import SYSTEM, Historian, Model, history
from wire.records import Stat
from zkpy.state import image
from zkpy.state import znode as zn
from zkpy.state.apply import ReplicatedState

SEEDS = range(6)


def assert_like_model(state: ReplicatedState, model: Model) -> None:
    assert list(state.tree.nodes) == list(model.nodes)
    for path, node in model.nodes.items():
        znode = state.tree.nodes[path]
        assert zn.data_of(znode) == node.data, path
        assert Stat.parse(zn.stat_of(znode), 0, 68) == model.stat(path), path
        assert sorted(state.tree.children_of(path)) == sorted(model.children(path))
        assert state.tree.acl_of(path) == node.acl, path
        assert state.tree.owner_of(path) == node.owner, path
        assert zn.child_counter(znode) == node.creates, path


def tables(state: ReplicatedState) -> list[object]:
    """Everything a state consists of, orders included."""
    tree, lives = state.tree, state.lifetimes
    return [
        state.zxid,
        state.digest,
        state.data_bytes,
        list(tree.nodes.items()),
        {parent: list(names) for parent, names in tree.children.items()},
        list(tree.acls.items()),
        list(tree.owners.items()),
        list(state.sessions.sessions.items()),
        {session: list(owned) for session, owned in lives.ephemerals.items()},
        list(lives.containers),
        list(lives.ttls.items()),
        lives.ephemeral_count,
        state.quota.quotas,
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_state_is_the_models_at_every_zxid(seed: int) -> None:
    historian, state = Historian(seed), ReplicatedState.founded()
    for number, step in enumerate(historian.steps(300)):
        state.apply(*step)
        if number % 10 == 0:
            assert_like_model(state, historian.model)
    assert_like_model(state, historian.model)
    assert list(state.sessions) == list(historian.model.sessions)


@pytest.mark.parametrize("seed", SEEDS)
def test_incremental_digest_and_counts_are_those_from_scratch(seed: int) -> None:
    state, digests = ReplicatedState.founded(), set()
    for step in history(seed, 300):
        state.apply(*step)
        assert tables(recounted(state)) == tables(state)
        digests.add(state.digest)
    assert len(digests) > 200, "changes must show in the digest"


@pytest.mark.parametrize("seed", SEEDS)
def test_image_at_any_point_then_the_rest_ends_in_the_same_state(seed: int) -> None:
    steps = history(seed, 300)
    rng = random.Random(seed)
    live = ReplicatedState.founded()
    loaded: list[ReplicatedState] = []
    for number, step in enumerate(steps):
        if number % 25 == 0:
            again = image.load(chunks_of(live, nodes=rng.randrange(1, 40)))
            assert tables(again) == tables(live)
            loaded.append(again)
        live.apply(*step)
        for state in loaded:
            state.apply(*step)
    for state in loaded:
        assert tables(state) == tables(live)


@pytest.mark.parametrize("seed", SEEDS)
def test_image_is_that_of_the_moment_however_late_it_is_encoded(seed: int) -> None:
    steps = history(seed, 200)
    live = ReplicatedState.founded()
    for step in steps[:100]:
        live.apply(*step)
    expected, writer = list(chunks_of(live, 7)), image.ImageWriter(live)
    chunks = []
    for step in steps[100:]:
        chunks.append(writer.next_chunk(7))
        live.apply(*step)
    assert [chunk for chunk in chunks if chunk is not None] == expected[: len(chunks)]
    assert None in chunks, "the image must be complete before the history ends"


def test_changes_form_a_chain() -> None:
    """What one operation leaves is what the next one finds, multis included."""
    for seed in SEEDS:
        state = ReplicatedState.founded()
        for step in history(seed, 300):
            nodes = dict(state.tree.nodes)
            for path, old, new in state.apply(*step).changes:
                assert nodes.pop(path, None) == old
                assert old != new
                if new is not None:
                    nodes[path] = new
            assert nodes == state.tree.nodes


def test_hash_seed_leaves_no_trace_in_image_and_digest() -> None:
    program = "from tests.state.test_histories import print_fingerprint; print_fingerprint()"
    root = str(Path(__file__).parents[2])
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(prints) == 1
    assert len(prints.pop().split()) == 2


def print_fingerprint() -> None:
    state = ReplicatedState.founded()
    for step in history(7, 400):
        state.apply(*step)
    fingerprint = hashlib.sha256(b"".join(chunks_of(state, 20))).hexdigest()
    sys.stdout.write(f"{fingerprint} {state.digest:x}")


def test_histories_reach_every_corner() -> None:
    """Else the properties above would hold for want of trying."""
    closed_with_ephemerals = quotas = 0
    kinds = set()
    for seed in SEEDS:
        state = ReplicatedState.founded()
        for zxid, header, txn in history(seed, 300):
            owned = len(state.lifetimes.ephemerals_of(header.session))
            state.apply(zxid, header, txn)
            kinds.add(type(txn).__name__)
            quotas += len(state.quota.quotas)
            closed_with_ephemerals += owned > 1 and header.session not in state.sessions
    assert len(kinds) == 8, kinds  # CheckTxn appears in multis only.
    assert closed_with_ephemerals > 3 and quotas > 100
    assert state.tree.acls and state.tree.owners and state.lifetimes.ephemeral_count
    assert len(state.tree.nodes) > 30 + len(SYSTEM)
