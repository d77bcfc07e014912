"""A state made once more: as an image, and by counting it from scratch."""

from collections.abc import Iterator

from zkpy.state.apply import ReplicatedState
from zkpy.state.image import ImageWriter
from zkpy.state.tree import DataTree


def chunks_of(state: ReplicatedState, nodes: int = 4096) -> Iterator[bytes]:
    """All chunks of its image, made at once."""
    writer = ImageWriter(state)
    while (chunk := writer.next_chunk(nodes)) is not None:
        yield chunk


def recounted(state: ReplicatedState) -> ReplicatedState:
    """The same tree and sessions, all else made from scratch: must show the same digest."""
    tree = DataTree(dict(state.tree.nodes), dict(state.tree.children))
    other = ReplicatedState(tree, state.zxid)
    other.count_nodes(list(tree.nodes), list(tree.nodes.values()))
    other.restore(state.tree.acls, state.tree.owners)
    for session, held in state.sessions.sessions.items():
        other.open_session(session, held.timeout_ms, held.password)
    other.quota.rebuild(tree)
    return other
