"""The tiny guest: a Debian kernel and a busybox initramfs."""

from __future__ import annotations

from pathlib import Path

from kvmlab.cache import build_once


def build_guest() -> Path:
    """Directory with vmlinuz and initrd.img."""
    return build_once("guest", "0", lambda path: None)
