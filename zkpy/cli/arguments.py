"""What the commands of `zkpy shell` take: one function per command, which tells its parser.

A word that a command cannot take is a UsageError, `-h` is HelpAsked.
"""

import argparse
from typing import Any, Final, NoReturn

from wire.codes import WatcherType, WatchMode
from zkpy.state.lifetimes import TTL_MS_MAX

QUOTA: Final = "/zookeeper/quota"
ANY_VERSION: Final = -1
BATCH: Final = 1000
"""Deletes under way at a time, of deleteall."""
Arguments = argparse.Namespace


class UsageError(Exception):
    """The command was not called as it wants to be; the message says how."""


class HelpAsked(Exception):
    """-h: the message is the help."""


class Parser(argparse.ArgumentParser):
    """Raises where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}")

    def print_help(self, file: Any = None) -> None:
        raise HelpAsked(self.format_help().strip())


def path(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    if default is None:
        parser.add_argument("path", type=parse_path)
    else:
        parser.add_argument("path", type=parse_path, nargs="?", default=default)


def quota_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=parse_quota_path)


def parse_quota_path(text: str) -> str:
    """zkCli.sh has none there either; the root's would be the znodes of no quota at all."""
    path = parse_path(text)
    if path == "/" or f"{path}/".startswith(f"{QUOTA}/"):
        raise argparse.ArgumentTypeError(f"{path}: no quota can be there")
    return path


def parse_path(text: str) -> str:
    return parse_new_path(text).rstrip("/") or "/"


def parse_new_path(text: str) -> str:
    """A / at the end has a meaning: a sequential znode with no name but its number."""
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text}: a path begins with /")
    return text


def _flag(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    parser.add_argument(name, action="store_true", help=about)


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", type=_int32, default=ANY_VERSION, metavar="VERSION", help="expected")


def _int32(text: str) -> int:
    number = _int(text)
    if not -(1 << 31) <= number < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text}: a number of 32 bits is needed")
    return number


def _positive(text: str) -> int:
    number = _int(text)
    if not 0 < number < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text}: it must be greater than zero")
    return number


def _ttl(text: str) -> int:
    number = _int(text)
    if not 0 < number <= TTL_MS_MAX:
        raise argparse.ArgumentTypeError(f"ttl must be positive and not above {TTL_MS_MAX}")
    return number


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: a number is needed") from None


def _stat_and_watch(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-s", "show its Stat too")
    _flag(parser, "-w", "tell of the next change")


def ls(parser: argparse.ArgumentParser) -> None:
    _stat_and_watch(parser)
    _flag(parser, "-R", "all below it, not its children alone")
    path(parser, "/")


def tree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--depth", type=int, default=-1, help="levels to show")
    path(parser, "/")


def get_data(parser: argparse.ArgumentParser) -> None:
    _stat_and_watch(parser)
    _flag(parser, "-b", "in base64")
    _flag(parser, "-x", "as a hex dump")
    _flag(parser, "--raw", "the bytes as they are, without a newline after them")
    path(parser)


def stat(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-w", "tell of the next change")
    path(parser)


def set_data(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-s", "show its new Stat")
    _flag(parser, "-b", "data is base64")
    _version(parser)
    path(parser)
    parser.add_argument("data")


def create(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-s", "sequential: a number is appended to the name")
    _flag(parser, "-e", "ephemeral: ends with the session")
    _flag(parser, "-c", "container: ends when its last child has gone")
    parser.add_argument("-t", type=_ttl, metavar="MS", help="time to live without changes")
    parser.add_argument("path", type=parse_new_path)
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("acl", nargs="?", help="scheme:id:perms,...")


def delete(parser: argparse.ArgumentParser) -> None:
    _version(parser)
    path(parser)


def delete_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-b", type=_positive, default=BATCH, metavar="SIZE", help="znodes at a time"
    )
    path(parser)


def add_watch(parser: argparse.ArgumentParser) -> None:
    modes = [mode.name for mode in WatchMode]
    parser.add_argument(
        *("-m", "--mode"),
        choices=modes,
        default=WatchMode.PERSISTENT_RECURSIVE.name,
        help="what is watched: a znode and its children's names, or (so if not said) all below it",
    )
    path(parser)


def remove_watches(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_mutually_exclusive_group()
    for option, kind, about in (
        ("-c", WatcherType.CHILDREN, "those of its children"),
        ("-d", WatcherType.DATA, "those of its data"),
        ("-a", WatcherType.ANY, "all (so if not said)"),
    ):
        kinds.add_argument(option, dest="kind", action="store_const", const=kind, help=about)
    parser.set_defaults(kind=WatcherType.ANY)
    _flag(parser, "-l", "here at least, if there is no connection")
    path(parser)


def print_watches(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("wanted", choices=("on", "off"), nargs="?")


def connect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", metavar="HOST:PORT[,...][/CHROOT]")


def redo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", type=_int, help="as history has it")


def get_acl(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-s", "show its Stat too")
    path(parser)


def set_acl(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-s", "show its new Stat")
    _flag(parser, "-R", "of all below it too")
    _version(parser)
    path(parser)
    parser.add_argument("acl", help="scheme:id:perms,...")


def acl(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-s", "show its Stat too")
    _flag(parser, "-R", "set that of all below it too")
    _version(parser)
    path(parser)
    parser.add_argument("acl", nargs="?", help="scheme:id:perms,... to set it")


def add_auth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scheme")
    parser.add_argument("auth", nargs="?", default="")


def set_quota(parser: argparse.ArgumentParser) -> None:
    for option, about in _QUOTA_OPTIONS.items():
        parser.add_argument(f"-{option}", type=_positive, metavar="N", help=about)
    quota_path(parser)


def delete_quota(parser: argparse.ArgumentParser) -> None:
    for option, about in _QUOTA_OPTIONS.items():
        _flag(parser, f"-{option}", about)
    quota_path(parser)


_QUOTA_OPTIONS: Final = {
    "n": "znodes, soft",
    "b": "bytes, soft",
    "N": "znodes, hard",
    "B": "bytes, hard",
}


def config(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "-c", "version and connection string alone")
    _stat_and_watch(parser)


def reconfig(parser: argparse.ArgumentParser) -> None:
    line = "N=HOST:QUORUM:ELECTION[:ROLE];CLIENT[,...]"
    parser.add_argument("-add", action="append", default=[], metavar=line, help="who joins")
    parser.add_argument(
        "-remove", action="append", default=[], metavar="N[,...]", help="who leaves"
    )
    parser.add_argument("-members", default="", metavar=line, help="all members")
    parser.add_argument("-file", metavar="FILE", help="all members, as server.N lines")
    parser.add_argument("-v", metavar="HEX", help="only if this is the version now")
    _flag(parser, "-s", "with the Stat")


def nothing(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments."""


def root_path(parser: argparse.ArgumentParser) -> None:
    path(parser, "/")
