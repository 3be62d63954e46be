# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only place that imports libguestfs: images opened in a small machine of its own, and its errors turned into ours.

Nothing of an image is ever mounted by this host's kernel, or run by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Iterator, List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import commands
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

try:
    import guestfs

    GUESTFS_MISSING = ""
except ImportError as missing:
    guestfs = None
    GUESTFS_MISSING = str(missing)

SIDE = "this host"
_INSTALL = (
    "Install python3-guestfs, libguestfs-tools and libguestfs-xfs here, and a kernel in /boot (linux-image-amd64); "
    "libguestfs-test-tool shows whether they work."
)
# By which supermin and libguestfs are told of a kernel elsewhere.
_OTHER_KERNELS = ("SUPERMIN_KERNEL", "LIBGUESTFS_PATH")
# The tools of the image run in it, and making an initramfs wants room.
MEMORY_MIB = 1536


def why_not() -> str:
    """What is missing for opening an image here; empty when nothing is known to be."""
    if guestfs is None:
        return "%s. %s" % (GUESTFS_MISSING, _INSTALL)
    kernels = [name for name in _listed("/boot") if name.startswith("vmlinuz")]
    if not kernels and not any(os.environ.get(name) for name in _OTHER_KERNELS):
        return "there is no kernel in /boot. %s" % _INSTALL
    return ""


def _listed(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@contextlib.contextmanager
def opened(images: Sequence[Tuple[str, str]], emulated: bool, writable: bool, timeout_s: float) -> Iterator[Any]:
    """A libguestfs handle on (path, format)s, in that order. emulated: KVM does not work here.

    When the block ends all that was written is in the images. Raises HostError, also when the block takes longer than
    timeout_s: then the machine is ended, and the images are in an unknown state.
    """
    if guestfs is None:
        raise HostError("open %s" % _paths(images), SIDE, GUESTFS_MISSING, _INSTALL)
    handle = guestfs.GuestFS(python_return_dict=True)
    overdue = threading.Event()
    timer = threading.Timer(timeout_s, _end, [handle, overdue])
    timer.daemon = True
    try:
        with said("open %s" % _paths(images), overdue, timeout_s, _INSTALL):
            # Not through libvirt: that would need its permission for a user of its own to read the images.
            handle.set_backend("direct")
            if emulated:
                handle.set_backend_setting("force_tcg", "1")
            handle.set_memsize(MEMORY_MIB)
            handle.set_smp(2)
            handle.set_network(False)
            for path, image_format in images:
                handle.add_drive_opts(path, format=image_format, readonly=not writable)
            timer.start()
            handle.launch()
        with said("look into %s" % _paths(images), overdue, timeout_s):
            yield handle
            if writable:
                handle.umount_all()
                handle.sync()
            handle.shutdown()
    finally:
        timer.cancel()
        handle.close()


def _end(handle: Any, overdue: threading.Event) -> None:
    overdue.set()
    with contextlib.suppress(Exception):
        os.kill(handle.get_pid(), signal.SIGKILL)


@contextlib.contextmanager
def said(attempted: str, overdue: threading.Event, timeout_s: float, remedy: str = "") -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if overdue.is_set():
            words = "it took more than %d s" % timeout_s
            raise HostError(attempted, SIDE, words, "Allow more with fixup_options.timeout_s.") from error
        raise HostError(attempted, SIDE, str(error), remedy) from error


def _paths(images: Sequence[Tuple[str, str]]) -> str:
    return ", ".join(path for path, dummy in images)


def overlay(path: str, below: str, below_format: str) -> None:
    """A new qcow2 image over another one. Raises HostError when something bears its name."""
    attempted = "make the overlay %s" % path
    try:
        # By us: qemu-img would empty a file that is there.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise HostError(attempted, SIDE, str(error), "Remove it, then run again.")
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", below_format, "-b", below, "--", path]
    try:
        commands.output_of(argv, attempted=attempted, remedy="Check the pool's free space.")
    except HostError:
        os.unlink(path)
        raise
