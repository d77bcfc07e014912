"""`zkpy import` and `zkpy export`: from a ZooKeeper to zkpy, and back."""

import gc
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import click

from zkpy import config as configs
from zkpy.errors import ConfigError, StorageError

REFUSED: Final = 1
Command = Callable[..., None]
NEXT: Final = """\
Start it. It is the only voter of its ensemble; others start with EMPTY data directories and a
zoo.cfg that names it, and `zkpy reconfig --add` gives them votes."""
NEXT_THERE: Final = """\
Copy it into the dataDir of each ZooKeeper that is to start from it, and nothing else beside it."""


def _without_collector(command: Command) -> Command:
    """It would look in vain, at millions of objects, for what refers to itself."""

    @wraps(command)
    def run(*arguments: Any, **named: Any) -> None:
        was_on = gc.isenabled()
        gc.disable()
        try:
            command(*arguments, **named)
        finally:
            if was_on:
                gc.enable()

    return run


@click.command("import")
@click.argument("zoo_cfg", metavar="ZOO.CFG")
@click.option(
    "--from", "source", required=True, metavar="DIR", help="ZooKeeper's dataDir, with version-2."
)
@click.option("--logs-from", metavar="DIR", help="Its dataLogDir, where that is another one.")
@click.option(
    "--end-sessions",
    is_flag=True,
    help="Let all sessions end, with their ephemeral znodes; else their clients find them again.",
)
@click.option(
    "--without-logs", is_flag=True, help="Take the snapshot alone, such as one of `zkpy export`."
)
@click.option("--dry-run", is_flag=True, help="Only read DIR, and say what it holds.")
@_without_collector
def import_(
    zoo_cfg: str,
    source: str,
    logs_from: str | None,
    end_sessions: bool,
    without_logs: bool,
    dry_run: bool,
) -> None:
    """Take over the data of an Apache ZooKeeper.

    Of one (3.4 to 3.9) that was stopped. It goes into the data directory that ZOO.CFG names, which
    must be empty. DIR is only read: take that of the member with the greatest epoch, and of these
    with the greatest last zxid, after all were stopped.
    """
    from zkpy.server.transfer import take_over
    from zkpy.zookeeper.directory import load

    try:
        config = configs.load(zoo_cfg)
        loaded = load(source, logs_from, without_logs)
        for note in loaded.notes:
            click.echo(f"zkpy: {note}", err=True)
        click.echo(str(loaded))
        if dry_run:
            return
        moved = take_over(config, loaded, not end_sessions, os.urandom(16))
    except (ConfigError, StorageError, OSError) as why:
        click.echo(f"zkpy: {why}", err=True)
        sys.exit(REFUSED)
    click.echo(f"{moved}.\n{NEXT}")


@click.command()
@click.argument("zoo_cfg", metavar="ZOO.CFG")
@click.option("--to", "target", required=True, metavar="DIR", help="Where version-2 is to be made.")
@_without_collector
def export(zoo_cfg: str, target: str) -> None:
    """Hand the data back to an Apache ZooKeeper.

    As a snapshot from which ZooKeeper 3.5 to 3.9 starts. No server may run on the data directory
    that ZOO.CFG names. Sessions end, and their ephemeral znodes with them.
    """
    from zkpy.server.transfer import hand_over

    try:
        moved = hand_over(configs.load(zoo_cfg), target)
    except (ConfigError, StorageError, OSError) as why:
        click.echo(f"zkpy: {why}", err=True)
        sys.exit(REFUSED)
    click.echo(f"{moved}.\n{NEXT_THERE}")
