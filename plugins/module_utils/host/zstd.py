# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decompression of Zstandard by the system's own library (zstd.h), which Python's standard library has not learnt to use."""

from __future__ import annotations

import ctypes
from typing import Any, Optional, Union


def _library() -> Any:
    try:
        found = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    found.ZSTD_decompress.restype = ctypes.c_size_t
    found.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    found.ZSTD_isError.restype = ctypes.c_uint
    found.ZSTD_isError.argtypes = [ctypes.c_size_t]
    return found


_FOUND = _library()
AVAILABLE = _FOUND is not None


def decompressed(coded: Union[bytes, memoryview], most: int) -> Optional[memoryview]:
    """The content of one frame, of at most `most` bytes; None when it is damaged, longer, or there is no library."""
    if _FOUND is None:
        return None
    made = bytearray(most)
    room = (ctypes.c_char * most).from_buffer(made)
    # What can be written to is read in place.
    given: Any = coded if isinstance(coded, bytes) else (ctypes.c_char * len(coded)).from_buffer(coded)
    length = _FOUND.ZSTD_decompress(room, most, given, len(coded))
    return None if _FOUND.ZSTD_isError(length) else memoryview(made)[:length]
