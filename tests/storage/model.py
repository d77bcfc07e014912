"""A small core that drives `Storage`, and knows at each moment what a crash may leave.

An image's content is the history it stands for, so that what a restart gives back -
image plus log - is comparable with the whole history, entry by entry.
"""

import random
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import attrs

from zkpy import zxid as zxids
from zkpy.effects import (
    Append,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    Entry,
    GenerationChunk,
    Identity,
    ImageBegin,
    ImageChunk,
    ImageEnd,
    Recovered,
    Truncate,
    WriteIdentity,
    chain_next,
)
from zkpy.storage import FileSystem, Storage, StorageOptions

DATA_DIR = "/data"
SMALL = StorageOptions(segment_bytes=2048, image_sync_bytes=600)
IDENTITY = Identity(b"0123456789abcdef", 1, True, 0, b"voters", b"voters", 1)


def make_entries(
    history: Sequence[Entry], count: int, epoch: int, data: Callable[[int], bytes]
) -> list[Entry]:
    """`count` entries of `epoch` behind a history."""
    last, chain = (history[-1].zxid, history[-1].chain) if history else (0, 0)
    made = []
    for i in range(count):
        last = last + 1 if zxids.epoch_of(last) == epoch else zxids.first_of(epoch)
        content = data(i)
        chain = chain_next(chain, last, i % 3, content)
        made.append(Entry(last, i % 3, content, chain))
    return made


def plain_entries(history: Sequence[Entry], count: int, epoch: int = 1) -> list[Entry]:
    return make_entries(history, count, epoch, lambda i: b"entry %d " % i * 4)


_ROW = struct.Struct(">qBII")


def encode_history(history: Sequence[Entry], rows: int = 4) -> list[bytes]:
    """An image of a history, as chunks."""
    packed = [_ROW.pack(e.zxid, e.kind, e.chain, len(e.data)) + e.data for e in history]
    return [b"".join(packed[i : i + rows]) for i in range(0, len(packed), rows)]


def decode_history(chunks: Iterable[bytes]) -> list[Entry]:
    data, pos, history = b"".join(chunks), 0, []
    while pos < len(data):
        zxid, kind, chain, size = _ROW.unpack_from(data, pos)
        pos += _ROW.size
        history.append(Entry(zxid, kind, data[pos : pos + size], chain))
        pos += size
    return history


@attrs.define(frozen=True)
class State:
    """What must be on disk: the identity and the whole history."""

    identity: Identity | None = None
    history: tuple[Entry, ...] = ()

    @property
    def last(self) -> tuple[int, int]:
        return (self.history[-1].zxid, self.history[-1].chain) if self.history else (0, 0)


def state_of(recovered: Recovered) -> State:
    """What a restart gave back; checks that image and log join without a seam."""
    assert recovered.suspect is None, recovered.suspect
    history = decode_history(recovered.image)
    last = (history[-1].zxid, history[-1].chain) if history else (0, 0)
    assert last == (recovered.image_zxid, recovered.image_chain)
    for entry in recovered.entries:
        assert zxids.follows(last[0], entry.zxid)
        assert entry.chain == chain_next(last[1], entry.zxid, entry.kind, entry.data)
        last = entry.zxid, entry.chain
    return State(recovered.identity, (*history, *recovered.entries))


def open_storage(
    fs: FileSystem, log_dir: str | None = None, options: StorageOptions = SMALL
) -> tuple[Storage, Recovered]:
    return Storage.open(fs, DATA_DIR, log_dir, options)


def append(storage: Storage, history: list[Entry], count: int = 2, committed: int = 0) -> None:
    """Append a batch to a storage, and to the history it holds."""
    entries = plain_entries(history, count)
    step = Append(entries, committed, entries[0].zxid, entries[0].zxid * 3)
    storage.execute(DiskBatch(1, [step]))
    history.extend(entries)


def write_image(storage: Storage, history: Sequence[Entry]) -> None:
    """Write an image of that history."""
    zxid, chain = (history[-1].zxid, history[-1].chain) if history else (0, 0)
    storage.image_step(ImageBegin(zxid, chain))
    for chunk in encode_history(history):
        storage.image_step(ImageChunk(chunk))
    storage.image_step(ImageEnd(zxid, zxid * 3))


