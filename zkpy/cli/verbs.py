"""The commands of `zkpy shell`: one table, each a function of a kazoo client and its arguments.

Names and options are those of ZooKeeper's zkCli.sh, where it has the command; its
older names are aliases.  What is printed is for people: one name per line, znodes and
times in words.
"""

import argparse
import base64
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError
from kazoo.protocol.states import WatchedEvent, ZnodeStat
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id

from wire.codes import WatchMode
from zkpy import membership
from zkpy.cli import arguments as takes
from zkpy.cli import requests
from zkpy.cli.arguments import ANY_VERSION, QUOTA, Arguments, Parser, UsageError
from zkpy.cli.context import Context, Leave, Redo, join, walk
from zkpy.cli.quotas import delete_quota, list_quota, set_quota
from zkpy.cli.shown import dump_hex, quote_data, quote_lines, show_session, show_time

PERMS: Final = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}
CONFIG: Final = "/zookeeper/config"
INDELIBLE: Final = frozenset({"/", "/zookeeper", CONFIG, QUOTA})
HISTORY_SHOWN: Final = 11


@attrs.define(frozen=True)
class Verb:
    name: str
    about: str
    run: Callable[[Context, Arguments], None]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    aliases: tuple[str, ...] = ()

    def parse(self, words: list[str]) -> Arguments:
        """UsageError for anything that is not to be understood, HelpAsked for -h."""
        return self.parser().parse_args(words)

    def parser(self) -> argparse.ArgumentParser:
        parser = Parser(prog=self.name, description=self.about)
        self.add_arguments(parser)
        return parser


# --- reading ------------------------------------------------------------------------


def list_children(context: Context, given: Arguments) -> None:
    if given.R:
        if given.s:
            raise UsageError("-s cannot be used with -R")
        for path in walk(context.client, given.path, _watcher(context, given)):
            context.tell(quote_data(path))
        return
    names, stat = context.client.get_children(
        given.path, watch=_watcher(context, given), include_data=True
    )
    for name in sorted(names):
        context.tell(quote_data(name))
    if given.s:
        context.tell(show_stat(stat))


def draw_tree(context: Context, given: Arguments) -> None:
    if context.client.exists(given.path) is None:
        raise NoNodeError
    context.tell(given.path)
    for line in _branches(context.client, given.path, "", given.depth):
        context.tell(line)


def _branches(client: KazooClient, path: str, indent: str, depth: int) -> Iterator[str]:
    if not depth:
        return
    try:
        names = sorted(client.get_children(path))
    except NoNodeError:
        return
    for number, name in enumerate(names, 1):
        last = number == len(names)
        yield f"{indent}{'└── ' if last else '├── '}{quote_data(name)}"
        below = indent + ("    " if last else "│   ")
        yield from _branches(client, join(path, name), below, depth - 1)


def get_data(context: Context, given: Arguments) -> None:
    data, stat = context.client.get(given.path, watch=_watcher(context, given))
    context.tell(_as_wanted(data, given))
    if given.s:
        context.tell(show_stat(stat))


def _as_wanted(data: bytes, given: Arguments) -> str | bytes:
    if given.raw:
        return data
    if given.x:  # as in zkCli.sh, it goes before -b
        return dump_hex(data)
    return base64.b64encode(data).decode() if given.b else quote_data(data)


def show_znode(context: Context, given: Arguments) -> None:
    stat = context.client.exists(given.path, watch=_watcher(context, given))
    if stat is None:
        raise NoNodeError
    context.tell(show_stat(stat))


def show_stat(stat: ZnodeStat) -> str:
    lines = {
        "cZxid": f"{stat.czxid:#x}",
        "ctime": show_time(stat.ctime),
        "mZxid": f"{stat.mzxid:#x}",
        "mtime": show_time(stat.mtime),
        "pZxid": f"{stat.pzxid:#x}",
        "cversion": stat.cversion,
        "dataVersion": stat.version,
        "aclVersion": stat.aversion,
        "ephemeralOwner": show_session(stat.ephemeralOwner),
        "dataLength": stat.dataLength,
        "numChildren": stat.numChildren,
    }
    return "\n".join(f"{name} = {value}" for name, value in lines.items())


def count_all(context: Context, given: Arguments) -> None:
    context.tell(str(requests.count_descendants(context.client, given.path)))


