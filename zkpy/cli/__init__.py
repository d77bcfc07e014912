"""The commands of `zkpy`, one file each, on click.

A command's module is imported when it is called: `zkpy serve` starts no slower for
what the others need.  The table of them is in `main`; `verbs`, `quotas`, `context`, `arguments`,
`watches`, `requests` and `link` are the shell's, `shown`, `options` and `words` shared.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `zkpy` and of `python -m zkpy`."""
    from zkpy.cli.main import run

    run(list(sys.argv[1:] if arguments is None else arguments))
