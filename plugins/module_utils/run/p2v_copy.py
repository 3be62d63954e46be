# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes of the source into the images: several readers at once, every piece checked, written, and read back."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.nbd import Nbd
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_agent import Agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import Damaged, Image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import (
    CHUNK,
    PART,
    Range,
    batches,
    merged,
    total,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_keeping import Follower, Keeper

AT_ONCE = 16 * CHUNK
# So often is the manifest on the medium; that it says what was put is so at every pulse.
PULSE_S = 0.25
# So often is what the target does not give back asked for anew.
ATTEMPTS = 3

Wanted = Mapping[str, Sequence[Range]]
Job = Tuple[str, List[Range]]


class Moved(NamedTuple):
    """bytes: read on the source. wire: bytes that came for them. verify_s: in which nothing else than the check went on."""

    bytes: int
    wire: int
    verify_s: float


class Copier:
    """agent: with its connections. nbd_path: a socket for each image.

    pulse is called often while work goes on, from the thread that called.
    """

    def __init__(
        self, agent: Agent, images: Mapping[str, Image], nbd_path: str, subject: str, tell: Callable[[Progress], None]
    ) -> None:
        self.agent, self.images, self._nbd_path = agent, dict(images), nbd_path
        self._subject, self._tell = subject, tell
        self._count = threading.Lock()
        self._done, self._wire = 0, 0
        self.pulse: Callable[[], None] = lambda: None

    def compare(self, wanted: Wanted) -> Dict[str, List[Range]]:
        """What of it the images do not hold: the source sends hashes only. Where a piece differs, those of its parts as well."""
        found: Dict[str, List[Range]] = {disk: [] for disk in wanted}
        with self._opened(wanted, writable=False) as clients:

            def work(number: int, job: Job) -> None:
                disk, ranges = job
                image, nbd, source = self.images[disk], clients[disk][number], self.agent.data[number]
                other: List[Range] = []
                for piece in source.fetch("digest", disk, ranges):
                    if not image.holds(nbd, piece.offset, piece.length, piece.sha256):
                        other.append((piece.offset, piece.length))
                    self._counted(piece.length, piece.wire)
                found[disk] += [each for each in other if not image.knows(*each)]
                known = [each for each in other if image.knows(*each)]
                for piece in source.fetch("digest", disk, known, PART) if known else ():
                    found[disk] += image.lacks(nbd, piece.offset, piece.length, piece.parts)
                    self._counted(0, piece.wire)

            self._spread("compare", _jobs(wanted, len(self.agent.data)), work)
        return {disk: merged(ranges) for disk, ranges in found.items()}

    def copy(self, wanted: Wanted) -> Moved:
        """Until the images hold it, and give it back when they are read afresh. Raises HostError."""
        left: Dict[str, List[Range]] = {disk: list(ranges) for disk, ranges in wanted.items()}
        before = (self._done, self._wire)
        moved, verify_s = 0, 0.0
        for dummy in range(ATTEMPTS):
            moved += sum(total(ranges) for ranges in left.values())
            again = self._written(left)
            began = time.monotonic()
            wrong = self._verified()
            verify_s += time.monotonic() - began
            left = {disk: merged([*again.get(disk, ()), *wrong.get(disk, ())]) for disk in self.images}
            left = {disk: ranges for disk, ranges in left.items() if ranges}
            if not left:
                return Moved(moved, self._wire - before[1], verify_s)
        disk = sorted(left)[0]
        raise HostError(
            "verify %s" % self.images[disk].path,
            "this host",
            "%d bytes at byte %d read back as something else than was written" % left[disk][0][::-1],
            "Look at the storage of the pool; nothing was published.",
        )

    def _written(self, wanted: Wanted) -> Dict[str, List[Range]]:
        """Read and write it, and read back what is on the medium meanwhile. Gives what must be asked for anew, since the image did
        not hold what it was said to."""
        again: Dict[str, List[Range]] = {disk: [] for disk in wanted}
        with self._opened(wanted, writable=True) as clients:

            def work(number: int, job: Job) -> None:
                disk, ranges = job
                came = self.agent.data[number].fetch("read", disk, ranges)
                for chunk, pieces in itertools.groupby(came, key=lambda piece: piece.offset // CHUNK):
                    fresh = []
                    for piece in pieces:
                        fresh.append((piece.offset, piece.data or b"", piece.sha256))
                        self._counted(piece.length, piece.wire)
                    try:
                        self.images[disk].put(clients[disk][number], chunk, fresh)
                    except Damaged as damaged:
                        again[disk] += [*damaged.ranges, *((offset, len(data)) for offset, data, dummy in fresh)]

            follower = Follower(self.images, self._nbd_path + ".back")
            keeper = Keeper(self.images, {disk: clients[disk][-1] for disk in wanted}, follower)
            try:
                self._spread("copy", _jobs(wanted, len(self.agent.data)), work, keeper.look)
            finally:
                wrong = follower.end()
                # What came is kept, whatever ended this. A failure to keep it is no news beside that.
                with contextlib.suppress(HostError):
                    keeper.keep()
        return {disk: [*ranges, *wrong.get(disk, ())] for disk, ranges in again.items()}

    def _verified(self) -> Dict[str, List[Range]]:
        """What the images do not give back of what they took since they were last verified."""
        pending = {disk: sorted(image.manifest.unverified) for disk, image in self.images.items()}
        pending = {disk: chunks for disk, chunks in pending.items() if chunks}
        found: Dict[str, List[Range]] = {disk: [] for disk in pending}
        with self._opened(pending, writable=False) as clients:

            def work(number: int, job: Job) -> None:
                disk, ranges = job
                chunks = [offset // CHUNK for offset, dummy in ranges]
                found[disk] += self.images[disk].wrong(clients[disk][number], chunks)
                self._counted(len(chunks) * CHUNK, 0)

            jobs = [
                (disk, [(chunk * CHUNK, CHUNK) for chunk in chunks[start : start + 16]])
                for disk, chunks in pending.items()
                for start in range(0, len(chunks), 16)
            ]
            self._spread("verify", jobs, work)
        return found

    @contextlib.contextmanager
    def _opened(self, disks: Iterable[str], writable: bool) -> Iterator[Dict[str, List[Nbd]]]:
        """Each image with a connection for every reader and one more."""
        with contextlib.ExitStack() as stack:
            found = {}
            for number, disk in enumerate(disks):
                socket = "%s.%d" % (self._nbd_path, number)
                image = self.images[disk]
                found[disk] = stack.enter_context(image.opened(socket, len(self.agent.data) + 1, writable))
            yield found

    def _counted(self, length: int, wire: int) -> None:
        with self._count:
            self._done += length
            self._wire += wire

    def _spread(
        self,
        phase: str,
        jobs: List[Job],
        work: Callable[[int, Job], None],
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        """Do the jobs, each reader one at a time. The first failure ends all of them and is raised."""
        waiting: Any = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        failed: List[BaseException] = []

        def reader(number: int) -> None:
            try:
                while not failed:
                    work(number, waiting.get_nowait())
            except queue.Empty:
                pass
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=reader, args=(n,), daemon=True) for n in range(len(self.agent.data))]
        for thread in threads:
            thread.start()
        try:
            self._watch(phase, sum(total(ranges) for dummy, ranges in jobs), threads, failed, beside)
        except BaseException as error:
            failed.insert(0, error)
        if failed:
            # A reader may be in the middle of an answer; nothing more can be asked on that connection.
            for channel in self.agent.data:
                channel.shut()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def _watch(
        self,
        phase: str,
        whole: int,
        threads: Sequence[threading.Thread],
        failed: List[Any],
        beside: Callable[[], None],
    ) -> None:
        began, first = time.monotonic(), self._done
        while not failed:
            working = [thread for thread in threads if thread.is_alive()]
            if not working:
                return
            # Not of one that is done already, which would be no wait.
            working[0].join(PULSE_S)
            self.pulse()
            beside()
            now = time.monotonic()
            done = self._done - first
            rate = done / CHUNK / (now - began) if now > began else 0.0
            left = max(0.0, (whole - done) / CHUNK)
            self._tell(Progress(self._subject, phase, done / CHUNK, left, rate, now - began))


def _jobs(wanted: Wanted, readers: int) -> List[Job]:
    """In turns of the disks, so that all are read at once. Of little each reader has its share."""
    most = min(AT_ONCE, sum(total(ranges) for ranges in wanted.values()) // (2 * readers) + 1)
    portions = [[(disk, batch) for batch in batches(ranges, most)] for disk, ranges in sorted(wanted.items())]
    found: List[Job] = []
    for turn in range(max([len(portion) for portion in portions] or [0])):
        found += [portion[turn] for portion in portions if turn < len(portion)]
    return found