def list_ephemerals(context: Context, given: Arguments) -> None:
    for path in requests.find_ephemerals(context.client, given.path):
        context.tell(path)


def show_config(context: Context, given: Arguments) -> None:
    data, stat = context.client.get(CONFIG, watch=_watcher(context, given))
    context.tell(connect_string(data.decode()) if given.c else quote_lines(data))
    if given.s:
        context.tell(show_stat(stat))


def connect_string(text: str) -> str:
    """Version, and where clients connect: what a client needs of a configuration."""
    servers = membership.parse_configuration(text).servers.values()
    hosts = [
        f"{spec.client.host or spec.addresses[0].host}:{spec.client.port}"
        for spec in servers
        if spec.client is not None
    ]
    return f"{membership.version_in(text):x} {','.join(hosts)}"


def show_version(context: Context, given: Arguments) -> None:
    """Of the server; it has to answer the word envi for that."""
    context.tell(".".join(map(str, context.client.server_version())))


def synchronise(context: Context, given: Arguments) -> None:
    context.client.sync(given.path)


def reconfig(context: Context, given: Arguments) -> None:
    """Membership as a whole, or step by step; the new configuration is the answer."""
    whole = read_members(given.file) if given.file else join_lines([given.members])
    if bool(whole) == bool(given.add or given.remove):
        raise UsageError("either -members or -file, or -add and -remove, say what is to change")
    try:
        version = int(given.v, 16) if given.v else ANY_VERSION
    except ValueError:
        version = 1 << 63
    if not -1 <= version < 1 << 63:
        raise UsageError(f"-v {given.v}: a version in hexadecimal is needed")
    data, stat = context.client.reconfig(
        join_lines(given.add) or None,
        ",".join(given.remove) or None,
        whole or None,
        version,
    )
    context.tell(f"Committed new configuration:\n{quote_lines(data)}")
    if given.s:
        context.tell(show_stat(stat))


def read_members(path: str) -> str:
    """The lines of a file as a request has them: of a zoo.cfg, its server lines may be copied."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as why:
        raise UsageError(f"{path}: cannot be read ({why.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text in UTF-8; server.N lines are needed") from None
    lines = map(str.strip, text.splitlines())
    return ",".join(line for line in lines if line and not line.startswith("#"))


def join_lines(servers: Iterable[str]) -> str:
    """`server.N=...` or `N=...`, as they stand in a request."""
    lines = [each.strip() for text in servers for each in text.split(",") if each.strip()]
    return ",".join(f"server.{line}" if line[0].isdigit() else line for line in lines)


# --- writing ------------------------------------------------------------------------


def set_data(context: Context, given: Arguments) -> None:
    data = decode_base64(given.data) if given.b else encode(given.data)
    stat = context.client.set(given.path, data, version=given.v)
    if given.s:
        context.tell(show_stat(stat))


def encode(text: str) -> bytes:
    """What was typed, also where that was not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as why:
        raise UsageError(f"-b {text}: base64 is needed ({why})") from None


def create(context: Context, given: Arguments) -> None:
    """Exactly one of the kinds: ephemeral, container, with a time to live, or none of them."""
    client, data = context.client, encode(given.data)
    acl = parse_acl(given.acl) if given.acl else OPEN_ACL_UNSAFE
    if given.c:
        if given.e or given.s or given.t is not None:
            raise UsageError("-c cannot be used with -e, -s or -t")
        path = requests.create_container(client, given.path, data, acl)
    elif given.t is not None:
        if given.e:
            raise UsageError("-t cannot be used with -e: an ephemeral ends with its session")
        path = requests.create_ttl(client, given.path, data, acl, given.t, given.s)
    else:
        path = client.create(given.path, data, acl=acl, ephemeral=given.e, sequence=given.s)
    context.tell(f"Created {path}")


def delete(context: Context, given: Arguments) -> None:
    context.client.delete(given.path, version=given.v)


def delete_all(context: Context, given: Arguments) -> None:
    """Children first, some at a time; what others remove meanwhile is no error.

    What the server would refuse at the very end is refused before anything is gone.
    """
    full = f"{context.client.chroot}{given.path}".rstrip("/") or "/"
    if full in INDELIBLE:
        raise UsageError(f"{full} cannot be deleted; nothing was (name what is below it)")
    paths = list(walk(context.client, given.path))[::-1]
    for at in range(0, len(paths), given.b):
        for result in [context.client.delete_async(path) for path in paths[at : at + given.b]]:
            with contextlib.suppress(NoNodeError):
                result.get()


