"""`zkpy reconfig`: change who the ensemble is, after saying what that means.

The plan is made from `/zookeeper/config`, and the request names the version that it was made
from: what is done is what was shown, or nothing.  Exit code 0 when it was done (or shown),
1 if it is refused, by the plan or by the server, 2 if the command was wrong.
"""

import logging
import socket
import sys
from collections.abc import Iterator
from typing import Final

import attrs
import click
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from zkpy import membership
from zkpy.cli.shell import SERVER, explain
from zkpy.cli.verbs import CONFIG, join_lines, read_members
from zkpy.membership import Configuration, ServerSpec

DONE, REFUSED = 0, 1
PATIENCE_S: Final = 2.0
ANY_VERSION: Final = -1


class Refusal(Exception):
    """It will not be done; the message says why."""


@attrs.define(frozen=True)
class Wish:
    """What was asked for."""

    joining: str = ""
    leaving: str = ""
    members: str = ""


@click.command()
@click.option("-s", "--server", default=SERVER, show_default=True, metavar="HOST:PORT[,...]")
@click.option("--timeout", type=click.FloatRange(0.1), default=10.0, help="Seconds to connect.")
@click.option(
    "--auth",
    "auths",
    multiple=True,
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
    auths: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    members: str | None,
    from_version: str | None,
    dry_run: bool,
) -> None:
    """Change the members of an ensemble; the servers need reconfigEnabled=true."""
    if bool(members) == bool(add or remove):
        raise click.UsageError("either --members, or --add and --remove, say what is to change")
    wish = Wish(join_lines(add), ",".join(remove), read_members(members) if members else "")
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters is said below
    identities = [(scheme, auth) for scheme, _, auth in (each.partition(":") for each in auths)]
    client = KazooClient(server, auth_data=identities)
    try:
        client.start(timeout)
        carry_out(client, wish, parse_version(from_version), dry_run)
    except KazooTimeoutError:
        sys.exit(_complain(f"zkpy: nobody answers at {server}"))
    except KazooException as why:
        sys.exit(_complain(f"refused: {explain(why)}"))
    except Refusal as why:
        sys.exit(_complain(f"refused: {why}"))
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
        for line in look_at(now, then):
            click.echo(line)
        return
    parts = wish.joining or None, wish.leaving or None, wish.members or None
    data, _ = client.reconfig(*parts, version)
    click.echo(f"done: version {membership.version_in(data.decode()):x}")


# --- the plan -------------------------------------------------------------------------


def plan(now: Configuration, wish: Wish) -> Configuration:
    """Refusal for whatever a server would refuse without looking around."""
    try:
        new = membership.change(now, wish.joining, wish.leaving, wish.members, 1)
        membership.check_ids(new)
    except ValueError as why:
        raise Refusal(str(why)) from None
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


# --- looking around -------------------------------------------------------------------


def look_at(now: Configuration, then: Configuration) -> Iterator[str]:
    """Who of the new voters answers: a quorum of them has to be synchronised, or the leader
    refuses the change.  Whether it is, only the leader knows."""
    answering = 0
    for sid in then.voters:
        mode = ask_mode(then.servers[sid])
        answering += mode is not None
        yield f"ready:  server.{sid} {mode or 'does not answer at its client address'}"
    if then.by_majority and 2 * answering <= len(then.voters):
        yield "refused: no quorum of the new voters answers"


def ask_mode(spec: ServerSpec) -> str | None:
    """What `srvr` says, which every server answers; None if nobody does."""
    if spec.client is None:
        return "has no client address to be asked at"
    host = spec.client.host or spec.addresses[0].host
    try:
        with socket.create_connection((host, spec.client.port), PATIENCE_S) as asking:
            asking.sendall(b"srvr")
            asking.settimeout(PATIENCE_S)
            said = b"".join(iter(lambda: asking.recv(4096), b"")).decode(errors="replace")
    except OSError:
        return None
    found = [line.removeprefix("Mode: ") for line in said.splitlines() if "Mode: " in line]
    return f"serves as {found[0]}" if found else "runs, and does not serve (yet)"