@attrs.define(eq=False)
class Driver:
    """Random operations on a `Storage`, with the states that a crash may leave."""

    storage: Storage
    rng: random.Random
    state: State
    allowed: list[State] = attrs.Factory(list)
    """While an operation runs: the state before it and after each of its steps."""
    committed: int = 0
    acknowledged: int = 0
    """Entries ever reported durable."""
    number: int = 0

    def __attrs_post_init__(self) -> None:
        self.allowed = [self.state]

    def run(self, operations: int) -> None:
        for _ in range(operations):
            self.step()

    def step(self) -> None:
        if self.state.identity is None:
            self.rng.choice((self.write_identity, self.receive_generation))()
            return
        pick = self.rng.choices(
            (
                self.append,
                self.append_twice,
                self.truncate,
                self.write_image,
                self.abandon_image,
                self.purge,
                self.prepare_segment,
                self.write_identity,
                self.receive_generation,
                self.abandon_generation,
            ),
            (12, 3, 3, 3, 1, 2, 2, 2, 1, 1),
        )
        pick[0]()

    def append(self) -> None:
        self._execute([self._append_step(self.state.history)])

    def append_twice(self) -> None:
        first = self._append_step(self.state.history)
        second = self._append_step((*self.state.history, *first.entries))
        self._execute([first, second])

    def truncate(self) -> None:
        cuts = [e.zxid for e in self.state.history if e.zxid >= self.committed]
        if not self.committed:
            cuts.append(0)
        if cuts:
            self._execute([Truncate(self.rng.choice(cuts))])

    def write_identity(self) -> None:
        old = self.state.identity
        new = replace(old, accepted_epoch=old.accepted_epoch + 1) if old else IDENTITY
        self._execute([WriteIdentity(new)])

    def write_image(self) -> None:
        covered = self._commit_some()
        write_image(self.storage, covered)

    def abandon_image(self) -> None:
        covered = self._commit_some()
        if covered:
            self.storage.image_step(ImageBegin(covered[-1].zxid, covered[-1].chain))
            self.storage.image_step(ImageChunk(b"half"))

    def purge(self) -> None:
        self.storage.purge(self.rng.randint(1, 3))

    def prepare_segment(self) -> None:
        """As much of it as is due."""
        while self.storage.wants_slice():
            self.storage.prepare_slice()

    def receive_generation(self) -> None:
        """A SNAP: the committed part stays, what is behind it differs; in several batches."""
        identity = self.state.identity
        number = identity.generation + 1 if identity else 1
        image = tuple(e for e in self.state.history if e.zxid <= self.committed)
        zxid, chain = (image[-1].zxid, image[-1].chain) if image else (0, 0)
        self._run_batch([BeginGeneration(number, zxid, chain)])
        self._run_batch([GenerationChunk(chunk) for chunk in encode_history(image)])
        entries = self._new_entries(image, self._last_epoch() + 1)
        adopted = State(replace(identity or IDENTITY, generation=number), (*image, *entries))
        if self.rng.random() < 0.5:
            self._run_batch([EndGeneration(zxid * 3)])
            self._run_batch([self._step_of(entries)])
            steps: list[DiskStep] = []
        else:
            steps = [EndGeneration(zxid * 3), self._step_of(entries)]
        assert adopted.identity is not None
        self.allowed = [self.state, adopted]
        self._run_batch([*steps, WriteIdentity(adopted.identity)])
        self._arrive(adopted)

    def abandon_generation(self) -> None:
        identity = self.state.identity
        assert identity is not None
        begin = BeginGeneration(identity.generation + 1, self.committed, 5)
        self._run_batch([begin, GenerationChunk(b"x" * 700)])
        if self.rng.random() < 0.5:
            self._run_batch([EndGeneration(1)])
        self.write_identity()

    def _append_step(self, history: Sequence[Entry]) -> Append:
        epoch = max(1, zxids.epoch_of(history[-1].zxid) if history else 1)
        if history and self.rng.random() < 0.15:
            epoch += self.rng.randint(1, 3)
        return self._step_of(self._new_entries(history, epoch))

    def _new_entries(self, history: Sequence[Entry], epoch: int) -> list[Entry]:
        sizes = [self.rng.choice((0, 1, 40, 200, 700)) for _ in range(self.rng.randint(1, 4))]
        payloads = [self.rng.randbytes(size) for size in sizes]
        return make_entries(history, len(sizes), epoch, payloads.__getitem__)

    def _step_of(self, entries: list[Entry]) -> Append:
        return Append(entries, self.committed, self.committed, self.committed * 3)

    def _last_epoch(self) -> int:
        return zxids.epoch_of(self.state.last[0])

    def _commit_some(self) -> list[Entry]:
        candidates = [e.zxid for e in self.state.history if e.zxid >= self.committed]
        if candidates:
            self.committed = self.rng.choice(candidates)
        return [e for e in self.state.history if e.zxid <= self.committed]

    def _execute(self, steps: list[DiskStep]) -> None:
        states = [self.state]
        for step in steps:
            states.append(_after(states[-1], step))
        self.allowed = states
        self._run_batch(steps)
        self._arrive(states[-1])

    def _run_batch(self, steps: list[DiskStep]) -> None:
        self.number += 1
        self.storage.execute(DiskBatch(self.number, steps))
        self.acknowledged += sum(len(s.entries) for s in steps if isinstance(s, Append))

    def _arrive(self, state: State) -> None:
        self.state, self.allowed = state, [state]


def _after(state: State, step: DiskStep) -> State:
    if isinstance(step, Append):
        return attrs.evolve(state, history=(*state.history, *step.entries))
    if isinstance(step, Truncate):
        kept = tuple(e for e in state.history if e.zxid <= step.zxid)
        return attrs.evolve(state, history=kept)
    assert isinstance(step, WriteIdentity)
    return attrs.evolve(state, identity=step.identity)
