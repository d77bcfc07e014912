"""`zkpy serve [ZOO.CFG]`: run one server in the foreground."""

import logging
import os
import sys
from typing import Final, NoReturn

import click

from zkpy import config as configs
from zkpy.config import Config, Setting
from zkpy.errors import ConfigError, StorageError

DATA_DIR: Final = "zkpy-data"
EXIT_REFUSED: Final = 1
"""It did not start; one line said why."""
LOG_FORMAT: Final = "%(asctime)s %(levelname)-8s %(message)s"


@click.command()
@click.argument("zoo_cfg", metavar="[ZOO.CFG]", required=False)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port for clients; {configs.CLIENT_PORT} if no file says otherwise, 0 for any free one.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    help=f"Where the data lies; ./{DATA_DIR} if no file says otherwise.",
)
@click.option(
    "-D",
    "properties",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of zoo.cfg or a system property of ZooKeeper. May be repeated; wins over the file.",
)
def serve(
    zoo_cfg: str | None, port: int | None, data_dir: str | None, properties: tuple[str, ...]
) -> None:
    """Run a server until SIGTERM or Ctrl-C.

    Without ZOO.CFG it stands alone and listens on 127.0.0.1 only.
    """
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    try:
        code = run_server(build_config(zoo_cfg, port, data_dir, properties))
    except (ConfigError, StorageError) as why:
        click.echo(f"zkpy: {why}", err=True)
        code = EXIT_REFUSED
    leave(code)


def run_server(config: Config) -> int:
    """Only who really serves waits for the server to be imported."""
    from zkpy.server.app import run

    return run(config)


def build_config(
    zoo_cfg: str | None, port: int | None, data_dir: str | None, properties: tuple[str, ...]
) -> Config:
    """All that the server is told.  The other commands need no users, and so read none: their
    file may be another user's, or known by an option of the server alone."""
    config = load_config(zoo_cfg, port, data_dir, properties)
    if not config.asks_for_sasl:
        return config
    from zkpy.config.sasl import with_users  # here: most servers have no users

    return with_users(config)


def load_config(
    zoo_cfg: str | None, port: int | None, data_dir: str | None, properties: tuple[str, ...]
) -> Config:
    options = [configs.option_setting(text) for text in properties]
    if zoo_cfg is None:
        return configs.standalone(
            data_dir or DATA_DIR, configs.CLIENT_PORT if port is None else port, options
        )
    if port is not None:
        options.append(Setting("clientPort", str(port), "--port"))
    if data_dir is not None:
        options.append(Setting("dataDir", data_dir, "--data-dir"))
    return configs.load(zoo_cfg, options)


def leave(code: int) -> NoReturn:
    """End the process without tearing the tree down, which takes long when it is large."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
