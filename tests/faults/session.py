"""One recorded run: an ensemble, clients at work on it, and in the end the verdict.

    session = Session(cluster, seed, clients)
    await session.begin()          # serves, the workload's znodes are there, clients work
    ...                            # faults
    await session.until_written()  # a write begun now is acknowledged
    verdict = await session.finish()

`finish` heals nothing: it expects members that can be well.  The clients leave, their
sessions end, the members come to the same zxid and are stopped; then what clients saw is
held against what is on the disks.  Violation says what must not be.
"""

import random
from collections.abc import Callable
from typing import Final

import attrs

from tests.faults import record
from tests.faults.cluster import Cluster, TooLate, until
from tests.faults.live import LiveNetwork, LiveWorld
from wire import records
from wire.codes import CreateMode, OpCode
from wire.records import OPEN_ACL
from zkpy.testing import histories
from zkpy.testing.histories import Connection, History, Op, Summary, linearizable, register_ops
from zkpy.testing.workload import REGISTER, SETUP, Client, Mix, draw_mix
from zkpy.testing.world import Violation

WRITTEN_S: Final = 15.0
"""From the end of a fault, the start of processes included, until a new write is acknowledged."""
SESSIONS_S: Final = 60.0
REGISTER_OPS_MAX: Final = 60
"""Of a history that the search without zxids can be asked about."""


@attrs.define
class Verdict:
    summary: Summary
    digest: int
    """Of the tree that all members' logs make."""
    sessions: int
    connections: int
    searched: bool
    """Whether the search without zxids looked at the register too."""


class Session:
    bound_s = WRITTEN_S

    def __init__(
        self, cluster: Cluster, seed: int, clients: int, timeout_ms: int, mix: Mix | None = None
    ) -> None:
        self.cluster = cluster
        self.world = LiveWorld(seed)
        self.connections: list[Connection] = []
        network = LiveNetwork(self.world, cluster.client_ports)
        rng = random.Random(f"{seed} mixes")
        mixes = [mix or draw_mix(rng, timeout_ms) for _ in range(clients)]
        mixes.append(Mix({"set": 1}, timeout_ms=5 * timeout_ms))
        self.clients = [
            Client(i, self.world, network, list(cluster.members), each, self.connections.append)
            for i, each in enumerate(mixes, start=1)
        ]
        self._probe = self.clients.pop()
        self._probe.asks = False

    async def begin(self) -> None:
        self.world.enter(self._probe.start)
        await self._until("a first session", lambda: self._probe.server is not None, self.bound_s)
        for path in SETUP:
            body = records.CreateRequest(path, b"", list(OPEN_ACL), CreateMode.PERSISTENT)
            self.world.enter(self._probe.request, OpCode.CREATE, body)
        await self.until_written()
        for client in self.clients:
            self.world.enter(client.start)

    async def until_written(self) -> float:
        """Seconds until a write that begins now, or later, is acknowledged."""
        asked: list[Op] = []

        def written() -> bool:
            if any(op.is_known and not op.error for op in asked):
                return True
            if self._probe.server is not None and not self._probe.is_busy:
                self.world.enter(ask)
            return False

        def ask() -> None:
            body = records.SetDataRequest(REGISTER, self._probe.value(), -1)
            op = self._probe.request(OpCode.SET_DATA, body)
            if op is not None:
                asked.append(op)

        return await self._until("a write is acknowledged", written, self.bound_s)

    async def _until(self, what: str, holds: Callable[[], object], limit_s: float) -> float:
        def look() -> bool:
            if self.world.violation is not None:
                raise self.world.violation
            died = self.cluster.died()
            if died:
                raise Violation("A14", f"servers {died} ended by themselves")
            return bool(holds())

        try:
            return await until(what, look, limit_s)
        except TooLate as why:
            raise Violation("A14", str(why)) from None

    async def until_all_serve(self) -> float:
        try:
            return await self.cluster.until_all_serve()
        except TooLate as why:
            raise Violation("A14", str(why)) from None

    async def finish(self) -> Verdict:
        for client in (*self.clients, self._probe):
            self.world.enter(client.stop)
        if self.world.violation is not None:
            raise self.world.violation
        await self._settle()
        for sid in self.cluster.members:
            code = await self.cluster.end(sid)
            if code:
                raise Violation("A14", f"server {sid} ended with code {code} when it was stopped")
        return self._judge()

    async def _settle(self) -> None:
        """Sessions and their ephemerals go, then nothing is left to do."""

        async def gone() -> bool:
            shown = [await self.cluster.ask(sid, "mntr") for sid in self.cluster.members]
            return all("zk_global_sessions\t0\n" in each for each in shown)

        try:
            await until("sessions of clients that left end", gone, SESSIONS_S)
            await self.cluster.until_all_equal()
        except TooLate as why:
            raise Violation("A14", str(why)) from None

    def _judge(self) -> Verdict:
        logs = {sid: record.read_log(each.data) for sid, each in self.cluster.members.items()}
        lasts = {record.find_last(log) for log in logs.values()}
        if len(lasts) != 1:
            raise Violation("A3", f"logs end at {sorted(map(hex, lasts))}")
        entries, digests = record.merge(logs)
        commits, digest = record.replay(entries, digests)
        history = History(self.connections, commits)
        summary = histories.check(history)
        if summary.model.sessions:
            raise Violation("C10", f"sessions stay: {summary.model.sessions}")
        return Verdict(
            summary,
            digest,
            len(histories.sessions_of(history)),
            len(self.connections),
            _search(history),
        )


def _search(history: History) -> bool:
    ops = register_ops(history, REGISTER)
    if not 0 < len(ops) <= REGISTER_OPS_MAX:
        return False
    if not linearizable(ops, (b"", 0)):
        raise Violation("C1", f"{REGISTER}: no order of its {len(ops)} operations explains them")
    return True
