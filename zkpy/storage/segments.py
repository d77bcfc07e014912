"""The segments of a log as files of a directory: their names, and those that may go.

A segment is `log.<zxid in hex>`, named after the last entry before it.
"""

from itertools import pairwise
from typing import Final

from zkpy.storage.fs import FileSystem, join

SEGMENT_PREFIX: Final = "log."


def segment_name(base: int) -> str:
    return f"{SEGMENT_PREFIX}{base:016x}"


def numbers_of(names: list[str], prefix: str) -> list[int]:
    """The zxids in names `<prefix><16 hex digits>`, ascending; other names are skipped."""
    found = []
    for name in names:
        digits = name.removeprefix(prefix)
        if name.startswith(prefix) and len(digits) == 16 and not digits.strip("0123456789abcdef"):
            found.append(int(digits, 16))
    return sorted(found)


def segment_bases(fs: FileSystem, directory: str) -> list[int]:
    return numbers_of(fs.listdir(directory), SEGMENT_PREFIX)


def purge_segments(fs: FileSystem, directory: str, zxid: int) -> int:
    """Remove the segments that hold no entry behind `zxid`; how many.

    The last segment stays in any case.
    """
    bases = segment_bases(fs, directory)
    doomed = [base for base, following in pairwise(bases) if following <= zxid]
    for base in doomed:
        fs.unlink(join(directory, segment_name(base)))
    if doomed:
        fs.sync_dir(directory)
    return len(doomed)
