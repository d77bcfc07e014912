"""Random traces over a few hot paths, so that collisions and refusals are frequent.

In: a seed and the path that everything happens below.  Out: the same steps for the same
seed, whatever the path is.  These rules keep two servers comparable:

- A request that ends its connection, and one that ZooKeeper serves past its queue
  (auth), is a batch of its own.
- A session watches one path in one way only.  Before 3.9 (ZOOKEEPER-4466) a second
  way replaced the first, and zkpy follows 3.9.
- setWatches, and a watch by exists, ends its batch, since before 3.8.4 and 3.9.2 exists
  asked for no READ:
  where the two differ in that, the watch is taken away from both (known.py).  Events of
  setWatches that only ZooKeeper tells are looked into before anything else happens.
- So does setACL: until it is applied, ZooKeeper judges by the list before it.
- A trace with a quota has requests one by one, and no multi: ZooKeeper judges by what is
  applied, so that requests which come together can break a limit.
- Nothing is asked of the system znodes that would lock the next trace out.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from tests.differential.trace import Ask, Batch, Connect, Drop, How, Since, Step
from wire import records
from wire.codes import OpCode
from wire.jute import Record
from wire.records import ACL, OPEN_ACL
from zkpy.pipeline.auth import digest_id

SESSIONS: Final = 3
_LIMITS: Final = "/zookeeper_limits"
_STATS: Final = "/zookeeper_stats"
LIFETIME_MS: Final = 86_400_000
"""Of a TTL znode: none may end while a trace runs."""
CREDENTIALS: Final = (b"ann:one", b"bob:two", b"ann:two")
ANN: Final = digest_id(CREDENTIALS[0])
BOB: Final = digest_id(CREDENTIALS[1])

ONE_SHOT, PERSISTENT, RECURSIVE = range(3)

_NAMES: Final = (
    *(("a", "a/c", "a/c/d", "q", "e"), ("a", "b", "a/c", "b/x", "q"), ("a", "b", "c", "q", "t")),
    *(("a", "a/c", "a/c/d", "a/c/d/e", "q"), ("q", "q/a", "e", "e/x", "t")),
)
"""Below the root of a trace; what is behind a slash is made less often."""
_ODD: Final = (
    *("", "/", "x", "//", "/.", "/..", "{}/", "{}//a", "{}/./a", "{}/a/..", "{}/a/", "{}/..a"),
    *("{}/.a", "{}/a.", "{}/...", "{}/\x00", "{}/a\x01", "{}/\x1f", "{}/\x7f", "{}/\x85"),
    *("{}/\ue000", "{}/\uf8ff", "{}/\uf900", "{}/\uffef", "{}/\ufff0", "{}/\U0001f600"),
    *("{}/é", "{}/名", "{}/ ", "{}/a b", "{}/%s", "{}/b/../a", "{}x", "{}/" + "n" * 300),
    "{}/a" + "/y" * 120,
)
_SYSTEM: Final = ("/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/none", "/")
_DATA: Final = (None, b"", b"x", b"yy", b"a longer value", bytes(range(256)), b"z" * 2000)
_VERSIONS: Final = (-1, -1, -1, -1, 0, 0, 1, 1, 2, 3, 5, -2, -100, 2**31 - 1, -(2**31))
_FLAGS: Final = (*(0,) * 20, *(1,) * 10, *(2, 3) * 6, 4, 4, 5, 6, -1, 7, 8, 100, 2**31 - 1)
_TTLS: Final = (*(LIFETIME_MS,) * 30, 0, -1, -5, 2**40 - 1, 2**40, 2**63 - 1)

_SOUND_ACLS: Final = (
    *((ACL(31, "digest", ANN),), (ACL(31, "digest", BOB),), (ACL(31, "auth", ""),)),
    *((ACL(1, "world", "anyone"),), (ACL(30, "world", "anyone"),), (ACL(16, "world", "anyone"),)),
    *((ACL(31, "ip", "127.0.0.1"),), (ACL(31, "ip", "127.0.0.0/8"),)),
    (ACL(1, "world", "anyone"), ACL(31, "digest", ANN)),
    (ACL(5, "world", "anyone"), ACL(8, "ip", "127.0.0.1/32"), ACL(16, "digest", BOB)),
    (ACL(31, "world", "anyone"), ACL(31, "world", "anyone")),
    (ACL(31, "digest", ANN), ACL(1, "auth", "ignored"), ACL(31, "digest", ANN)),
)
_ODD_ACLS: Final[tuple[tuple[ACL, ...], ...]] = (
    (),
    *((ACL(31, "none", "such"),), (ACL(31, "world", "someone"),), (ACL(31, "digest", "ann"),)),
    *((ACL(31, "digest", "a:b:c"),), (ACL(31, "digest", ":"),), (ACL(31, "digest", "ann:"),)),
    *((ACL(31, "digest", ":x"),), (ACL(31, "digest", ""),), (ACL(31, "", ""),)),
    *((ACL(31, "ip", "300.1.1.1"),), (ACL(31, "ip", "127.0.0.1/33"),), (ACL(31, "ip", ""),)),
    *((ACL(31, "ip", "127.0.0.1/0"),), (ACL(31, "ip", "127.0.0"),)),
    *((ACL(31, "ip", "10.0.0.0/8"),), (ACL(31, "ip", "127.0.0.1/x"),)),
    *((ACL(0, "world", "anyone"),), (ACL(63, "world", "anyone"),), (ACL(-1, "digest", ANN),)),
    *((ACL(31, "super", "anyone"),), (ACL(31, "super", ""),)),
    (ACL(31, "world", "anyone"), ACL(31, "none", "such")),
)
_UNKNOWN: Final = (10, 23, 42, 99, 108, 500, 1000, -1, 2**31 - 1, 0)
"""Opcodes that end the connection, or that no client may send."""


def generate(seed: int, root: str, requests: int) -> list[Step]:
    """A trace of about that many requests below `root`, which its first request makes."""
    return Generator(seed, root).run(requests)


class Generator:
    def __init__(self, seed: int, root: str) -> None:
        self._dice = random.Random(seed)
        self._root = root
        self._steps: list[Step] = []
        self._count = 0
        self._connected = [False] * SESSIONS
        self._opened = [False] * SESSIONS
        self._closed = [False] * SESSIONS
        dice = self._dice
        self._hot = [root, *(f"{root}/{name}" for name in dice.choice(_NAMES))]
        self._quota = dice.random() < 0.3

    def run(self, requests: int) -> list[Step]:
        for session in range(SESSIONS):
            self._connect(session, How.FRESH)
        create = records.CreateRequest(self._root, b"", list(OPEN_ACL), 0)
        self._batch(0, Ask(OpCode.CREATE, create))
        if self._quota:
            self._set_quota()
        while self._count < requests:
            self._step()
        return self._steps

    def _set_quota(self) -> None:
        """Limits that are met now and then, and the znode that counts, made as zkCli does."""
        bytes_hard, count_hard = self._dice.choice(((3000, 9), (-1, 5), (2500, -1)))
        limits = f"count=3,bytes=9=;byteHardLimit={bytes_hard};countHardLimit={count_hard}"
        above = "/zookeeper/quota" + self._root
        for path, data in ((above, ""), (above + _LIMITS, limits), (above + _STATS, "count=0")):
            body = records.CreateRequest(path, data.encode(), list(OPEN_ACL), 0)
            self._batch(0, Ask(OpCode.CREATE, body))

    # --- steps ---

    def _step(self) -> None:
        session = self._dice.randrange(SESSIONS)
        if not self._connected[session]:
            self._reconnect(session)
        else:
            chance = self._dice.random()
            _STEPS[next(name for limit, name in _SHARES if chance < limit)](self, session)

    def _requests(self, session: int) -> None:
        count = 1 if self._quota else self._dice.choice((1, 1, 1, 2, 3, 4, 8))
        asks: list[Ask] = []
        while len(asks) < count and not (asks and _ends_batch(asks[-1])):
            asks.append(self._ask(session))
        self._batch(session, *asks)

    def _drop(self, session: int) -> None:
        self._steps.append(Drop(session))
        self._connected[session] = False

    def _take_over(self, session: int) -> None:
        self._connect(session, How.AGAIN)

    def _close(self, session: int) -> None:
        self._batch(session, Ask(OpCode.CLOSE_SESSION))
        self._connected[session] = False
        self._closed[session] = True
        self._opened[session] = self._dice.random() < 0.3  # then it tries to go on all the same

    def _last_words(self, session: int) -> None:
        """What the server answers by closing, or should."""
        opcode = self._dice.choice(_UNKNOWN)
        self._batch(session, Ask(opcode))
        self._connected[session] = False

    def _authenticate(self, session: int) -> None:
        dice = self._dice
        if dice.random() < 0.1:
            auth = dice.choice((("none", b"such"), ("", b""), ("world", b"anyone")))
            self._connected[session] = False
        else:
            auth = ("digest", dice.choice(CREDENTIALS))
            if dice.random() < 0.2:
                odd = (b"", b"nocolon", b":", b"a:", b"a:b:c", "é:ü".encode())
                auth = ("digest", dice.choice(odd))
            elif dice.random() < 0.1:
                auth = ("ip", dice.choice((b"", b"10.0.0.1")))
        self._batch(session, Ask(OpCode.AUTH, records.AuthPacket(0, *auth)))

    def _reconnect(self, session: int) -> None:
        if not self._opened[session]:
            self._connect(session, How.FRESH)
            return
        if self._dice.random() < 0.1:
            self._connect(session, How.FORGED)
            self._connected[session] = False
            return
        self._connect(session, How.AGAIN)
        if self._closed[session]:
            self._connected[session] = self._opened[session] = False
        elif self._dice.random() < 0.7:
            self._batch(session, self._set_watches(session))

    def _connect(self, session: int, how: How) -> None:
        self._steps.append(Connect(session, how))
        self._connected[session] = self._opened[session] = True
        if how is How.FRESH:
            self._closed[session] = False

    def _batch(self, session: int, *asks: Ask) -> None:
        self._steps.append(Batch(session, asks))
        self._count += len(asks)

    # --- requests ---

    def _ask(self, session: int) -> Ask:
        opcode = self._dice.choice(_OPCODES)
        while self._quota and opcode == OpCode.MULTI:
            opcode = self._dice.choice(_OPCODES)
        return Ask(opcode, _BODIES[opcode](self, session))

    def _create(self, session: int) -> Record:
        return records.CreateRequest(
            self._new_path(), self._data(), self._acl(), self._dice.choice(_FLAGS)
        )

    def _create_container(self, session: int) -> Record:
        """Not with an ephemeral's flags: ZooKeeper takes it for one until it is applied."""
        flags = self._dice.choice((*(4,) * 60, *(each for each in _FLAGS if each not in (1, 3))))
        return records.CreateRequest(self._new_path(), self._data(), self._acl(), flags)

    def _create_ttl(self, session: int) -> Record:
        """Never flags without a TTL and a negative TTL: ZooKeeper dies of that, for good."""
        flags = self._dice.choice((*(5, 6) * 50, *_FLAGS))
        ttl = self._dice.choice(_TTLS) if flags in (5, 6) else self._dice.choice((0, 1, 1000))
        return records.CreateTTLRequest(self._new_path(), self._data(), self._acl(), flags, ttl)

    def _delete(self, session: int) -> Record:
        return records.DeleteRequest(self._path(), self._version())

    def _set_data(self, session: int) -> Record:
        path = self._path()
        if path in _SYSTEM:
            return records.SetDataRequest(path, b"", 77)
        return records.SetDataRequest(path, self._data(), self._version())

    def _set_acl(self, session: int) -> Record:
        path = self._path()
        if not path.startswith(self._root):
            return records.SetACLRequest(path, self._acl(), 77)
        return records.SetACLRequest(path, self._acl(), self._version())

    def _check(self, session: int) -> Record:
        return records.CheckVersionRequest(self._path(), self._version())

    def _exists(self, session: int) -> Record:
        return records.ExistsRequest(*self._watched(session))

    def _get_data(self, session: int) -> Record:
        return records.GetDataRequest(*self._watched(session))

    def _get_children(self, session: int) -> Record:
        return records.GetChildrenRequest(*self._watched(session))

    def _get_children2(self, session: int) -> Record:
        return records.GetChildren2Request(*self._watched(session))

    def _get_acl(self, session: int) -> Record:
        return records.GetACLRequest(self._path_to_read())

    def _sync(self, session: int) -> Record:
        """Sends the path back; what lies outside the BMP comes garbled from ZooKeeper."""
        return records.SyncRequest(self._path().replace("\U0001f600", ""))

    def _get_ephemerals(self, session: int) -> Record:
        prefix = self._dice.choice((self._root, self._root + "/", self._path(), "", "/", " "))
        return records.GetEphemeralsRequest(prefix)

    def _count_children(self, session: int) -> Record:
        return records.GetAllChildrenNumberRequest(self._path_to_read())

    def _add_watch(self, session: int) -> Record:
        path = self._path()
        mode = self._way(session, path) - 1
        if mode < 0 or self._dice.random() < 0.02:
            return records.AddWatchRequest(path, self._dice.choice((2, -1, 7)))
        return records.AddWatchRequest(path, mode)

    def _remove_watches(self, session: int) -> Record:
        return records.RemoveWatchesRequest(*self._watcher_type(session))

    def _check_watches(self, session: int) -> Record:
        return records.CheckWatchesRequest(*self._watcher_type(session))

    def _watcher_type(self, session: int) -> tuple[str, int]:
        """Before 3.9 there were no types 4 and 5, and 1 and 2 took persistent watches, too."""
        path = self._path()
        path = path if path.startswith("/") else "/x"  # ZooKeeper 3.8 stumbles over others
        types = (3, 3, 3, 0, 6, -1)
        return path, self._dice.choice(types if self._way(session, path) else (1, 2, *types))

    def _set_watches(self, session: int) -> Ask:
        """What a client sends when it is back; with paths that it never watched, too."""
        dice = self._dice
        ways: tuple[list[str], list[str], list[str]] = ([], [], [])
        for path in dice.sample(self._hot, 4):
            ways[self._way(session, path)].append(path)
        thrown: tuple[list[str], list[str], list[str]] = ([], [], [])
        for path in ways[ONE_SHOT]:
            dice.choice(thrown).append(path)
        since = dice.choice((Since.EVER, Since.CONNECT, Since.CONNECT, Since.NOW))
        if dice.random() < 0.5:
            return Ask(OpCode.SET_WATCHES, records.SetWatches(since, *thrown))
        body = records.SetWatches2(since, *thrown, ways[PERSISTENT], ways[RECURSIVE])
        return Ask(OpCode.SET_WATCHES2, body)

    def _set_watches_body(self, session: int) -> Record:
        thrown: tuple[list[str], list[str], list[str]] = ([], [], [])
        for path in self._dice.sample(self._hot, 3):
            if self._way(session, path) == ONE_SHOT:
                self._dice.choice(thrown).append(path)
        return records.SetWatches(self._dice.choice(list(Since)), *thrown)

    def _multi(self, session: int) -> Record:
        dice = self._dice
        table: Sequence[int] = _IN_MULTI if dice.random() < 0.97 else (*_IN_MULTI, *_IN_MULTI_READ)
        return self._several(session, table, dice.choice((0, 1, 1, 2, 2, 2, 3, 4, 6)))

    def _multi_read(self, session: int) -> Record:
        dice = self._dice
        table: Sequence[int] = _IN_MULTI_READ
        if dice.random() < 0.03:
            table = (*_IN_MULTI, *_IN_MULTI_READ)
        return self._several(session, table, dice.choice((0, 1, 2, 3, 5)))

    def _several(self, session: int, table: Sequence[int], count: int) -> Record:
        opcodes = [self._dice.choice(table) for _ in range(count)]
        return records.MultiRequest(
            [(each, _fitting(each, _BODIES[each](self, session))) for each in opcodes]
        )

    def _nothing(self, session: int) -> None:
        return None

    # --- parts ---

    def _path(self) -> str:
        dice = self._dice
        chance = dice.random()
        if chance < 0.80:
            return dice.choice(self._hot)
        if chance < 0.90:
            prefix = dice.choice(("q", "q/", "q/s-", "a/", "e"))
            return f"{self._root}/{prefix}{dice.choice((0, 0, 1, 1, 2, 3, 5, 8)):010d}"
        if chance < 0.93:
            return dice.choice(_SYSTEM)
        return dice.choice(_ODD).format(self._root)

    def _new_path(self) -> str:
        if self._dice.random() < 0.3:
            return f"{self._root}/{self._dice.choice(('q', 'q/', 'q/s-', 'a/', 'e', ''))}"
        return self._path()

    def _path_to_read(self) -> str:
        """The empty path is the root to ZooKeeper's reads, to no write and to no client."""
        if self._quota and self._dice.random() < 0.15:
            above = "/zookeeper/quota" + self._root
            return self._dice.choice((above, above + _LIMITS, above + _STATS, above + _STATS))
        return self._path() or "x"

    def _watched(self, session: int) -> tuple[str, bool]:
        path = self._path_to_read()
        one_shot = self._way(session, path) == ONE_SHOT
        return path, one_shot and self._dice.random() < 0.5

    def _way(self, session: int, path: str) -> int:
        """The one way in which this session watches this path."""
        below = path.replace(self._root, "")
        return zlib.crc32(f"{session} {below}".encode()) % 3

    def _data(self) -> bytes | None:
        return self._dice.choice(_DATA)

    def _version(self) -> int:
        return self._dice.choice(_VERSIONS)

    def _acl(self) -> list[ACL]:
        chance = self._dice.random()
        if chance < 0.75:
            return list(OPEN_ACL)
        return list(self._dice.choice(_SOUND_ACLS if chance < 0.95 else _ODD_ACLS))


