"""CRC-32 as zlib has it, from zlib-ng where it is installed: the same values, in vectors.

In and out: `crc32(data, start=0)`, 0 to 2^32 - 1.  For the few hundred bytes of a log entry
zlib's own takes 190 ns and zlib-ng's 40, several times for each write.
"""

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:  # no wheel for this processor, or this Python
    from zlib import crc32

__all__ = ["crc32"]
