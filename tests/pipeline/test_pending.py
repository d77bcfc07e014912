"""The overlay of prepared changes: what it shows, undoes and forgets."""

from dataclasses import astuple, fields, replace

import pytest

from tests.pipeline import leader as ask
from tests.pipeline.leader import ANN, BOB, JANE, Preparing
from wire.codes import Perm
from wire.records import ACL, OPEN_ACL
from zkpy.pipeline.pending import NodeView, Pending
from zkpy.state import lifetimes
from zkpy.state.tree import DataTree

NEW = NodeView(0, 0, 0, 0, 3, 0, OPEN_ACL)


@pytest.fixture
def pending() -> Pending:
    return Pending(DataTree.founded())


def change(pending: Pending, zxid: int, **views: NodeView | None) -> None:
    """One transaction that leaves those views at /<name>."""
    for name, view in views.items():
        pending.put(f"/{name}", view)
    pending.seal(zxid)


def apply(pending: Pending, zxid: int, *names: str) -> None:
    """The transaction that changed those is in the tree."""
    pending.applied(zxid, [(f"/{name}", None, b"") for name in names])


def seen(pending: Pending, path: str) -> NodeView:
    view = pending.view(path)
    assert view is not None, path
    return view


def test_view_of_the_tree_has_all_facts() -> None:
    leader = Preparing()
    acl = ask.acl_for(Perm.ALL)
    leader.run(ask.create("/a", data=b"four", acl=acl))
    for step in (ask.create("/a/x"), ask.create("/a/y"), ask.delete("/a/x")):
        leader.run(step, identities=JANE)
    leader.run(ask.set_data("/a", data=b"seven77"), identities=JANE)
    leader.run(ask.set_acl("/a", acl), identities=JANE)
    leader.run(ask.set_acl("/a", acl), identities=JANE)
    view = seen(leader.pending, "/a")
    assert [getattr(view, each.name) for each in fields(view)] == [1, 2, 2, 1, 7, 0, tuple(acl)]


@pytest.mark.parametrize(
    ("request_", "owner"),
    [
        (ask.create("/a", data=None), 0),
        (ask.ephemeral("/a"), ANN),
        (ask.container("/a"), lifetimes.CONTAINER_OWNER),
        (ask.create_ttl("/a", 5), lifetimes.owner_of_ttl(5)),
    ],
)
def test_view_tells_the_real_owner_before_and_after(request_: ask.Step, owner: int) -> None:
    """The tree's Stat shows 0 for containers; the rules of children need to know."""
    leader = Preparing()
    leader.propose(request_)
    before = seen(leader.pending, "/a")
    leader.apply_all()
    after = seen(leader.pending, "/a")
    assert before is not after
    assert astuple(before) == astuple(after)
    assert after.owner == owner


def test_view_of_nothing(pending: Pending) -> None:
    assert pending.view("/a") is None


def test_newest_change_is_seen(pending: Pending) -> None:
    change(pending, 1, a=NEW)
    assert pending.view("/a") is NEW
    change(pending, 2, a=None)
    assert pending.view("/a") is None
    newer = replace(NEW, version=4)
    change(pending, 3, a=newer)
    assert pending.view("/a") is newer


def test_removal_hides_what_the_tree_still_has(pending: Pending) -> None:
    change(pending, 1, zookeeper=None)
    assert pending.view("/zookeeper") is None
    apply(pending, 1, "zookeeper")
    assert pending.view("/zookeeper") is not None, "from the tree again"


def test_change_is_forgotten_when_the_last_one_is_applied(pending: Pending) -> None:
    change(pending, 1, a=NEW, b=NEW)
    change(pending, 2, a=replace(NEW, version=1))
    assert len(pending._latest) == 2
    apply(pending, 1, "a", "b")
    assert (len(pending._latest), seen(pending, "/a").version, pending.view("/b")) == (1, 1, None)
    apply(pending, 2, "a")
    assert (len(pending._latest), pending.view("/a")) == (0, None)


def test_what_was_applied_before_this_leadership_began_is_not_pending(pending: Pending) -> None:
    """The history's last entries are applied while new ones are prepared already."""
    change(pending, 7, a=NEW)
    apply(pending, 5, "a", "b")
    assert pending.view("/a") is NEW


def test_path_touched_twice_by_one_transaction(pending: Pending) -> None:
    pending.put("/a", NEW)
    pending.put("/a", None)
    pending.put("/a", NEW)
    pending.seal(1)
    apply(pending, 1, "a", "a", "a")
    assert (len(pending._latest), pending.view("/a")) == (0, None)


def test_undo_restores_what_was_seen_before(pending: Pending) -> None:
    change(pending, 1, a=NEW, b=None)
    for path in ("/a", "/b", "/c", "/a"):
        pending.put(path, replace(NEW, version=9))
    pending.put("/a", None)
    pending.put("/zookeeper", None)
    pending.undo()
    assert [pending.view(path) for path in ("/a", "/b", "/c")] == [NEW, None, None]
    assert pending.view("/zookeeper") is not None
    change(pending, 2, c=NEW)
    apply(pending, 1, "a", "b")
    assert [pending.view(path) for path in ("/a", "/c")] == [None, NEW]


def test_undo_reaches_back_to_the_last_seal_only(pending: Pending) -> None:
    change(pending, 1, a=NEW)
    pending.undo()
    assert pending.view("/a") == NEW


def test_owned_by_knows_pending_ephemerals(pending: Pending) -> None:
    anns, bobs = (replace(NEW, owner=session) for session in (ANN, BOB))
    change(pending, 1, a=anns, b=anns, c=bobs, d=NEW)
    change(pending, 2, b=None)
    assert pending.owned_by(ANN) == ["/a"]
    assert pending.owned_by(BOB) == ["/c"]


def test_undo_gives_back_what_was_owned_and_takes_what_was_not(pending: Pending) -> None:
    anns = replace(NEW, owner=ANN)
    change(pending, 1, a=anns)
    pending.put("/a", None)
    pending.put("/b", anns)
    pending.undo()
    assert pending.owned_by(ANN) == ["/a"]
    apply(pending, 1, "a")
    assert pending._owned == {}


def test_acl_of_the_tree_is_shared_where_it_is_open() -> None:
    """`is OPEN_ACL` is the short way past the ACL check."""
    leader = Preparing()
    leader.run(ask.create("/a", acl=[ACL(31, "world", "anyone")]))
    assert seen(leader.pending, "/a").acl is OPEN_ACL