# --- watching -----------------------------------------------------------------------


def _watcher(context: Context, given: Arguments) -> Callable[[WatchedEvent], None] | None:
    """For -w: one event, told whenever it comes."""
    return context.on_event if given.w else None


def add_watch(context: Context, given: Arguments) -> None:
    context.watches.add(given.path, WatchMode[given.mode])


def remove_watches(context: Context, given: Arguments) -> None:
    context.watches.remove(given.path, given.kind, given.l)


def print_watches(context: Context, given: Arguments) -> None:
    if given.wanted is None:
        context.tell(f"printwatches is {'on' if context.tells_watches else 'off'}")
    else:
        context.tells_watches = given.wanted == "on"


def watch(context: Context, given: Arguments) -> None:
    """Every change of a znode and its children, until Ctrl-C."""
    told = _Told(context.tell, given.path)
    changed = threading.Event()  # of this command: one that ended hears of nothing more
    try:
        while True:
            changed.clear()
            try:
                told.tell_news(*_look(context.client, given.path, lambda event: changed.set()))
            except (ConnectionLoss, SessionExpiredError):
                told.tell_loss()
            else:
                changed.wait()
    except KeyboardInterrupt:
        return


def _look(
    client: KazooClient, path: str, on_event: Callable[[WatchedEvent], None]
) -> tuple[list[str], bytes, ZnodeStat | None]:
    """Children, data and Stat, with watches on all that can follow; no Stat: no znode."""
    while True:
        try:
            names = client.get_children(path, watch=on_event)
            return (names, *client.get(path, watch=on_event))
        except NoNodeError:
            if client.exists(path, watch=on_event) is None:
                return [], b"", None


@attrs.define
class _Told:
    """What `watch` has told, and so what is news."""

    tell: Callable[[str], None]
    path: str
    mzxid: int | None = None
    """0: that there is no such znode."""
    names: set[str] = attrs.Factory(set)
    lost: bool = False

    def tell_news(self, names: list[str], data: bytes, stat: ZnodeStat | None) -> None:
        self.lost = False
        mzxid = 0 if stat is None else stat.mzxid
        if mzxid != self.mzxid:
            self.tell(self._show(data, stat))
        for name in sorted(set(names) - self.names):
            self.tell(f"+ {join(self.path, name)}")
        for name in sorted(self.names - set(names)):
            self.tell(f"- {join(self.path, name)}")
        self.mzxid, self.names = mzxid, set(names)

    def _show(self, data: bytes, stat: ZnodeStat | None) -> str:
        if stat is None:
            return f"{self.path} does not exist"
        return f"{self.path} version {stat.version}: {quote_data(data)}"

    def tell_loss(self) -> None:
        """Once, however often it is tried again."""
        if not self.lost:
            self.tell("the connection was lost; waiting for another")
        self.lost = True


# --- ACLs ---------------------------------------------------------------------------


def parse_acl(text: str) -> list[ACL]:
    """`scheme:id:perms`, comma-separated; the id may hold colons."""
    return [_parse_entry(entry) for entry in text.split(",")]


def _parse_entry(entry: str) -> ACL:
    scheme, colon, rest = entry.partition(":")
    name, last, perms = rest.rpartition(":")
    if not colon or not last or not perms or set(perms) - set(PERMS):
        raise UsageError(f"{entry}: scheme:id:perms is needed, perms out of cdrwa")
    return ACL(sum(PERMS[each] for each in set(perms)), Id(scheme, name))


def show_acl(acl: Iterable[ACL]) -> str:
    return ",".join(
        f"{each.id.scheme}:{each.id.id}:" + "".join(p for p in "cdrwa" if each.perms & PERMS[p])
        for each in acl
    )


def get_acl(context: Context, given: Arguments) -> None:
    acl, stat = context.client.get_acls(given.path)
    for each in acl:
        context.tell(show_acl([each]))
    if given.s:
        context.tell(show_stat(stat))


def set_acl(context: Context, given: Arguments) -> None:
    acl = parse_acl(given.acl)
    paths = walk(context.client, given.path) if given.R else [given.path]
    stats = [context.client.set_acls(path, acl, version=given.v) for path in paths]
    if given.s:
        context.tell(show_stat(stats[0]))


