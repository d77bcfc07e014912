"""`zkpy recover`: the operator's way out when a majority is lost for good."""

import os
import sys
import time
from typing import Final

import click

from zkpy import config as configs
from zkpy.errors import ConfigError, StorageError

REFUSED: Final = 1
LOSS: Final = """\
The other members' data is given up: whatever was acknowledged to clients and is not in this
directory is lost. Choose, of all members that are left, the one with the greatest last zxid.
Start the others only when this server serves, with EMPTY data directories, db.autocreate=false,
and a zoo.cfg that names this server: else they may found an ensemble of their own, without the
data. They count again after `zkpy reconfig --add`.
A member of the old ensemble that comes back with its data does not join."""
DONE: Final = """\
Done: this server is the only voter of a new ensemble. Start it, and the others once it serves."""


@click.command(short_help="Let one member go on alone, without a majority.")
@click.argument("zoo_cfg", metavar="ZOO.CFG")
@click.option("--accept-loss", is_flag=True, help="Do it. Without this, only look.")
def recover(zoo_cfg: str, accept_loss: bool) -> None:
    """Let one member go on alone, when no majority will ever come back.

    No server may run on the data directory that ZOO.CFG names.
    """
    from zkpy.server.recover import Found
    from zkpy.server.recover import recover as make_sole_voter

    def confirm(found: Found) -> bool:
        click.echo(f"{found}\n\n{LOSS}\n")
        return accept_loss

    try:
        config = configs.load(zoo_cfg)
        done = make_sole_voter(config, os.urandom(16), int(time.time() * 1000), confirm)
    except (ConfigError, StorageError) as why:
        click.echo(f"zkpy: {why}", err=True)
        sys.exit(REFUSED)
    if not done:
        click.echo("Nothing was changed; --accept-loss does it.")
        sys.exit(REFUSED)
    click.echo(DONE)
