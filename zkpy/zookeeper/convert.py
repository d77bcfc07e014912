"""ZooKeeper's tree into the replicated state, and back.

What is the server's own stays behind: `/zookeeper/config` tells of the old ensemble's servers,
and is that of a new one.

Sessions can live on here: ZooKeeper derives their passwords from their ids (and anybody can, which
is why zkpy draws its own), so that a client's next connection finds its session again.
"""

from typing import Final

from wire.records import OPEN_ACL, STAT, Stat
from zkpy.state import paths
from zkpy.state import znode as zn
from zkpy.state.apply import ReplicatedState
from zkpy.state.lifetimes import is_session
from zkpy.state.tree import DataTree
from zkpy.zookeeper.tree import Node, Tree

PASSWORD_BYTES: Final = 16
_SECRET: Final = 0xB3415C00
# java.util.Random: a linear congruential generator of 48 bits, of which it gives the upper 32.
_MULTIPLIER: Final = 0x5DEECE66D
_INCREMENT: Final = 0xB
_MASK: Final = (1 << 48) - 1


def to_state(tree: Tree) -> ReplicatedState:
    """The state of a server that holds this tree, its sessions among it."""
    _found_system_znodes(tree)
    state = ReplicatedState(DataTree(), tree.zxid)
    # In order of creation, as a server that saw it all would hold them: parents come first.
    ordered = sorted(tree.nodes.items(), key=lambda each: (each[1].czxid, each[0]))
    children: dict[str, dict[str, None]] = {}
    for path, _ in ordered:
        if path != paths.ROOT:
            children.setdefault(paths.parent(path), {})[paths.name(path)] = None
    for path, node in ordered:
        state.tree.nodes[path] = _to_znode(node, len(children.get(path, ())))
    state.tree.children.update(children)
    # A usage is no transaction's doing: a snapshot has what it was at some time.
    state.quota.rebuild(state.tree)
    state.quota.tell_all(state.tree)
    state.count_nodes(list(state.tree.nodes), list(state.tree.nodes.values()))
    state.restore(
        {path: node.acl or () for path, node in ordered if node.acl != OPEN_ACL},
        {path: node.owner for path, node in ordered if _is_noted(node.owner)},
    )
    for session, timeout_ms in tree.sessions.items():
        state.open_session(session, timeout_ms, password_of(session))
    return state


def password_of(session: int) -> bytes:
    """What ZooKeeper's client of this session shows when it comes back."""
    seed = (session ^ _SECRET ^ _MULTIPLIER) & _MASK
    password = b""
    while len(password) < PASSWORD_BYTES:
        seed = (seed * _MULTIPLIER + _INCREMENT) & _MASK
        password += (seed >> 16).to_bytes(4, "little")
    return password


def from_state(state: ReplicatedState) -> Tree:
    """The tree of a state, without its sessions: nobody could come back to one, for their passwords
    are others than ZooKeeper's.  They end, and their ephemerals with them."""
    tree = Tree(zxid=state.zxid)
    for path, znode in state.tree.nodes.items():
        tree.add(path, _to_node(state.tree, path, znode))
    tree.end_sessions(keep=False)
    del tree.nodes[paths.CONFIG]
    _found_system_znodes(tree)
    return tree


def _found_system_znodes(tree: Tree) -> None:
    """Those that every server has: as new, where they are missing or the server's own."""
    founded = DataTree.founded()
    for path in paths.SYSTEM_PATHS:
        if path == paths.CONFIG or path not in tree.nodes:
            tree.add(path, _to_node(founded, path, founded.nodes[path]))


def _to_node(tree: DataTree, path: str, znode: bytes) -> Node:
    stat = Stat(*STAT.unpack(zn.stat_of(znode)))
    return Node(
        zn.data_of(znode),
        tree.acl_of(path),
        stat.czxid,
        stat.mzxid,
        stat.ctime,
        stat.mtime,
        stat.version,
        zn.child_counter(znode),
        stat.aversion,
        tree.owner_of(path),
        stat.pzxid,
    )


def _to_znode(node: Node, children: int) -> bytes:
    counter = node.counter if node.counter >= 0 else zn.COUNTER_MAX  # it went past the end
    stat = STAT.pack(
        node.czxid,
        node.mzxid,
        node.ctime,
        node.mtime,
        node.version,
        _signed(2 * counter - children),
        node.aversion,
        node.owner if is_session(node.owner) else 0,
        len(node.data or b""),
        children,
        node.pzxid,
    )
    return zn.restored(node.data, stat)


def _signed(number: int) -> int:
    """The lower 32 bits, as Java's int has them."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


def _is_noted(owner: int) -> bool:
    """Of a container or TTL znode, whose Stat does not show it."""
    return owner != 0 and not is_session(owner)
