"""The receive buffer: the same frames however the bytes arrive."""

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.buffers import PIECES_MAX, FrameBuffer
from wire.errors import RemoteProtocolError

QUICK = settings(max_examples=60)
LIMIT = 20


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def receive(buffer: FrameBuffer, data: bytes) -> list[bytes]:
    """The bodies of the frames that `data` completes, taken as connections take theirs."""
    data = buffer.join(data)
    frames = []
    pos = 0
    while len(data) - pos >= 4:
        end = pos + 4 + buffer.check(struct.unpack_from(">i", data, pos)[0])
        if end > len(data):
            break
        frames.append(data[pos + 4 : end])
        pos = end
    buffer.keep(data, pos)
    return frames


@QUICK
@given(st.lists(st.binary(max_size=LIMIT), max_size=6), st.lists(st.integers(0, 150), max_size=8))
def test_frames_do_not_depend_on_how_the_bytes_arrive(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, bodies))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    buffer = FrameBuffer(LIMIT)
    got = []
    for start, stop in zip(edges, edges[1:], strict=False):
        got += receive(buffer, stream[start:stop])
    assert got == bodies
    assert buffer.held == 0


def test_byte_by_byte() -> None:
    buffer = FrameBuffer(LIMIT)
    stream = frame(b"one") + frame(b"") + frame(b"three")
    got = [receive(buffer, stream[i : i + 1]) for i in range(len(stream))]
    assert [bodies for bodies in got if bodies] == [[b"one"], [b""], [b"three"]]


def test_whole_frames_are_not_copied_on_the_way_in() -> None:
    data = frame(b"body")
    assert FrameBuffer(LIMIT).join(data) is data


@pytest.mark.parametrize("size", [-1, -2, -(1 << 31), LIMIT + 1, (1 << 31) - 1])
@pytest.mark.parametrize("complete", [False, True])
def test_a_count_beyond_the_limit_is_refused_at_once(size: int, complete: bool) -> None:
    data = struct.pack(">i", size) + (bytes(LIMIT + 1) if complete else b"")
    with pytest.raises(RemoteProtocolError, match=f"frame of {size} bytes"):
        receive(FrameBuffer(LIMIT), data)


def test_the_limits_themselves_are_allowed() -> None:
    assert receive(FrameBuffer(LIMIT, 4), frame(bytes(LIMIT)) + frame(bytes(4))) == [
        bytes(LIMIT),
        bytes(4),
    ]
    with pytest.raises(RemoteProtocolError):
        receive(FrameBuffer(LIMIT, 4), frame(bytes(3)))


def test_a_bad_count_split_over_two_arrivals_is_refused() -> None:
    buffer = FrameBuffer(LIMIT)
    assert receive(buffer, b"\xff\xff\xff") == []
    with pytest.raises(RemoteProtocolError):
        receive(buffer, b"\xff")


def test_pieces_of_a_large_frame_are_joined_once() -> None:
    """Joined at each arrival, this would copy 16 MB * 16384 / 2."""
    size = 1 << 24
    buffer = FrameBuffer(size)
    assert receive(buffer, struct.pack(">i", size)) == []
    piece = bytes(1024)
    for _ in range(size // 1024 - 1):
        assert buffer.join(piece) == b""
    assert buffer.held == 4 + size - 1024
    tracemalloc.start()
    try:
        assert len(buffer.join(piece)) == 4 + size
        assert tracemalloc.get_traced_memory()[1] < 2 * size
    finally:
        tracemalloc.stop()


def test_held_bytes_come_first_and_are_bounded() -> None:
    buffer = FrameBuffer(LIMIT)
    buffer.hold(frame(b"early"))
    buffer.hold(frame(b""))
    with pytest.raises(RemoteProtocolError, match="before their time"):
        buffer.hold(bytes(LIMIT))
    assert receive(buffer, frame(b"late")) == [b"early", b"", b"late"]


def test_nothing_kept_is_nothing_held() -> None:
    buffer = FrameBuffer(LIMIT)
    buffer.keep(b"abc", 3)
    assert buffer.held == 0
    assert buffer.join(b"next") == b"next"


def test_a_large_frame_in_tiny_pieces_is_not_kept_in_as_many() -> None:
    buffer = FrameBuffer(100_000)
    body = bytes(range(256)) * 300
    data = len(body).to_bytes(4, "big") + body
    frames: list[bytes] = []
    most = 0
    for at in range(0, len(data), 2):
        frames += receive(buffer, data[at : at + 2])
        most = max(most, len(buffer._pieces))
    assert frames == [body]
    assert most <= PIECES_MAX + 1 < len(data) // 2
