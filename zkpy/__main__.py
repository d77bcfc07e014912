"""`python -m zkpy`: the same as the command `zkpy`."""

from zkpy.cli import main

main()
