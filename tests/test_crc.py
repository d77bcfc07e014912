"""What is on disk was summed by zlib or by zlib-ng, and may be read with the other."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkpy.crc import crc32


@given(data=st.binary(max_size=400), start=st.integers(0, 0xFFFFFFFF))
def test_values_are_zlibs(data: bytes, start: int) -> None:
    assert crc32(data, start) == zlib.crc32(data, start)
    assert crc32(memoryview(data)) == zlib.crc32(data)


@pytest.mark.parametrize("size", [1 << 12, (1 << 20) + 3])
def test_long_ones_too(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"end"
    assert crc32(data, 7) == zlib.crc32(data, 7)
