"""`zkpy init ZOO.CFG`: make a data directory by word, where a first start must not do it.

With `db.autocreate=false` a server without data founds nothing, so that a majority that lost
its disks cannot take itself for a new ensemble.  This is how such servers are founded.
"""

import os
import sys
from typing import Final

import click

from zkpy import config as configs
from zkpy.errors import ConfigError, StorageError

REFUSED: Final = 1
NEXT: Final = """\
Start it. The others start with EMPTY data directories, and a zoo.cfg that names this server; they
fetch everything from it, and have no vote until the set of voters is changed."""


@click.command(short_help="Prepare a data directory for a new ensemble.")
@click.argument("zoo_cfg", metavar="ZOO.CFG")
@click.option(
    "--seed",
    is_flag=True,
    help="A new ensemble starts from this server alone, with the data that it has, if any.",
)
def init(zoo_cfg: str, seed: bool) -> None:
    """Prepare the data directory that ZOO.CFG names for a new ensemble.

    Without --seed: allow this server to found one together with others; its directory
    must be empty. No server may run on it.
    """
    try:
        click.echo(prepare(configs.load(zoo_cfg), seed))
    except (ConfigError, StorageError, OSError) as why:
        click.echo(f"zkpy: {why}", err=True)
        sys.exit(REFUSED)


def prepare(config: configs.Config, seed: bool) -> str:
    """What was done."""
    from zkpy.server import founding
    from zkpy.server.boot import find_server_id, open_storage, propose_voters

    storage, recovered = open_storage(config)
    try:
        server_id = find_server_id(config, recovered)
        if not seed:
            return founding.allow(config, recovered)
        voters = propose_voters(founding.narrow(config, server_id), server_id)
        planted = founding.plant(config, recovered, voters, os.urandom(16))
        if planted.steps is not None:
            storage.execute(planted.steps)
        founding.mark_seed(config)
        return f"{config.data_dir}: {planted}.\n{NEXT}"
    finally:
        storage.close()
