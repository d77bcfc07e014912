"""What the core asks of the world, as plain records.

The core (zab, state, pipeline, replica) performs no IO.  It describes what must
be written and sent; a shell - the asyncio server or the simulator - does it and
reports back.  Messages are opaque values here, so that storage and shells need
not know the protocol.

Records that pass by the thousand are plain slotted classes: building a frozen
one costs four times as much.  They are never changed once handed over.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from zkpy.crc import crc32


class EntryKind(IntEnum):
    """What a log entry means to zab."""

    TXN = 0
    """A transaction of the tree: opaque to zab."""
    CONFIG = 1
    """A voter set, in force for counting from its proposal on."""
    EPOCH = 2
    """Opens an epoch: the first entry of a leader, the last act of synchronisation."""
    PROOF = 3
    """Changes nothing: that it is committed proves that its leader still leads (`zab.leader`)."""


@dataclass(init=False, slots=True)
class Entry:
    """One entry of the replicated log."""

    zxid: int
    kind: int
    """An EntryKind, as a plain int."""
    data: bytes
    chain: int
    """32-bit hash over this entry and, through its predecessor's, all before it.

    Equal zxid and chain mean equal logs up to there (see `zab.window`)."""

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(self, zxid: int, kind: int, data: bytes, chain: int) -> None:
        self.zxid = zxid
        self.kind = kind
        self.data = data
        self.chain = chain


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a member is and what it promised: the one metadata record on disk.

    A data directory without it belongs to a *blank* member, which counts in no
    quorum (see `zkpy.zab.member`).
    """

    cluster_id: bytes
    """16 random bytes, drawn when the ensemble was founded."""
    server_id: int
    founding: bool
    """True until this member has seen the founding complete; it still counts as blank."""
    accepted_epoch: int
    """The highest epoch promised to a leader; durable before the promise is sent."""
    voters: bytes
    """The last committed voter set, in zab's encoding."""
    proposed_voters: bytes
    """The last proposed voter set; equal to `voters` when no change is under way."""
    generation: int = 1
    """Which generation of log and images is in force.

    A SNAP is received into a new generation; replacing this record adopts it
    whole, so an interrupted one leaves the old state as it was."""


@dataclass(slots=True)
class Truncate:
    """Cut the log so that `zxid` is its last entry, exactly and durably."""

    zxid: int


@dataclass(slots=True)
class Append:
    """Write entries as one batch: one write, one header, one fdatasync."""

    entries: list[Entry]
    committed: int
    """Commit watermark known when the batch was made; 0 if none."""
    digest_zxid: int
    """The zxid at which `digest` was the digest of the tree."""
    digest: int


@dataclass(slots=True)
class WriteIdentity:
    """Replace the identity record atomically (temp file, fsync, rename, directory fsync).

    It puts the generation that it names in force; if that is so already, a
    generation being received is dropped."""

    identity: Identity


@dataclass(slots=True)
class BeginGeneration:
    """Start a new, empty generation beside the one in force: an image will follow."""

    generation: int
    zxid: int
    """The image's zxid."""
    chain: int
    """Chain value of the log at that zxid."""


@dataclass(slots=True)
class GenerationChunk:
    """A piece of the image that the new generation starts from, in order."""

    data: bytes


@dataclass(slots=True)
class EndGeneration:
    """The image is complete; entries appended from now on go behind it.

    The generation counts only once a WriteIdentity names it."""

    digest: int


DiskStep = Truncate | Append | WriteIdentity | BeginGeneration | GenerationChunk | EndGeneration


@dataclass(slots=True)
class DiskBatch:
    """Steps to carry out in order; when all are durable, report `saved(number)`.

    At most one batch is under way: the next one is handed out only after
    `saved`, which is the group commit and keeps rule D4 (a later batch proves
    that every earlier one was durable)."""

    number: int
    steps: list[DiskStep]


@dataclass(slots=True)
class ImageBegin:
    """Start writing an image of the own state at `zxid` in the background."""

    zxid: int
    chain: int


@dataclass(slots=True)
class ImageChunk:
    data: bytes


@dataclass(slots=True)
class ImageEnd:
    """Trailer of the image; when it is durable, report `image_saved(zxid)`."""

    zxid: int
    digest: int


ImageStep = ImageBegin | ImageChunk | ImageEnd


@dataclass(slots=True)
class Ready:
    """All that one pass of the core asks for, in the order given within each field."""

    disk: DiskBatch | None = None
    peers: Sequence[tuple[int, object]] = ()
    """(server id, message): FIFO per server."""
    votes: Sequence[tuple[int, object]] = ()
    """(server id, notification): datagrams, may be lost."""
    clients: list[tuple[int, bytes]] = field(default_factory=list)
    """(client link, bytes): at most one element per link and pass."""
    updated: list[int] = field(default_factory=list)
    """Those of these links to which a write was answered."""
    closes: list[int] = field(default_factory=list)
    """Client links to close once their bytes are written."""
    peer_closes: Sequence[int] = ()
    """Server ids whose link must be closed."""
    image: Sequence[ImageStep] = ()
    halt: str | None = None
    """Why the server must stop now; nothing else in this record may be sent."""
    alarm: str | None = None
    """What an operator must know now, though the server goes on."""
    failures: Sequence[str] = ()
    """Who failed to authenticate, and how: any number, so that the log of it has to be limited."""


CHAIN_START: Final = 0
"""Chain value of the empty log."""


@dataclass(slots=True)
class Recovered:
    """What a data directory held at start: values, read by `storage`.

    What is left out is that of the empty tree, with nothing in the log.
    """

    identity: Identity | None = None
    image_zxid: int = 0
    image_chain: int = CHAIN_START
    image: Iterable[bytes] = ()
    """The image's chunks, none if there is none.  They may come from the disk while they are
    walked through: StorageError if one cannot be read now."""
    image_digest: int = 0
    entries: list[Entry] = field(default_factory=list)
    """Log entries after the image, contiguous."""
    committed: int = 0
    """The highest commit watermark found in a batch header or image."""
    digests: list[tuple[int, int]] = field(default_factory=list)
    """(zxid, digest) pairs from batch headers after the image, for checking the replay."""
    suspect: str | None = None
    """Why this member must not count until it was synchronised anew (D5); None if sound."""
    notes: list[str] = field(default_factory=list)
    """What recovery found and put right (a torn tail, a damaged image), for the operator's log."""


_LINK: Final = struct.Struct(">qB")


def chain_next(chain: int, zxid: int, kind: int, data: bytes) -> int:
    """The chain value behind one more entry; `CHAIN_START` is that of the empty log.

    CRC-32 over the entry, seeded with the chain before it.
    """
    return crc32(data, crc32(_LINK.pack(zxid, kind), chain))
