"""The window against a plain list, and its cursors one by one."""

import random

import pytest

from zkpy import zxid as zxids
from zkpy.effects import CHAIN_START, Entry, chain_next
from zkpy.zab.window import ENTRY_OVERHEAD_BYTES, Window


def log_of(shape: list[tuple[int, int]], tag: bytes = b"") -> list[Entry]:
    """Entries of the given (epoch, how many), chained."""
    entries, chain = [], CHAIN_START
    for epoch, count in shape:
        for counter in range(1, count + 1):
            zxid, data = zxids.make(epoch, counter), b"%d.%d" % (epoch, counter) + tag
            chain = chain_next(chain, zxid, 0, data)
            entries.append(Entry(zxid, 0, data, chain))
    return entries


SHAPES = [[], [(1, 1)], [(1, 5)], [(1, 3), (2, 1), (5, 4)], [(2, 1), (3, 1), (4, 1)]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dropped", [0, 1, 2, 4])
def test_finding_against_a_plain_list(shape: list[tuple[int, int]], dropped: int) -> None:
    whole = log_of(shape)
    base = whole[:dropped][-1] if whole[:dropped] else Entry(0, 0, b"", CHAIN_START)
    held = whole[dropped:]
    window = Window(base.zxid, base.chain, held, 0)
    known = {entry.zxid: entry.chain for entry in [base, *held]}
    for epoch in range(7):
        for counter in range(8):
            zxid = zxids.make(epoch, counter)
            below = [entry.zxid for entry in held if entry.zxid <= zxid]
            assert window.position(zxid) == len(below)
            assert window.chain_at(zxid) == known.get(zxid)
            assert window.last_before(zxid) == (below[-1] if below else base.zxid)
            assert window.after(zxid, 1 << 30) == held[len(below) :]
    assert (window.last, window.chain) == ((held or [base])[-1].zxid, (held or [base])[-1].chain)


def test_recovered_cursors() -> None:
    entries = log_of([(1, 5)])
    window = Window(0, CHAIN_START, entries, entries[2].zxid)
    assert (window.applied, window.committed, window.saved) == (0, entries[2].zxid, entries[4].zxid)
    assert window.take_committed() == entries[:3]
    assert window.take_committed() == []
    assert not window.has_unflushed
    beyond = Window(0, CHAIN_START, entries, zxids.make(9, 9))
    assert beyond.committed == entries[4].zxid


def test_applies_only_what_is_durable_here_too() -> None:
    window = Window()
    window.append(zxids.first_of(1), 2, b"")
    for _ in range(3):
        window.append_next(0, b"x")
    window.committed = window.last
    assert window.take_committed() == []
    window.saved = zxids.make(1, 2)
    assert [entry.zxid & 0xFF for entry in window.take_committed()] == [1, 2]
    window.saved = window.last
    assert [entry.zxid & 0xFF for entry in window.take_committed()] == [3, 4]


def test_appended_like_recovered() -> None:
    entries = log_of([(1, 3), (4, 2)])
    window = Window()
    for entry in entries:
        window.append(entry.zxid, entry.kind, entry.data)
    assert window.entries == entries
    assert window.take_unflushed() == entries and window.take_unflushed() == []


@pytest.mark.parametrize("zxid", [0, zxids.make(1, 3), zxids.make(1, 5), zxids.make(2, 2)])
def test_contiguity(zxid: int) -> None:
    window = Window(0, CHAIN_START, log_of([(1, 3)]))
    with pytest.raises(AssertionError):
        window.append(zxid, 0, b"")


def test_an_epoch_has_a_last_zxid() -> None:
    window = Window(zxids.make(1, zxids.COUNTER_MAX - 1), 7)
    assert window.append_next(0, b"") == zxids.make(1, zxids.COUNTER_MAX)
    with pytest.raises(AssertionError, match="full"):
        window.append_next(0, b"")
    window.append(zxids.first_of(2), 2, b"")


def test_truncate() -> None:
    entries = log_of([(1, 3), (2, 2), (3, 1)])
    for keep in range(len(entries) + 1):
        window = Window(0, CHAIN_START, entries)
        window.append(zxids.first_of(7), 2, b"unsaved")
        zxid = entries[keep - 1].zxid if keep else 0
        window.truncate(zxid)
        assert window.entries == entries[:keep] and window.last == window.saved == zxid
        assert window.take_unflushed() == []
        window.append(zxids.first_of(8), 2, b"other")
        assert [entry.zxid for entry in window.take_unflushed()] == [zxids.first_of(8)]
        assert window.held_bytes == sum(
            len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in window.entries
        )


def test_never_cut_below_what_is_committed() -> None:
    entries = log_of([(1, 3)])
    window = Window(0, CHAIN_START, entries, entries[1].zxid)
    with pytest.raises(AssertionError):
        window.truncate(entries[0].zxid)
    with pytest.raises(AssertionError):
        window.truncate(zxids.make(1, 9))


@pytest.mark.parametrize("number", range(20))
def test_trimming_keeps_what_is_needed(seed: int, number: int) -> None:
    rng = random.Random(f"{seed} {number}")
    window = Window(bytes_max=rng.choice([1000, 4000]))
    everything: list[Entry] = []
    epoch = 0
    for _ in range(200):
        if epoch == 0 or rng.random() < 0.05:
            epoch += 1
            window.append(zxids.first_of(epoch), 2, b"")
        else:
            window.append_next(0, rng.randbytes(rng.randrange(50)))
        everything.append(window.entries[-1])
        if rng.random() < 0.3:
            window.saved = window.last
        if rng.random() < 0.3:
            window.committed = rng.choice([e.zxid for e in everything if e.zxid >= window.applied])
            window.take_committed()
        window.take_unflushed()
        floor = rng.choice(everything).zxid
        before = window.base
        window.trim(floor)
        assert window.base == before or window.base <= min(floor, window.applied, window.saved)
        held = [entry for entry in everything if entry.zxid > window.base]
        assert window.entries == held
        assert window.held_bytes == sum(len(e.data) + ENTRY_OVERHEAD_BYTES for e in held)
        assert all(window.chain_at(entry.zxid) == entry.chain for entry in held)
        assert window.after(floor, 1 << 30) == [e for e in held if e.zxid > floor]
    assert window.base > 0, "nothing was ever trimmed"


def test_after_is_bounded() -> None:
    entries = log_of([(1, 9)])
    window = Window(0, CHAIN_START, entries)
    assert window.after(0, 1) == entries[:1]
    assert window.after(entries[2].zxid, 2 * ENTRY_OVERHEAD_BYTES) == entries[3:5]
    assert window.after(window.last, 1 << 30) == []


def test_ends_of_epochs() -> None:
    entries = log_of([(1, 3), (2, 1), (5, 2)])
    window = Window(0, CHAIN_START, entries)
    by_zxid = {entry.zxid: entry.chain for entry in entries} | {0: CHAIN_START}

    def marks(*places: tuple[int, int]) -> list[tuple[int, int]]:
        zxids_of = [zxids.make(*place) for place in places]
        return [(zxid, by_zxid[zxid]) for zxid in zxids_of]

    assert window.ends_of_epochs(0) == marks((5, 2), (2, 1), (1, 3), (0, 0))
    assert window.ends_of_epochs(zxids.make(1, 2)) == marks((5, 2), (2, 1), (1, 3), (1, 2))
    assert window.ends_of_epochs(zxids.make(2, 1)) == marks((5, 2), (2, 1))
    assert window.ends_of_epochs(window.last) == marks((5, 2))
    assert Window().ends_of_epochs(0) == [(0, CHAIN_START)]
