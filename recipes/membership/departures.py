"""`Departures`: the node in which those who leave by their own will say so.

A znode that is gone may have gone with its session.  Who leaves deletes it, and says so in one
multi, so that nobody sees the one without the other.
"""

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import NodeExistsError, NoNodeError

from recipes.base import Wait, raise_first
from recipes.membership.node import decode_departed, encode_departed


class Departures:
    def __init__(self, client: KazooClient, path: str) -> None:
        self.client, self.path = client, path

    def read(self, wait: Wait) -> frozenset[str]:
        """The last incarnations that have left."""
        try:
            data = wait.result(self.client.get_async(self.path))[0]
        except NoNodeError:
            return frozenset()
        return frozenset(decode_departed(data))

    def leave(self, wait: Wait, node: str, incarnation: str, version: int = -1) -> None:
        """Delete the znode, and say so.  Raises what kazoo raises: BadVersionError also if somebody
        else has left meanwhile, NoNodeError if the znode has gone."""
        noted, departed = self._look(wait)
        request = TransactionRequest(self.client)
        request.delete(node, version)
        request.set_data(self.path, encode_departed([*departed, incarnation]), noted)
        raise_first(wait.result(request.commit_async()))

    def _look(self, wait: Wait) -> tuple[int, list[str]]:
        while True:
            try:
                data, stat = wait.result(self.client.get_async(self.path))
            except NoNodeError:
                self._make(wait)
            else:
                return int(stat.version), decode_departed(data)

    def _make(self, wait: Wait) -> None:
        try:
            asked = self.client.create_async(self.path, encode_departed([]), makepath=True)
            wait.result(asked)
        except NodeExistsError:
            return
