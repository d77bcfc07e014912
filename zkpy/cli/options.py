"""Options that several commands share: whom to talk to, and as whom."""

from importlib.util import find_spec
from typing import Final

import click

from zkpy.cli.link import check_server

SERVER: Final = "127.0.0.1:2181"


def parse_server(_: click.Context, __: click.Parameter, text: str) -> str:
    """The text as it is, once it was looked at."""
    try:
        check_server(text)
    except ValueError as why:
        raise click.BadParameter(str(why)) from None
    return text


def parse_identities(
    _: click.Context, __: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[str, str]]:
    """(scheme, auth) of each SCHEME:AUTH."""
    parts = [text.partition(":") for text in texts]
    if not all(scheme and colon for scheme, colon, _ in parts):
        raise click.BadParameter("SCHEME:AUTH is needed")
    # Without it kazoo shows a traceback, and goes on waiting for a connection.
    if "sasl" in [scheme for scheme, _, _ in parts] and find_spec("puresasl") is None:
        raise click.BadParameter("sasl needs the package pure-sasl")
    return [(scheme, auth) for scheme, _, auth in parts]
