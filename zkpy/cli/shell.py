"""`zkpy shell`: look at and change what any server of the protocol holds.

With a command it does that one and ends: exit code 0, 1 if the server refused, 2 if
the command was wrong.  Without one it reads commands until `quit` or Ctrl-D, with
completion of commands and paths and a history, where the system has readline.
"""

import logging
import shlex
import sys
from collections.abc import Callable
from typing import Final

import attrs
import click
from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    InvalidACLError,
    KazooException,
    NewConfigNoQuorumError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NotReadOnlyCallError,
    NoWatcherError,
    QuotaExceededError,
    ReconfigDisabledError,
    ReconfigInProcessError,
    SessionClosedRequireSaslError,
    ThrottledOpError,
)

from zkpy.cli.arguments import HelpAsked, UsageError
from zkpy.cli.context import Context, Leave, Redo
from zkpy.cli.link import DEFAULT_TIMEOUT_S, Link, NotConnected
from zkpy.cli.options import SERVER, parse_identities, parse_server
from zkpy.cli.verbs import BY_NAME, VERBS

DONE, REFUSED, WRONG = 0, 1, 2
_REFUSALS: Final[dict[type[Exception], str]] = {
    NoNodeError: "there is no such znode",
    NodeExistsError: "the znode exists",
    NotEmptyError: "the znode has children (deleteall removes them too)",
    NoWatcherError: "there is no such watch",
    BadVersionError: "the version is another",
    NoAuthError: "not permitted by the ACL (addauth)",
    AuthFailedError: "the server refused the authentication, and closed the connection",
    InvalidACLError: "the ACL is not a valid one",
    BadArgumentsError: "the path or an argument is not a valid one (the server's log may say more)",
    NoChildrenForEphemeralsError: "ephemerals have no children",
    NotReadOnlyCallError: "this server is read-only, since there is no quorum",
    QuotaExceededError: "the quota is exceeded",
    NewConfigNoQuorumError: "no quorum of the new voters is connected and synchronised",
    ReconfigDisabledError: "the servers do not have reconfigEnabled=true",
    ReconfigInProcessError: "another change of the members is in progress",
    SessionClosedRequireSaslError: "clients have to authenticate here (--auth SCHEME:AUTH)",
    ThrottledOpError: "the server takes no writes just now, try again later",
    ConnectionLoss: "the connection was lost; the command may have been carried out",
}


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Run the commands of zkCli.sh on a server.",
)
@click.option(
    "-s",
    "--server",
    default=SERVER,
    show_default=True,
    callback=parse_server,
    metavar="HOST:PORT[,...][/CHROOT]",
    help="Whom to ask: one of these. Paths begin at CHROOT.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds to wait for a connection.",
)
@click.option("-r", "--read-only", is_flag=True, help="A server without a quorum will do.")
@click.option(
    "--auth",
    "identities",
    multiple=True,
    callback=parse_identities,
    metavar="SCHEME:AUTH",
    help="As addauth does, for example digest:user:password. May be repeated.",
)
@click.argument("words", metavar="[COMMAND [ARGUMENT]...]", nargs=-1, type=click.UNPROCESSED)
def shell(
    server: str,
    timeout: float,
    read_only: bool,
    identities: list[tuple[str, str]],
    words: tuple[str, ...],
) -> None:
    """Run one command on a server, or several, asked for one by one.

    COMMAND is one of zkCli.sh's: ls, get, set, create, delete, stat, getAcl, ...;
    `zkpy shell help` lists them all.
    """
    if words and (help_text := _help_on(*words)) is not None:
        click.echo(help_text)
        return
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters is said below
    link = Link(server, timeout, read_only, identities)
    try:
        link.client  # noqa: B018 - somebody has to answer before anything is asked
    except KazooException as why:
        sys.exit(_complain(f"zkpy: {explain(why)}", REFUSED))
    try:
        prompt = Prompt(Context(link, tell))
        code = prompt.run_one(list(words)) if words else prompt.loop()
    finally:
        link.close()
    sys.exit(code)


def tell(said: str | bytes) -> None:
    click.echo(said, nl=isinstance(said, str))


