"""The group of commands, and the short form that starts a server.

`zkpy zoo.cfg` and `zkpy -Dkey=value zoo.cfg` mean `zkpy serve ...`: this is how
ZooKeeper's own main class is called, so that zkpy can stand in its place.
"""

import importlib
import os
from keyword import iskeyword
from typing import Final

import click

from zkpy import __version__

COMMANDS: Final = {
    "ensemble": "zkpy.cli.ensemble",
    "export": "zkpy.cli.transfer",
    "import": "zkpy.cli.transfer",
    "init": "zkpy.cli.init",
    "log": "zkpy.cli.log",
    "reconfig": "zkpy.cli.reconfig",
    "recover": "zkpy.cli.recover",
    "serve": "zkpy.cli.serve",
    "shell": "zkpy.cli.shell",
    "simulate": "zkpy.cli.simulate",
    "snapshot": "zkpy.cli.snapshot",
}
"""Name -> module, which holds a click command under the same name, a keyword's with `_` behind."""


class LazyGroup(click.Group):
    """Knows the names of its commands; imports one when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        name = cmd_name + "_" * iskeyword(cmd_name)
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="zkpy %(version)s")
def zkpy() -> None:
    """A coordination server that speaks the ZooKeeper protocol.

    `zkpy COMMAND --help` tells more. `zkpy ZOO.CFG` is short for `zkpy serve ZOO.CFG`.
    """


def run(arguments: list[str]) -> None:
    if is_short_form(arguments):
        arguments = ["serve", *arguments]
    zkpy(args=arguments, prog_name="zkpy")


def is_short_form(arguments: list[str]) -> bool:
    """Whether the arguments start a server without the word serve."""
    if not arguments or arguments[0] in COMMANDS:
        return False
    first = arguments[0]
    return first.startswith("-D") or first.endswith(".cfg") or os.path.isfile(first)
