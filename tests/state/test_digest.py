"""The digest: what it sees, and that it forgets the order."""

import pytest

from tests.state.anew import chunks_of
from tests.state.driver import Driver
from wire.records import ACL
from wire.txn import SetACLTxn, SetDataTxn, Txn
from zkpy.state import digest, image
from zkpy.state import znode as zn

GOLDEN = 5094759333954055878


def test_columns_and_changes_give_the_same_sum() -> None:
    paths = ["/a", "/b/é", "/c"]
    znodes = [zn.new(path.encode(), 0, 1, 1) for path in paths]
    one_by_one = digest.delta_of(
        [(path, None, znode) for path, znode in zip(paths, znodes, strict=True)]
    )
    assert digest.sum_of_nodes(paths, znodes) == one_by_one
    assert digest.sum_of_nodes(paths[::-1], znodes[::-1]) == one_by_one


def test_a_change_undone_leaves_nothing() -> None:
    old, new = zn.new(b"old", 0, 1, 1), zn.new(b"new", 0, 1, 1)
    assert digest.delta_of([("/a", old, new), ("/a", new, old)]) == 0
    assert digest.delta_of([("/a", None, new), ("/a", new, None)]) == 0


def test_data_exchanged_between_two_znodes_shows() -> None:
    """In a plain sum of CRCs, or of anything linear in them, this may cancel out."""
    one, two = zn.new(b"one", 0, 1, 1), zn.new(b"two", 0, 1, 1)
    exchanged = digest.sum_of_nodes(["/a", "/b"], [two, one])
    assert digest.sum_of_nodes(["/a", "/b"], [one, two]) != exchanged


@pytest.mark.parametrize(
    "txn",
    [
        SetDataTxn("/a", b"", 1),
        SetDataTxn("/a", None, 0),
        SetACLTxn("/a", (ACL(1, "world", "anyone"),), 0),
    ],
)
def test_every_fact_counts(txn: Txn) -> None:
    driver, other = Driver(), Driver()
    for each in (driver, other):
        each.create("/a")
    other.apply(txn)
    assert other.state.digest != driver.state.digest


def test_digest_fits_64_bits_and_is_stable() -> None:
    """A changed formula would make every member differ from its own image: be sure of it."""
    driver = Driver()
    driver.open_session(7)
    driver.create("/a", b"data", owner=7, acl=(ACL(1, "ip", "10.0.0.1"),))
    assert driver.state.digest == GOLDEN
    assert image.load(chunks_of(driver.state)).digest == GOLDEN
