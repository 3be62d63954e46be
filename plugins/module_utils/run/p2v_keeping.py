# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Beside the copy: manifests that say what came, and a check that reads back what is on the medium while more comes."""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.kvmops.fleet.plugins.module_utils.host.nbd import Nbd
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import Image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import Range

# How old a manifest on the medium may be.
DURABLE_S = 5.0
# Chunks that are worth a reader of their own, and how often there may be a new one: before each, what came is made durable.
WORTH_READING, READER_EVERY_S = 32, 1.0


class Follower:
    """Reads images back behind their writer. socket: for its reader.

    Nothing depends on it: what it has not checked, or cannot read, is checked when the copy is over.
    """

    def __init__(self, images: Mapping[str, Image], socket: str) -> None:
        self._images, self._socket = images, socket
        self._over = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._cannot = False
        self._wrong: Dict[str, List[Range]] = {}

    @property
    def idle(self) -> bool:
        """Whether it would take more."""
        return not self._cannot and not (self._thread and self._thread.is_alive())

    def follow(self, there: Mapping[str, Set[int]]) -> None:
        """These chunks are on the medium, by disk. To be called when it is idle."""
        self._thread = threading.Thread(target=self._read_back, args=(there,), name="reading back", daemon=True)
        self._thread.start()

    def end(self) -> Dict[str, List[Range]]:
        """What it found to be otherwise than the source told, and has forgotten; it must be asked for anew. Leaves the rest."""
        self._over.set()
        if self._thread:
            self._thread.join()
        return self._wrong

    def _read_back(self, there: Mapping[str, Set[int]]) -> None:
        try:
            for disk, chunks in there.items():
                if chunks and not self._over.is_set():
                    self._check(disk, sorted(chunks))
        except (HostError, OSError):
            self._cannot = True

    def _check(self, disk: str, chunks: Sequence[int]) -> None:
        image = self._images[disk]
        with image.beside(self._socket) as nbd:
            for chunk in chunks:
                if self._over.is_set():
                    return
                self._wrong.setdefault(disk, []).extend(image.wrong(nbd, [chunk]))


class Keeper:
    """Keeps what comes to some open images. clients: a connection to each, which nobody else uses."""

    def __init__(
        self,
        images: Mapping[str, Image],
        clients: Mapping[str, Nbd],
        follower: Follower,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._images, self._clients, self._follower, self._clock = images, clients, follower, clock
        self._kept = clock()

    def look(self) -> None:
        """Called often: the manifests say what was put, now and then on the medium, behind the data; that is read back."""
        since = self._clock() - self._kept
        behind = sum(len(self._images[disk].manifest.unverified) for disk in self._clients)
        worth = self._follower.idle and behind >= WORTH_READING and since >= READER_EVERY_S
        there = self.keep(durable=worth or since > DURABLE_S)
        if worth:
            self._follower.follow(there)

    def keep(self, durable: bool = True) -> Dict[str, Set[int]]:
        """Chunks that are on the medium and were not read back, by disk. Raises HostError."""
        there = {disk: self._images[disk].checkpoint(nbd, durable) for disk, nbd in self._clients.items()}
        if durable:
            self._kept = self._clock()
        return there