def _ends_batch(ask: Ask) -> bool:
    watches = isinstance(ask.body, records.ExistsRequest) and ask.body.watch
    return watches or ask.opcode in (OpCode.SET_WATCHES, OpCode.SET_ACL)


def _fitting(opcode: int, body: Record | None) -> Record:
    """In a multi ZooKeeper goes by the flags, elsewhere by the opcode: let them agree."""
    assert body is not None
    if opcode == OpCode.CREATE_CONTAINER:
        return attrs.evolve(body, flags=4)  # type: ignore[misc]
    if isinstance(body, records.CreateTTLRequest) and body.flags not in (5, 6):
        return attrs.evolve(body, flags=5)  # type: ignore[misc]
    if isinstance(body, records.CreateRequest) and body.flags in (4, 5, 6):
        return attrs.evolve(body, flags=0)  # type: ignore[misc]
    return body


_SHARES: Final = (
    (0.90, "requests"),
    (0.945, "authenticate"),
    (0.975, "drop"),
    (0.980, "take over"),
    (0.990, "close"),
    (1.0, "last words"),
)
_STEPS: Final[dict[str, Callable[[Generator, int], None]]] = {
    "requests": Generator._requests,
    "authenticate": Generator._authenticate,
    "drop": Generator._drop,
    "take over": Generator._take_over,
    "close": Generator._close,
    "last words": Generator._last_words,
}
_BODIES: Final[dict[int, Callable[[Generator, int], Record | None]]] = {
    OpCode.CREATE: Generator._create,
    OpCode.CREATE2: Generator._create,
    OpCode.CREATE_CONTAINER: Generator._create_container,
    OpCode.CREATE_TTL: Generator._create_ttl,
    OpCode.DELETE: Generator._delete,
    OpCode.SET_DATA: Generator._set_data,
    OpCode.SET_ACL: Generator._set_acl,
    OpCode.CHECK: Generator._check,
    OpCode.EXISTS: Generator._exists,
    OpCode.GET_DATA: Generator._get_data,
    OpCode.GET_CHILDREN: Generator._get_children,
    OpCode.GET_CHILDREN2: Generator._get_children2,
    OpCode.GET_ACL: Generator._get_acl,
    OpCode.SYNC: Generator._sync,
    OpCode.GET_EPHEMERALS: Generator._get_ephemerals,
    OpCode.GET_ALL_CHILDREN_NUMBER: Generator._count_children,
    OpCode.ADD_WATCH: Generator._add_watch,
    OpCode.REMOVE_WATCHES: Generator._remove_watches,
    OpCode.CHECK_WATCHES: Generator._check_watches,
    OpCode.SET_WATCHES: Generator._set_watches_body,
    OpCode.MULTI: Generator._multi,
    OpCode.MULTI_READ: Generator._multi_read,
    OpCode.WHO_AM_I: Generator._nothing,
    OpCode.PING: Generator._nothing,
}
_IN_MULTI: Final = (
    *(OpCode.CREATE, OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL),
    *(OpCode.DELETE, OpCode.DELETE, OpCode.SET_DATA, OpCode.SET_DATA, OpCode.CHECK),
)
_IN_MULTI_READ: Final = (OpCode.GET_DATA, OpCode.GET_CHILDREN)
_WEIGHTS: Final = {
    OpCode.CREATE: 15,
    OpCode.CREATE2: 12,
    OpCode.CREATE_CONTAINER: 6,
    OpCode.CREATE_TTL: 5,
    OpCode.DELETE: 8,
    OpCode.SET_DATA: 10,
    OpCode.SET_ACL: 4,
    OpCode.MULTI: 10,
    OpCode.EXISTS: 6,
    OpCode.GET_DATA: 6,
    OpCode.GET_CHILDREN: 3,
    OpCode.GET_CHILDREN2: 4,
    OpCode.GET_ACL: 3,
    OpCode.MULTI_READ: 3,
    OpCode.SYNC: 2,
    OpCode.GET_EPHEMERALS: 2,
    OpCode.GET_ALL_CHILDREN_NUMBER: 2,
    OpCode.ADD_WATCH: 5,
    OpCode.REMOVE_WATCHES: 2,
    OpCode.CHECK_WATCHES: 2,
    OpCode.SET_WATCHES: 1,
    OpCode.WHO_AM_I: 1,
    OpCode.PING: 1,
}
_OPCODES: Final = [int(opcode) for opcode, weight in _WEIGHTS.items() for _ in range(weight)]
