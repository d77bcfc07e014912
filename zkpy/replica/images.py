"""Images of the state as a replica makes and takes them: its own for the disk, a leader's for its
learners, and the one that a learner is sent.  Their bytes are those of `zkpy.state.image`.
"""

import itertools
import random

from zkpy import zxid as zxids
from zkpy.effects import ImageBegin, ImageChunk, ImageEnd, ImageStep, Recovered
from zkpy.errors import CorruptionError
from zkpy.limits import Limits
from zkpy.state.apply import ReplicatedState
from zkpy.state.image import ImageReader, ImageWriter, load
from zkpy.zab.window import Window
from zkpy.zab.zab import Zab


class OwnImages:
    """When an image of the own state is due, and its making, one slice per pass."""

    def __init__(self, limits: Limits, rng: random.Random) -> None:
        self._slice_nodes = limits.image_slice_nodes
        self._interval = limits.snap_entries
        self._rng = rng
        self._entries = self._bytes = 0
        """Applied since the last image; a long replayed tail makes one due soon."""
        self._bytes_max = limits.snap_bytes
        self._due_after = self._draw()
        self._writer: ImageWriter | None = None
        self._steps: list[ImageStep] = []
        self.paused = False
        """Set by a shell whose image writer is behind: no slices until it is cleared."""

    @property
    def under_way(self) -> bool:
        return self._writer is not None

    @property
    def busy(self) -> bool:
        """A slice could be made now."""
        return self._writer is not None and not self.paused

    def count_entries(self, count: int, size: int) -> None:
        self._entries += count
        self._bytes += size

    def advance(self, state: ReplicatedState, window: Window) -> None:
        """Begin an image if one is due, or make the next slice of the one under way."""
        if self.busy:
            self._make_slice()
        elif self._writer is None and (
            self._entries >= self._due_after or self._bytes >= self._bytes_max
        ):
            self._begin(state, window)

    def abandon(self) -> None:
        """The state that it was made of is not in force any more."""
        self._writer = None

    def take_steps(self) -> list[ImageStep]:
        steps, self._steps = self._steps, []
        return steps

    def _draw(self) -> int:
        """Members must not all make their images at once, so each draws its own interval."""
        least = self._interval // 2 + 1
        return self._rng.randint(least, max(least, self._interval))

    def _begin(self, state: ReplicatedState, window: Window) -> None:
        chain = window.chain_at(state.zxid)
        assert chain is not None, "the window holds all that was applied since its base"
        self._entries = self._bytes = 0
        self._due_after = self._draw()
        self._writer = ImageWriter(state)
        self._steps.append(ImageBegin(state.zxid, chain))

    def _make_slice(self) -> None:
        assert self._writer is not None
        chunk = self._writer.next_chunk(self._slice_nodes)
        if chunk is not None:
            self._steps.append(ImageChunk(chunk))
        else:
            self._steps.append(ImageEnd(self._writer.zxid, self._writer.digest))
            self._writer = None


class SentImages:
    """SNAPs going out: one slice per learner and pass, for as long as it keeps up."""

    def __init__(self, zab: Zab, limits: Limits) -> None:
        self._zab = zab
        self._slice_nodes = limits.image_slice_nodes
        self._writers: dict[int, ImageWriter] = {}

    @property
    def busy(self) -> bool:
        """A slice could be sent now."""
        return any(map(self._zab.image_room, self._writers))

    def begin(self, sid: int, state: ReplicatedState) -> None:
        """Send that learner the state as it is now."""
        self._writers[sid] = ImageWriter(state)

    def advance(self) -> None:
        for sid, writer in list(self._writers.items()):
            room = self._zab.image_room(sid)
            if room is None:
                del self._writers[sid]
            elif room > 0:
                self._send_slice(sid, writer)

    def _send_slice(self, sid: int, writer: ImageWriter) -> None:
        chunk = writer.next_chunk(self._slice_nodes)
        if chunk is not None:
            self._zab.image_chunk(sid, chunk)
        else:
            self._zab.image_end(sid, writer.digest)
            del self._writers[sid]


class ReceivedImage:
    """A SNAP coming in: decoded into a state beside the one in force, until that is replaced."""

    def __init__(self) -> None:
        self._reader: ImageReader | None = None
        """None also after damage: what else comes of that image is passed over."""
        self._state: ReplicatedState | None = None

    def begin(self) -> None:
        self._reader, self._state = ImageReader(), None

    def feed(self, chunk: bytes) -> None:
        """CorruptionError for what is no part of an image."""
        if self._reader is not None:
            try:
                self._reader.feed(chunk)
            except CorruptionError:
                self._reader = None
                raise

    def finish(self, digest: int) -> bool:
        """Whether a state came of it; CorruptionError if not, or one with another digest."""
        reader, self._reader = self._reader, None
        if reader is None:
            return False
        state = reader.finish()
        if state.digest != digest:
            raise CorruptionError("the image's digest is not the leader's")
        self._state = state
        return True

    def take(self, zxid: int) -> ReplicatedState:
        """What came of it: it is in force now."""
        state, self._state = self._state, None
        assert state is not None and state.zxid == zxid, "another image was adopted"
        return state

    def abort(self) -> None:
        self._reader = self._state = None


def load_state(recovered: Recovered) -> ReplicatedState:
    """The state in the image; the log behind it comes through zab, like everything else."""
    chunks = iter(recovered.image)
    first = next(chunks, None)
    if first is None and recovered.image_zxid == zxids.NONE:
        return ReplicatedState.founded()
    state = load(itertools.chain((first or b"",), chunks))
    if (state.zxid, state.digest) != (recovered.image_zxid, recovered.image_digest):
        raise CorruptionError(
            f"the image at {zxids.show(recovered.image_zxid)} does not hold the state that "
            "its trailer names"
        )
    return state
