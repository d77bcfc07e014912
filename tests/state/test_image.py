"""Images: damage is noticed, chunks are bounded."""

import pytest

from tests.state.anew import chunks_of
from tests.state.driver import Driver
from tests.state.histories import history
from wire.records import ACL
from zkpy.errors import CorruptionError
from zkpy.state import image
from zkpy.state.apply import ReplicatedState


def a_state() -> ReplicatedState:
    state = ReplicatedState.founded()
    for step in history(3, 150):
        state.apply(*step)
    assert state.tree.acls and state.tree.owners and len(state.sessions)
    return state


def test_the_founded_state_has_an_image() -> None:
    founded = ReplicatedState.founded()
    loaded = image.load(chunks_of(founded))
    assert loaded.tree.nodes == founded.tree.nodes
    assert loaded.digest == founded.digest


def test_writing_a_loaded_image_gives_the_same_bytes() -> None:
    chunks = list(chunks_of(a_state(), 10))
    assert list(chunks_of(image.load(chunks), 10)) == chunks


def test_loaded_znodes_share_their_acls() -> None:
    driver = Driver()
    for path in ("/a", "/b"):
        driver.create(path, acl=(ACL(1, "ip", "10.0.0.1"),))
    acls = image.load(chunks_of(driver.state, nodes=1)).tree.acls
    assert acls["/a"] is acls["/b"]


def test_every_chunk_counts() -> None:
    chunks = list(chunks_of(a_state(), 3))
    assert len(chunks) > 8
    for number in range(len(chunks)):
        with pytest.raises(CorruptionError):
            image.load(chunks[:number] + chunks[number + 1 :])


@pytest.mark.parametrize("chunks", [[], [b""], [b"\0"], [b"zkpy" * 10]])
def test_no_image_at_all(chunks: list[bytes]) -> None:
    with pytest.raises(CorruptionError):
        image.load(chunks)


def test_cut_or_lengthened_chunks_are_noticed() -> None:
    chunks = list(chunks_of(a_state(), 50))
    for number, chunk in enumerate(chunks):
        for damaged in (b"", chunk[:-1], chunk[: len(chunk) // 2], chunk + b"x"):
            with pytest.raises(CorruptionError):
                image.load([*chunks[:number], damaged, *chunks[number + 1 :]])


def test_any_flipped_byte_is_noticed() -> None:
    chunks = list(chunks_of(a_state(), 1000))
    for number, chunk in enumerate(chunks):
        for at in range(0, len(chunk), 1 + len(chunk) // 40):
            if number == 0 and 7 <= at < 15:
                continue  # The zxid stands under the checksum of the file alone.
            damaged = chunk[:at] + bytes([chunk[at] ^ 0x40]) + chunk[at + 1 :]
            with pytest.raises(CorruptionError):
                image.load([*chunks[:number], damaged, *chunks[number + 1 :]])


def test_rows_and_bytes_of_a_chunk_are_bounded() -> None:
    driver = Driver()
    for number in range(20):
        driver.create(f"/n{number}", bytes(400_000))
    writer = image.ImageWriter(driver.state)
    sizes = []
    while (chunk := writer.next_chunk(1000)) is not None:
        sizes.append(len(chunk))
    assert max(sizes) < image.CHUNK_BYTES_MAX + 500_000
    assert len(sizes) > 7
    assert writer.next_chunk(1000) is None
