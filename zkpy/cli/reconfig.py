"""`zkpy reconfig`: change who the ensemble is, after saying what that means.

The plan is made from `/zookeeper/config`, and the request names the version that it was made
from: what is done is what was shown, or nothing.  Exit code 0 when it was done, or could be,
1 if it is refused, by the plan or by the server, 2 if the command was wrong.

A dry run changes nothing, and says yes only if all that can be asked says yes.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Final

import attrs
import click
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    KazooException,
    ThrottledOpError,
)
from kazoo.handlers.threading import KazooTimeoutError

from zkpy import membership
from zkpy.cli.arguments import ANY_VERSION, UsageError
from zkpy.cli.options import SERVER, parse_identities, parse_server
from zkpy.cli.shell import explain
from zkpy.cli.verbs import CONFIG, join_lines, read_members
from zkpy.cli.words import ask_srvr, why_nobody
from zkpy.membership import Configuration, ServerSpec

DONE, REFUSED = 0, 1
NO_DATA_VERSION: Final = 2**31 - 1
"""That of no `/zookeeper/config`: a change of it that names this one fails."""
MEMBER_MODES: Final = ("leader", "follower", "observer")
"""Of who belongs to an ensemble with a leader; others cannot be synchronised with it."""
LEARNS: Final = "learning from server "
"""How the line begins that a newcomer has behind `not serving`, once it is synchronised."""


class Refusal(Exception):
    """It will not be done; the message says why."""


class Doubt(Exception):
    """Whether it would be done cannot be known beforehand; the message says what is not known."""


@attrs.define(frozen=True)
class Wish:
    """What was asked for."""

    joining: str = ""
    leaving: str = ""
    members: str = ""

    @property
    def lists(self) -> tuple[str | None, str | None, str | None]:
        """As the request has them."""
        return self.joining or None, self.leaving or None, self.members or None


@click.command(short_help="Change the members of an ensemble.")
@click.option(
    "-s",
    "--server",
    default=SERVER,
    show_default=True,
    callback=parse_server,
    metavar="HOST:PORT[,...]",
    help="Whom to ask: any of the ensemble's servers.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Seconds to wait for a connection.",
)
@click.option(
    "--auth",
    "identities",
    multiple=True,
    callback=parse_identities,
    metavar="SCHEME:AUTH",
    help="Who may do it: digest:super:PASSWORD, or whom the ACL of /zookeeper/config lets write.",
)
@click.option(
    "--add",
    multiple=True,
    metavar="N=HOST:QUORUM:ELECTION[:ROLE];CLIENT",
    help="A server that joins, or is to be another one from now on. May be repeated.",
)
@click.option("--remove", multiple=True, metavar="N[,...]", help="Servers that leave.")
@click.option(
    "--members",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="All members, as server.N lines, in place of --add and --remove.",
)
@click.option("--from-version", metavar="HEX", help="Only if this is the version now.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing.")
def reconfig(
    server: str,
    timeout: float,
    identities: list[tuple[str, str]],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    members: str | None,
    from_version: str | None,
    dry_run: bool,
) -> None:
    """Change the members of an ensemble; the servers need reconfigEnabled=true."""
    if bool(members) == bool(add or remove):
        raise click.UsageError("either --members, or --add and --remove, say what is to change")
    try:
        whole = read_members(members) if members else ""
    except UsageError as why:
        raise click.UsageError(str(why)) from None
    wish = Wish(join_lines(add), ",".join(remove), whole)
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters is said below
    client = KazooClient(server, auth_data=identities)
    try:
        client.start(timeout)
        carry_out(client, wish, parse_version(from_version), dry_run)
    except KazooTimeoutError:
        sys.exit(_complain(f"zkpy: {why_nobody(server)}"))
    except KazooException as why:
        sys.exit(_complain(f"refused: {explain(why)}"))
    except Refusal as why:
        sys.exit(_complain(f"refused: {why}"))
    except Doubt as why:
        sys.exit(_complain(f"unknown: {why}"))
    finally:
        client.stop()
        client.close()


def parse_version(text: str | None) -> int:
    try:
        return ANY_VERSION if text is None else int(text, 16)
    except ValueError:
        raise click.UsageError(f"{text}: a version, as in version=100000002, is needed") from None


def _complain(text: str) -> int:
    click.echo(text, err=True)
    return REFUSED


def carry_out(client: KazooClient, wish: Wish, expected: int, dry_run: bool) -> None:
    """Show the plan, then do it."""
    text = client.get(CONFIG)[0].decode()
    version = membership.version_in(text)
    if not version:
        raise Refusal(
            "the server knows no configuration: its zoo.cfg needs reconfigEnabled=true and a "
            "server.N line for itself"
        )
    if expected not in (ANY_VERSION, version):
        raise Refusal(f"the version now is {version:x}, not {expected:x}")
    now = membership.parse_configuration(text)
    then = plan(now, wish)
    for line in describe(now, then, version):
        click.echo(line)
    if dry_run:
        rehearse(client, wish, now, then, text)
        return
    try:
        data, _ = client.reconfig(*wish.lists, version)
    except BadArgumentsError:
        check_voters_left(now, then)  # the one reason that the plan does not know better
        raise
    click.echo(f"done: version {membership.version_in(data.decode()):x}")


# --- the plan -------------------------------------------------------------------------


def plan(now: Configuration, wish: Wish) -> Configuration:
    """Refusal for whatever a server would refuse without looking around, and for a mistake that
    it would not: one who leaves and is no member makes a new version, and changes nothing."""
    try:
        new = membership.change(now, wish.joining, wish.leaving, wish.members, 1)
        membership.check_ids(new)
    except ValueError as why:
        raise Refusal(str(why)) from None
    for sid in membership.parse_leaving(wish.leaving):
        if sid not in now.servers:
            raise Refusal(f"server.{sid} is no member: members are {listed(sorted(now.servers))}")
    return new


def describe(now: Configuration, then: Configuration, version: int) -> Iterator[str]:
    yield f"now:    version {version:x}, {count(now)}"
    changes = list(differences(now, then))
    yield from (f"change: {line}" for line in changes or ["none"])
    yield f"then:   {count(then)}"
    if len(now.voters) > 1 and len(then.voters) == 1:
        yield "note:   refused unless the servers have standaloneEnabled=false"
    if then.by_majority and len(then.voters) % 2 == 0:
        yield f"note:   {len(then.voters)} voters bear no more losses than {len(then.voters) - 1}"


def count(configuration: Configuration) -> str:
    voters, observers = configuration.voters, configuration.observers
    text = f"voters {listed(voters)}" + (f", observers {listed(observers)}" if observers else "")
    if not configuration.by_majority:
        return f"{text}; quorums by groups and weights"
    quorum = len(voters) // 2 + 1
    return f"{text}; a quorum is {quorum} of {len(voters)}, {len(voters) - quorum} may fail"


def listed(sids: list[int]) -> str:
    return " ".join(map(str, sids))


def differences(now: Configuration, then: Configuration) -> Iterator[str]:
    for sid in sorted({*now.servers, *then.servers}):
        before, after = now.servers.get(sid), then.servers.get(sid)
        if before is None and after is not None:
            yield f"server.{sid} joins as {role_of(after)}: {after}"
        elif after is None and before is not None:
            yield f"server.{sid}, {role_of(before)}, leaves: {before}"
        elif before is not None and after is not None and str(before) != str(after):
            yield f"server.{sid} was {before}, is to be {after}"
    if (now.groups, now.weights) != (then.groups, then.weights):
        yield "another count: groups or weights"


def role_of(spec: ServerSpec) -> str:
    return "an observer" if spec.observer else "a voter"


# --- the dry run ----------------------------------------------------------------------


def rehearse(
    client: KazooClient, wish: Wish, now: Configuration, then: Configuration, text: str
) -> None:
    """What would be said, in the order in which a leader says it: an exception, if not yes."""
    answers = {sid: ask_member(then.servers[sid]) for sid in then.voters}
    for sid, answer in answers.items():
        click.echo(f"ready:  server.{sid} {answer.text}")
    ask_whether_enabled(client, wish, membership.version_in(text))
    check_voters_left(now, then)
    check_quorum(then, answers)
    ask_whether_permitted(client, text)


def ask_whether_enabled(client: KazooClient, wish: Wish, version: int) -> None:
    """Asked for at an earlier version, which never comes again: refused in any case, and for
    this reason only if reconfigEnabled is set and no other change is under way."""
    with contextlib.suppress(BadVersionError):
        client.reconfig(*wish.lists, version - 1)


def ask_whether_permitted(client: KazooClient, text: str) -> None:
    """The ACL is judged before the version.  A disk without room is no obstacle to a reconfig."""
    with contextlib.suppress(BadVersionError, ThrottledOpError):
        client.set(CONFIG, text.encode(), NO_DATA_VERSION)


def check_voters_left(now: Configuration, then: Configuration) -> None:
    """Only the servers know their standaloneEnabled; an ensemble of one must have it at false."""
    if len(now.voters) > 1 and len(then.voters) == 1:
        raise Refusal(
            "1 voter would be left, at least 2 must be, "
            "unless the servers have standaloneEnabled=false"
        )


@attrs.define(frozen=True)
class Answer:
    """What is known of one member."""

    text: str
    ready: bool | None = False
    """None if it cannot be asked."""


def check_quorum(then: Configuration, answers: Mapping[int, Answer]) -> None:
    """A quorum of the new voters has to be synchronised.  Whether it is, only the leader knows;
    that it cannot be is seen from here."""
    ready = [sid for sid, answer in answers.items() if answer.ready]
    perhaps = [sid for sid, answer in answers.items() if answer.ready is not False]
    if not then.is_quorum(perhaps):
        raise Refusal("no quorum of the new voters answers")
    if not then.is_quorum(ready):
        raise Doubt("whether a quorum of the new voters is there: some cannot be asked")


def ask_member(spec: ServerSpec) -> Answer:
    """By `srvr`, which every server answers."""
    if spec.client is None:
        return Answer("cannot be asked: it has no client address", None)
    host = spec.client.host or spec.addresses[0].host
    try:
        return read_answer(ask_srvr(host, spec.client.port))
    except OSError:
        return Answer(f"does not answer at its client address ({host}:{spec.client.port})")


def read_answer(lines: list[str]) -> Answer:
    for line in lines:
        mode = line.removeprefix("Mode: ")
        if mode != line:
            return Answer(f"serves as {mode}", mode in MEMBER_MODES)
        if line.startswith(LEARNS):
            return Answer("is synchronised, and serves once it is a member", True)
    return Answer("runs, and does not serve (yet)")