def _help_on(name: str, *arguments: str) -> str | None:
    """What `help` and `COMMAND -h` say: no server is needed for that."""
    if name == "help":
        return _help()
    verb = BY_NAME.get(name.lower())
    try:
        if verb is not None:
            verb.parse(list(arguments))
    except HelpAsked as help_text:
        return str(help_text)
    except UsageError:
        pass  # said when the command is carried out
    return None


def _help() -> str:
    width = max(len(verb.name) for verb in VERBS)
    lines = [f"{verb.name:{width}}  {verb.about}{_also(verb.aliases)}" for verb in VERBS]
    return "\n".join([*lines, "COMMAND -h tells more."])


def _also(aliases: tuple[str, ...]) -> str:
    return f" Also: {', '.join(aliases)}." if aliases else ""


@attrs.define
class Prompt:
    """Carries out commands, one after the other."""

    context: Context

    def loop(self) -> int:
        """Commands from the terminal, or from whatever stands in its place."""
        prepare_readline(self.complete)
        code = DONE
        while True:
            try:
                line = input(self._prompt())
            except EOFError:
                return code
            except KeyboardInterrupt:
                click.echo()
                continue
            try:
                code = self.run_line(line)
            except Leave:
                return code

    def run_one(self, words: list[str]) -> int:
        try:
            return self.run_words(words)
        except Leave:
            return DONE

    def _prompt(self) -> str:
        link = self.context.link
        closed = " (closed)" if link.closed else ""
        return f"[{link.server}{closed}] " if sys.stdin.isatty() else ""

    def run_line(self, line: str) -> int:
        """A line that begins with # is a comment; elsewhere # is a character of data."""
        if line.lstrip().startswith("#"):
            return DONE
        try:
            words = shlex.split(line)
        except ValueError as why:
            return _complain(str(why), WRONG)
        if not words:
            return DONE
        self.context.history.append(line.strip())
        return self.run_words(words)

    def run_words(self, words: list[str]) -> int:
        name, *arguments = words
        if name == "help":
            click.echo(_help())
            return DONE
        verb = BY_NAME.get(name.lower())
        if verb is None:
            return _complain(f"{name}: no such command; help lists them", WRONG)
        try:
            return self._run(lambda: verb.run(self.context, verb.parse(arguments)))
        except UsageError as why:
            return _complain(str(why), WRONG)
        except Redo as again:
            return self.run_line(again.line)
        except HelpAsked as help_text:
            click.echo(str(help_text))
            return DONE

    def _run(self, act: Callable[[], None]) -> int:
        try:
            act()
        except KeyboardInterrupt:
            return self._interrupted()
        except KazooException as why:
            return _complain(explain(why), REFUSED)
        except ValueError as why:  # kazoo's own look at paths
            return _complain(str(why), WRONG)
        return DONE

    def _interrupted(self) -> int:
        """An answer that comes later is nobody's: the connection that waits for it is given up."""
        if not self.context.link.give_up_if_busy():
            return _complain("interrupted", REFUSED)
        return _complain("interrupted; the command may still be carried out", REFUSED)

    # --- completion -----------------------------------------------------------------

    def complete(self, line: str, word: str) -> list[str]:
        """What `word`, the last of `line`, may become."""
        if line.lstrip() == word:
            names = [verb.name for verb in VERBS] + ["help"]
            return [f"{name} " for name in names if name.lower().startswith(word.lower())]
        return self._complete_path(word) if word.startswith("/") else []

    def _complete_path(self, word: str) -> list[str]:
        if not self.context.link.connected:
            return []  # a key does not wait
        parent, _, begun = word.rpartition("/")
        try:
            names = self.context.client.get_children(parent or "/")
        except KazooException:
            return []
        return [f"{parent}/{name}" for name in sorted(names) if name.startswith(begun)]


def explain(why: KazooException) -> str:
    if isinstance(why, NotConnected):
        return str(why)
    said = _REFUSALS.get(type(why))
    return said if said is not None else f"{type(why).__name__} {why}".strip()


def _complain(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code


def prepare_readline(complete: Callable[[str, str], list[str]]) -> None:
    """Completion with Tab; nothing where there is no readline."""
    try:
        import readline
    except ImportError:
        return
    found: list[str] = []

    def next_match(word: str, state: int) -> str | None:
        if not state:
            found[:] = complete(readline.get_line_buffer()[: readline.get_endidx()], word)
        return found[state] if state < len(found) else None

    readline.set_completer(next_match)
    readline.set_completer_delims(" \t")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
