"""The gate: who waits for which commit."""

from collections import deque

import attrs

from wire.client import Request
from wire.codes import OpCode
from wire.txn import TxnHeader
from zkpy.pipeline.gate import Gate, Waiting

SERVER, INCARNATION = 3, 77


@attrs.define(eq=False)
class Link:
    queue: deque[Waiting] = attrs.field(factory=deque)
    identity_bytes: int = 0


def request(xid: int) -> Request:
    return Request(xid, OpCode.SYNC, None)


def header(number: int, origin: int = SERVER, incarnation: int = INCARNATION) -> TxnHeader:
    """Session and xid are the same throughout: nothing is matched by them."""
    return TxnHeader(5, 1, origin, incarnation, number, 0)


def test_commit_finds_who_waits_once() -> None:
    gate, link = Gate(SERVER, INCARNATION), Link()
    numbers = [gate.admit_write(link, request(1)) for _ in range(3)]
    assert len(gate) == 3
    found = gate.match(header(numbers[1]))
    assert found is link.queue[1] and found.link is link
    assert gate.match(header(numbers[1])) is None
    assert len(gate) == 2


def test_numbers_rise_over_all_connections_and_are_never_used_again() -> None:
    gate, ann, bob = Gate(SERVER, INCARNATION), Link(), Link()
    numbers = [gate.admit_write(link, request(1)) for link in (ann, bob, ann)]
    gate.match(header(numbers[2]))
    gate.forget(bob)
    numbers.append(gate.admit_write(bob, request(1)))
    assert numbers == sorted(set(numbers)) and numbers[0] > 0


def test_commit_of_another_server_or_another_life_is_not_ours() -> None:
    gate, link = Gate(SERVER, INCARNATION), Link()
    number = gate.admit_write(link, request(1))
    assert gate.match(header(number, origin=4)) is None
    assert gate.match(header(number, origin=-1)) is None
    assert gate.match(header(number, incarnation=78)) is None
    assert gate.match(header(number)) is not None


def test_leaders_own_commit_has_nobody_waiting() -> None:
    gate, link = Gate(SERVER, INCARNATION), Link()
    gate.admit_read(link, request(1))
    assert gate.match(header(0)) is None


def test_reads_stand_behind_writes_and_are_not_counted() -> None:
    gate, link = Gate(SERVER, INCARNATION), Link()
    number = gate.admit_write(link, request(1))
    gate.admit_read(link, request(2))
    gate.admit_write(link, request(3))
    assert [waiting.request.xid for waiting in link.queue] == [1, 2, 3]
    assert [waiting.number == 0 for waiting in link.queue] == [False, True, False]
    assert len(gate) == 2
    assert gate.take(number) is link.queue[0]


def test_bytes_are_counted_until_the_commit_whoever_is_still_there() -> None:
    gate, gone, stays = Gate(SERVER, INCARNATION), Link(), Link()
    numbers = [
        gate.admit_write(link, Request(1, OpCode.SET_DATA, None, size))
        for link, size in ((gone, 1000), (stays, 100), (gone, 10), (gone, 1))
    ]
    gate.admit_read(gone, Request(2, OpCode.GET_DATA, None, 5))
    gate.take(numbers[3])
    assert gate.bytes == 1110
    stays.identity_bytes = 50
    assert gate.take(gate.admit_write(stays, Request(1, OpCode.SET_DATA, None, 5))) is not None
    assert gate.bytes == 1110
    gate.forget(gone)
    assert gate.bytes == 1110
    for number, left in zip(numbers, (110, 10, 0, 0), strict=True):
        gate.match(header(number))
        assert gate.bytes == left
    gate.match(header(numbers[0]))
    assert gate.bytes == 0


def test_forgotten_connection_is_answered_no_more_and_others_are() -> None:
    gate, gone, stays = Gate(SERVER, INCARNATION), Link(), Link()
    number = gate.admit_write(gone, request(1))
    gate.admit_read(gone, request(2))
    other = gate.admit_write(stays, request(1))
    gate.forget(gone)
    assert not gone.queue and len(gate) == 1
    assert gate.match(header(number)) is None
    assert gate.match(header(other)) is stays.queue[0]