def acl(context: Context, given: Arguments) -> None:
    if given.acl is None:
        get_acl(context, given)
    else:
        set_acl(context, given)


def add_auth(context: Context, given: Arguments) -> None:
    context.link.add_auth(given.scheme, given.auth)


def who_am_i(context: Context, given: Arguments) -> None:
    for scheme, user in requests.who_am_i(context.client):
        context.tell(f"{scheme}: {user}")


# --- the connection and the prompt --------------------------------------------------


def connect(context: Context, given: Arguments) -> None:
    context.link.connect(given.server)


def close(context: Context, given: Arguments) -> None:
    """The session ends, the shell stays."""
    context.link.close()


def leave(context: Context, given: Arguments) -> None:
    raise Leave


def show_history(context: Context, given: Arguments) -> None:
    """The last lines, this one among them, with the numbers that redo takes."""
    lines = list(enumerate(context.history))
    for number, line in lines[-HISTORY_SHOWN:]:
        context.tell(f"{number} - {line}")


def redo(context: Context, given: Arguments) -> None:
    """A line of the history; a redo would repeat itself for ever."""
    if not 0 <= given.number < len(context.history):
        raise UsageError(f"{given.number}: there is no such command (history)")
    line = context.history[given.number]
    if line.split()[0].lower() == "redo":
        raise UsageError(f"{line}: a redo is not done again")
    raise Redo(line)


# --- the table ----------------------------------------------------------------------

VERBS: Final = (
    Verb("ls", "List the children of a znode.", list_children, takes.ls, ("ls2",)),
    Verb("tree", "Draw what is below a znode.", draw_tree, takes.tree),
    Verb("get", "Show the data of a znode.", get_data, takes.get_data),
    Verb("stat", "Show the Stat of a znode.", show_znode, takes.stat, ("exists",)),
    Verb("set", "Replace the data of a znode.", set_data, takes.set_data),
    Verb("create", "Create a znode.", create, takes.create),
    Verb("delete", "Delete a znode that has no children.", delete, takes.delete, ("rm",)),
    Verb("deleteall", "Delete a znode and all below it.", delete_all, takes.delete_all, ("rmr",)),
    Verb("watch", "Tell of every change of a znode and its children.", watch, takes.path),
    Verb("addWatch", "Tell of all changes from now on.", add_watch, takes.add_watch),
    Verb("removewatches", "Remove watches of a znode.", remove_watches, takes.remove_watches),
    Verb("printwatches", "Whether watches are told of.", print_watches, takes.print_watches),
    Verb("acl", "Show the ACL of a znode, or set it.", acl, takes.acl),
    Verb("getAcl", "Show the ACL of a znode.", get_acl, takes.get_acl),
    Verb("setAcl", "Set the ACL of a znode.", set_acl, takes.set_acl),
    Verb("addauth", "Authenticate this connection.", add_auth, takes.add_auth),
    Verb("whoami", "Show who this connection is authenticated as.", who_am_i, takes.nothing),
    Verb("quota", "Show the quota of a znode.", list_quota, takes.quota_path, ("listquota",)),
    Verb("setquota", "Set limits on what is at and below a znode.", set_quota, takes.set_quota),
    Verb("delquota", "Remove limits, or the quota.", delete_quota, takes.delete_quota),
    Verb("config", "Show who the ensemble is.", show_config, takes.config),
    Verb("reconfig", "Change who the ensemble is.", reconfig, takes.reconfig),
    Verb("version", "Show the server's version.", show_version, takes.nothing),
    Verb("sync", "Wait until this server has seen all writes.", synchronise, takes.root_path),
    Verb(
        "getAllChildrenNumber",
        "Count what is below a znode.",
        count_all,
        takes.root_path,
        ("count",),
    ),
    Verb("getEphemerals", "List the ephemerals of this session.", list_ephemerals, takes.root_path),
    Verb("history", "Show the last commands.", show_history, takes.nothing),
    Verb("redo", "Carry out a command of the history again.", redo, takes.redo),
    Verb("connect", "Leave this server for another.", connect, takes.connect),
    Verb("close", "Close the connection.", close, takes.nothing),
    Verb("quit", "Leave.", leave, takes.nothing, ("exit",)),
)
BY_NAME: Final[dict[str, Verb]] = {
    name.lower(): verb for verb in VERBS for name in (verb.name, *verb.aliases)
}
"""In any case of letters: zkCli.sh itself has changed its mind about some."""
