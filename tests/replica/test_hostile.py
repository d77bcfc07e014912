"""A hundred thousand malformed inputs: nothing breaks, grows, or disturbs another client."""

import gc
import sys

import pytest

from wire.client import encode_frame
from wire.codes import OpCode
from wire.records import OPEN_ACL, CreateRequest, GetDataRequest
from zkpy.replica.core import Replica
from zkpy.testing import hostile
from zkpy.testing.hostile import Arena, Case, assault, cases, packet

COUNT = 100_000
SEED = 1
GROWTH_MAX = 3_000
"""Memory blocks: some tables are larger at one moment than at another."""


@pytest.mark.slow
def test_a_hundred_thousand_malformed_inputs() -> None:
    blocks: dict[int, int] = {}

    def measure(number: int) -> None:
        if number in (COUNT // 2, COUNT - hostile.CHECK_INTERVAL):
            blocks[number] = sys.getallocatedblocks()

    gc.collect()
    gc.disable()  # as in the server: what only the collector frees would show as growth
    try:
        assault(SEED, COUNT, measure)
    finally:
        gc.enable()
    before, after = blocks.values()
    assert after - before < GROWTH_MAX


def test_the_same_seed_gives_the_same_cases() -> None:
    first = [case for case, _ in zip(cases(3), range(20_000), strict=False)]
    assert first == [case for case, _ in zip(cases(3), range(20_000), strict=False)]
    assert len({case.name for case in first}) > 12_000
    assert sum(1 for case in first if not case.connected) > 500


def frame(opcode: OpCode, body: CreateRequest | GetDataRequest) -> bytes:
    return encode_frame(packet(opcode, body))


def test_the_arena_notices_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Replica, link: int, data: bytes, now: int) -> None:
        raise IndexError("a bug")

    arena = Arena()
    monkeypatch.setattr(Replica, "receive_client", fail)
    with pytest.raises(IndexError):
        arena.throw(Case("any", (b"ruok",), False))


def test_the_arena_notices_what_is_left_outside_the_playground() -> None:
    arena = Arena()
    arena.rest -= 1
    with pytest.raises(AssertionError, match="not theirs"):
        arena.check()


def test_the_arena_cleans_up_the_playground() -> None:
    arena = Arena()
    path = hostile.PLAYGROUND + "/left"
    create = CreateRequest(path, b"", list(OPEN_ACL), 0)
    arena.throw(Case("create", (frame(OpCode.CREATE, create),), True))
    assert path in arena.replica.state.tree.nodes
    arena.check()
    assert path not in arena.replica.state.tree.nodes
